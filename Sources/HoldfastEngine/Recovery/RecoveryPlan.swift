import HoldfastCore
import HoldfastWAL

/// Where replay begins, along which history, and how far it must get: from the control file, or from `backup_label`.
struct RecoveryPlan {
    let control: ControlData
    let history: TimelineHistory
    let start: LSN
    /// The CRC of the record before `start`; `nil`: taken on trust.
    let chain: UInt32?
    let evidence: EndEvidence
    /// The directory is not whole before this.
    let mustReach: LSN?

    /// - Throws: `restoreInProgress`, `needsArchive` for a directory that waits for recovery from an archive,
    ///   `recoveryFailed` when label and control file contradict each other.
    init<D: Disk>(disk: D, control: ControlData) throws {
        if control.state == .restoring { throw EngineError.restoreInProgress(control.command) }
        for name in [RecoverySignal.fileName, StandbySignal.fileName, PromoteSignal.path]
        where try onDisk({ () throws(DiskError) in try disk.exists(name) }) {
            throw EngineError.needsArchive("\(name) asks for it")
        }
        if control.state == .recovering { throw EngineError.needsArchive("an earlier one was not finished") }
        let label = try Self.label(disk)
        if let demand = control.demand, label == nil {
            throw EngineError.recoveryFailed(
                demand.start, "it was restored from a backup, and its \(BackupLabel.path) is missing")
        }
        if let label, label.system != control.system {
            throw EngineError.recoveryFailed(label.start, "its \(BackupLabel.path) is of another cluster")
        }
        self.control = control
        history = try Self.history(disk, control)
        start = label?.start ?? control.redo.lsn
        chain = label == nil ? control.redoChain : nil
        mustReach = [label?.stop, control.demand?.stop, control.minimumRecoveryPoint?.lsn].compactMap { $0 }.max()
        evidence = EndEvidence(
            knownDurableEnd: max(control.knownDurableEnd, start),
            ownFrom: control.ownFrom.map { .init(timeline: $0.timeline, lsn: $0.lsn) })
    }

    func requireReached(_ end: LSN, timeline: TimelineID) throws(EngineError) {
        guard let mustReach, end < mustReach else { return }
        throw .recoveryFailed(end, "the log ends here, and the pages are whole only from \(mustReach) on")
    }

    private static func label(_ disk: some Disk) throws -> BackupLabel? {
        guard try onDisk({ () throws(DiskError) in try disk.exists(BackupLabel.path) }) else { return nil }
        return try BackupLabel(decoding: onDisk { () throws(DiskError) in try disk.readAll(BackupLabel.path) })
    }

    /// The history file of the control file's timeline; a first timeline has none.
    static func history(_ disk: some Disk, _ control: ControlData) throws(EngineError) -> TimelineHistory {
        let path = TimelineHistory.walPath(control.timeline)
        guard try onDisk({ () throws(DiskError) in try disk.exists(path) }) else {
            guard control.timeline == .first else {
                throw .recoveryFailed(control.redo.lsn, "the history \(path) of its timeline is missing")
            }
            return TimelineHistory(first: control.token)
        }
        let bytes = try onDisk { () throws(DiskError) in try disk.readAll(path) }
        let history = try onLog { () throws(WALError) in try TimelineHistory(decoding: bytes) }
        guard history.timeline == control.timeline, history.current.token == control.token else {
            throw .recoveryFailed(
                control.redo.lsn, "\(path) is of another timeline \(control.timeline) than the control file's")
        }
        return history
    }
}
