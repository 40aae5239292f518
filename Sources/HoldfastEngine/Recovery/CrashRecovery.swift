import HoldfastCore
import HoldfastWAL

/// What recovery hands to the engine.
struct RecoveredEngine {
    var log: any EngineLog
    var cache: PageCache
    var storage: any EngineStorage
    var failure: FailureLatch
    /// The end of the log: everything below is applied and published.
    var end: LSN
    var lastTransaction: TransactionID
    var lastCommitTime: Int64
    var greatestRedo: LSN
    var replayedBytes: Int
    /// Set for a node that waits at its recovery target.
    var paused: PausedRecovery?
    /// Set for a node that follows.
    var follower: (any FollowerDriver)?
}

/// Brings a data directory of this node's own to the end of its log, after a crash or an orderly stop.
///
/// The steps, and why a crash after each of them only repeats it:
/// 1. Everything is synced and read anew (`TrustedDirectory`): nothing is written.
/// 2. Replay from the control file's redo point, in memory (when memory is short, pages are written as at any time).
/// 3. The log's end is judged: damage behind which durable log had been refuses the start; nothing is written.
/// 4. What lies behind the end is zeroed, later segments removed, both synced.
/// 5. Both control slots, one at a time, say that the log was durable to its end.
/// 6. The log is opened; a witness goes to its end.
struct CrashRecovery<D: Disk> {
    let disk: D
    let options: EngineOptions

    func run() throws -> RecoveredEngine {
        try onDisk { () throws(DiskError) in try disk.lock() }
        do {
            return try recover()
        } catch {
            disk.unlock()
            throw error
        }
    }

    private func recover() throws -> RecoveredEngine {
        // A directory without it is not ours to sync.
        guard try onDisk({ () throws(DiskError) in try disk.exists(ControlData.path) }) else {
            throw EngineError.notADataDirectory(disk.root)
        }
        try onDisk { () throws(DiskError) in try TrustedDirectory(disk).establish() }
        let file = try ControlFile(opening: disk)
        if let recovered = try fromArchive(file.current) { return recovered }
        let plan = try RecoveryPlan(disk: disk, control: file.current)
        var control = plan.control
        if control.isArchiving, options.archiving == nil { throw EngineError.archivingRecorded }
        control.isArchiving = options.archiving ?? false

        let pages = try onDisk { () throws(DiskError) in try PageFiles(disk) }
        let cache = try PageCache(store: pages, options: options)
        let redo = Redo(cache)
        let reader = LogReader(
            source: DiskSegmentSource(disk: disk), system: control.system, history: plan.history, from: plan.start,
            chain: plan.chain)
        let replay = Replay(reader, redo, from: control, start: plan.start)
        _ = try replay.run()
        guard let end = reader.end else { preconditionFailure("replay ended without an end") }
        let ending = EndOfLog(disk: disk, system: control.system)
        _ = try onLog { () throws(WALError) in try ending.judge(end, plan.evidence) }
        try plan.requireReached(end.position, timeline: end.timeline)
        try onLog { () throws(WALError) in try ending.clearBehind(end) }

        control.state = .running
        control.knownDurableEnd = end.position
        control.minimumRecoveryPoint = nil
        control.demand = nil
        try onDisk { () throws(DiskError) in try file.writeBoth(control) }

        let failure = FailureLatch()
        let log = try openLog(control, end, reader.greatestMark, replay.lastTime, failure)
        return RecoveredEngine(
            log: log, cache: cache, storage: DiskStorage(disk, file), failure: failure, end: end.position,
            lastTransaction: replay.lastTransaction, lastCommitTime: replay.lastTime,
            greatestRedo: replay.greatestRedo, replayedBytes: redo.appliedBytes)
    }

    /// What `recovery.signal` and `promote.signal` ask for; `nil` for a directory that stands by itself.
    private func fromArchive(_ control: ControlData) throws -> RecoveredEngine? {
        switch control.state {
        case .restoring: throw EngineError.restoreInProgress(control.command)
        case .running, .stopped:
            // A promotion that crashed after the control file named its timeline is complete but for the signals.
            if try onDisk({ () throws(DiskError) in try disk.exists(PromoteSignal.path) }) {
                let bytes = try onDisk { () throws(DiskError) in try disk.readAll(PromoteSignal.path) }
                let promote = try PromoteSignal(decoding: bytes)
                if promote.timeline == control.timeline {
                    if planted(.unsyncedSignalRemoval) {
                        let end = LogEnd(
                            position: LogLayout.canonical(promote.switchLSN), timeline: promote.timeline, chain: nil,
                            reason: .zeros)
                        try? EndOfLog(disk: disk, system: control.system).clearBehind(end)
                    }
                    try Promotion.removeSignals(disk)
                }
            }
            return nil
        case .recovering:
            guard let source = options.recovery else {
                throw EngineError.needsArchive("it was restored from a backup and waits for its log")
            }
            if try onDisk({ () throws(DiskError) in try disk.exists(StandbySignal.fileName) }) {
                guard let source = source as? any FollowerSource else {
                    throw EngineError.needsArchive("it follows a leader")
                }
                // From its first restartpoint on it stands by itself.
                if control.demand != nil { try requireLabel() }
                return try FollowerRecovery(disk: disk, options: options, source: source).run()
            }
            guard try onDisk({ () throws(DiskError) in try disk.exists(RecoverySignal.fileName) }) else {
                throw EngineError.needsArchive("its \(RecoverySignal.fileName) is missing; restore it again")
            }
            try requireLabel()
            return try ArchiveRecovery(disk: disk, options: options, source: source).run()
        }
    }

    /// The label's content is in the control file too. That it is gone says that somebody took the copy for whole.
    private func requireLabel() throws {
        guard try onDisk({ () throws(DiskError) in try disk.exists(BackupLabel.path) }) else {
            throw EngineError.needsArchive("its \(BackupLabel.path) is missing; restore it again")
        }
    }

    private func openLog(
        _ control: ControlData, _ end: LogEnd, _ mark: LSN, _ lastTime: Int64, _ failure: FailureLatch
    ) throws(EngineError) -> LogWriter<D> {
        var logOptions = LogOptions()
        logOptions.isArchiving = control.isArchiving
        let onFatal = options.onFatal
        return try onLog { () throws(WALError) in
            let log = try LogWriter(
                disk: disk,
                identity: LogIdentity(system: control.system, timeline: control.timeline, token: control.token),
                start: LogStart(
                    position: end.position, chain: end.chain ?? 0, durableMark: mark, lastTime: lastTime),
                options: logOptions,
                onFatal: { error in if failure.set(error.description) { onFatal(error) } })
            // Every byte below the witness's mark was read from the disk: from now on any damage there shows.
            try log.flush(through: log.appendWitness())
            return log
        }
    }
}
