import HoldfastArchive
import HoldfastCore
import HoldfastEngine
import HoldfastRepository
import HoldfastWAL

/// Restores a backup into a new data directory, from where `serve` replays the archive's WAL to the target.
///
/// The plan is checked whole before the directory is touched: backup, timeline, every segment. Then the control
/// file says "restore in progress", durably, before anything else is there, and "recovering" after everything is
/// durable: whatever kills the restore in between, `serve` refuses the directory and names the command, and that
/// command starts over. The final control file demands the backup's start and stop itself, so that removing
/// `backup_label` cannot make a half-copied state look whole.
package struct RestoreJob: Sendable {
    package let repository: Repository
    package let request: RestoreRequest

    package init(_ repository: Repository, _ request: RestoreRequest) {
        self.repository = repository
        self.request = request
    }

    /// What would be restored; nothing is changed.
    package func plan() throws -> RestorePlan { try RestorePlan(repository, request) }

    /// When it returns, the directory is complete and durable.
    package func run() throws -> RestoreResult {
        let plan = try plan()
        if !request.isCopy, request.action == .promote, !request.takesOver, request.follower == nil {
            if case .fresh(let holder) = try repository.standing(ofLease: LockName.leader) {
                throw RestoreError.leaderLives(cluster: repository.cluster, holder: holder.display)
            }
        }
        // Announced before the backup is looked at again, so that an expiry either sees the hold or is seen.
        let hold = try repository.takeHold(
            on: plan.backup.id, walFrom: plan.backup.startLSN, purpose: "restore to \(printable(request.data))")
        let keeper = LeaseKeeper(hold, everySeconds: Double(LockName.holdSeconds) / 10)
        do {
            let result = try restore(plan, hold: hold.name)
            // The hold stays: `serve` renews it until replay has ended.
            try keeper.stop(releasing: false)
            return result
        } catch {
            try? keeper.stop()
            throw error
        }
    }

    private func restore(_ plan: RestorePlan, hold: String) throws -> RestoreResult {
        let backup = plan.backup
        let objects = try BackupObjects(repository, backup)
        let directory = try TargetDirectory.claim(request.data, for: backup.systemIdentifier)

        var control = ControlData(
            state: .restoring, system: backup.systemIdentifier, timeline: backup.timeline, token: backup.timelineToken,
            redo: backup.startLSN, redoChain: nil)
        control.command = request.command
        control.isArchiving = !request.isCopy
        try directory.begin(control)

        let label = try objects.unpack(
            into: request.data, workers: request.workers, progress: request.progress,
            cancellation: request.cancellation)
        let parsed = try BackupLabel(decoding: label)
        guard parsed.start == backup.startLSN, parsed.stop == backup.stopLSN,
            parsed.system == backup.systemIdentifier, parsed.timeline == backup.timeline
        else {
            throw RestoreError.damagedBackup(
                backup.id, object: BackupLabel.path, why: "it does not agree with backup.json")
        }
        try directory.write(BackupLabel.path, label)
        if let follower = request.follower {
            let signal = StandbySignal(
                cluster: repository.cluster, backup: backup.id.description, hold: hold, follow: follower.leaders,
                node: follower.node, slot: follower.slot, isToBeVerified: follower.isToBeVerified)
            try directory.write(StandbySignal.fileName, signal.encoded)
        } else {
            try directory.write(RecoverySignal.fileName, recovery(plan, hold: hold).encoded)
        }

        control.state = .recovering
        control.command = ""
        control.demand = .init(timeline: backup.timeline, start: backup.startLSN, stop: backup.stopLSN)
        control.minimumRecoveryPoint = .init(timeline: backup.timeline, lsn: backup.stopLSN)
        try directory.write(BackupManifest.objectName, try objects.manifest(with: control))
        try directory.complete(control)
        return RestoreResult(
            backup: backup, target: request.target, timeline: plan.history.timeline, data: request.data,
            bytes: backup.bytes, pages: backup.pages, startLSN: backup.startLSN)
    }

    private func recovery(_ plan: RestorePlan, hold: String) -> RecoverySignal {
        let backup = plan.backup
        return RecoverySignal(
            cluster: repository.cluster, backup: backup.id.description, hold: hold, target: request.target,
            isInclusive: request.isInclusive, timeline: .number(plan.history.timeline), action: request.action,
            usesArchive: !request.isCopy, isForced: request.takesOver)
    }
}
