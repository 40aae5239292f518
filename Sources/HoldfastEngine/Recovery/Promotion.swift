import HoldfastCore
import HoldfastWAL

/// Ends recovery by opening a new timeline. A crash after any step only repeats it:
///
/// 1. The pages are written and synced, the minimum recovery point before them.
/// 2. `promote.signal` says where, and under which number and token; then the control file begins redo there.
///    From here on nothing is replayed any more: a start goes on with step 3.
/// 3. The number is claimed by creating its history in the repository, exclusively. A claim that is lost takes the
///    next number: the signal is replaced.
/// 4. The local history; the first segment of the new timeline, with the old bytes below the switch.
/// 5. The control file names the new timeline, and that this node wrote the log itself from the switch on.
/// 6. The log is opened; the switch and the end of recovery are logged.
/// 7. The signals and the label are removed, durably; then commits may be acknowledged.
///
/// A follower claims before the control file begins redo at the switch, and takes no other number than the first: a claim
/// that is lost leaves it a follower, and its redo point one of the leader's, behind which every page's first change is an
/// image. After a crash between its claim and that it replays to the switch again (`resume`).
struct Promotion<D: Disk> {
    let disk: D
    let file: ControlFile<D>
    let cache: PageCache
    let redo: Redo
    let options: EngineOptions
    let source: any RecoverySource
    let order: PromotionOrder
    let history: TimelineHistory
    let failure: FailureLatch

    /// A promotion that an earlier process began and that must go on.
    func begun(_ control: ControlData) throws -> PromoteSignal? {
        guard try onDisk({ () throws(DiskError) in try disk.exists(PromoteSignal.path) }) else { return nil }
        let begun = try PromoteSignal(
            decoding: onDisk { () throws(DiskError) in try disk.readAll(PromoteSignal.path) })
        if control.redo.lsn == begun.switchLSN { return begun }
        // It crashed before its pages counted: replay starts over.
        try onDisk { () throws(DiskError) in
            try disk.remove(PromoteSignal.path)
            try disk.syncDirectory("")
        }
        return nil
    }

    /// Steps 1 and 2.
    func begin(_ reached: Reached, _ state: ReplayedState) throws -> PromoteSignal {
        // After the control file has named the new timeline there is no way back to another number.
        if let named = try named() { return named }
        try settlePages()
        let next = PromoteSignal(
            timeline: try number(), token: .random(), switchLSN: reached.end, chain: reached.chain)
        try write(next)
        if !order.takesNextClaim, order.usesArchive {
            do {
                try source.claim(next.timeline, history: branch(next).encoded())
            } catch {
                // Another has it, or nobody knows: this node stays what it is. Should the claim be its own all the same, a
                // later attempt is refused by that name, and says so.
                try? onDisk { () throws(DiskError) in
                    try disk.remove(PromoteSignal.path)
                    try disk.syncDirectory("")
                }
                if !planted(.lostClaimIgnored) { throw error }
            }
        }
        try moveRedo(reached, state)
        return next
    }

    /// A follower that had claimed, and crashed before it moved its redo point, has replayed to the switch again.
    func resume(_ reached: Reached, _ state: ReplayedState) throws {
        try settlePages()
        try moveRedo(reached, state)
    }

    private func settlePages() throws {
        try cache.writeOut(cache.dirtyPages(through: .max))
        precondition(cache.dirtyPages(through: .max).isEmpty, "a promotion left pages behind")
        if !planted(.promotionWithoutSync) { try onDisk { () throws(DiskError) in try cache.store.sync() } }
    }

    private func moveRedo(_ reached: Reached, _ state: ReplayedState) throws {
        var control = file.current
        control.redo = .init(timeline: reached.timeline, lsn: reached.end)
        control.redoChain = reached.chain
        control.minimumRecoveryPoint = .init(timeline: reached.timeline, lsn: reached.end)
        control.lastTransaction = state.lastTransaction
        control.lastCommitTime = state.lastTime
        control.greatestRedo = max(state.greatestRedo, reached.end)
        try onDisk { () throws(DiskError) in try file.write(control) }
    }

    /// Steps 3 to 7.
    func finish(_ begun: PromoteSignal, _ state: ReplayedState) throws -> RecoveredEngine {
        var promote = begun
        var branched = try branch(promote)
        if order.usesArchive {
            while true {
                do {
                    try source.claim(promote.timeline, history: branched.encoded())
                    break
                } catch {
                    if planted(.lostClaimIgnored) { break }
                    // Lost only when the number is another's by now; any other failure is told.
                    guard order.takesNextClaim else { throw error }
                    let next = try number()
                    guard next > promote.timeline else { throw error }
                    promote.timeline = next
                    promote.token = .random()
                    branched = try branch(promote)
                    try write(promote)
                }
            }
        }
        let isNamed = file.current.state == .running
        if !isNamed { try makeFirstSegment(branched) }
        var control = file.current
        control.state = .running
        control.timeline = promote.timeline
        control.token = promote.token
        control.redo = .init(timeline: promote.timeline, lsn: promote.switchLSN)
        control.redoChain = promote.chain
        control.knownDurableEnd = promote.switchLSN
        control.ownFrom = .init(timeline: promote.timeline, lsn: promote.switchLSN)
        control.minimumRecoveryPoint = nil
        control.demand = nil
        control.isArchiving = order.usesArchive && options.archiving ?? true
        control.greatestRedo = max(state.greatestRedo, promote.switchLSN)
        // The log's first segment exists and has room before there is no way back.
        let log = try openLog(control, promote, state)
        do {
            if !isNamed { try onDisk { () throws(DiskError) in try file.writeBoth(control) } }
            try begin(log, promote)
        } catch {
            log.close()
            throw error
        }
        try Self.removeSignals(disk)
        source.replayEnded()
        return RecoveredEngine(
            log: log, cache: cache, storage: DiskStorage(disk, file), failure: failure, end: log.durableLSN,
            lastTransaction: state.lastTransaction, lastCommitTime: state.lastTime,
            greatestRedo: control.greatestRedo, replayedBytes: redo.appliedBytes)
    }

    /// What a start does that finds the control file on the new timeline already: step 7.
    static func removeSignals(_ disk: D) throws(EngineError) {
        try onDisk { () throws(DiskError) in
            // The promotion's own signal last: while it is there the others are known to be done with.
            for name in [BackupLabel.path, RecoverySignal.fileName, StandbySignal.fileName, PromoteSignal.path]
            where try disk.exists(name) {
                try disk.remove(name)
                if !planted(.unsyncedSignalRemoval) { try disk.syncDirectory("") }
            }
        }
    }

    private func number() throws -> TimelineID {
        guard !order.usesArchive else {
            return try source.timelineToClaim(
                own: history.entries.map(\.timeline), isForced: order.takesNextClaim)
        }
        let own = history.timeline
        guard own.rawValue < UInt32.max else {
            throw EngineError.recoveryFailed(history.current.switchLSN, "timeline \(own) is the last possible")
        }
        return TimelineID(own.rawValue + 1)
    }

    private func write(_ promote: PromoteSignal) throws(EngineError) {
        try onDisk { () throws(DiskError) in try disk.replaceAtomically(PromoteSignal.path, with: promote.encoded) }
    }

    /// The new timeline's history: what lies behind the switch on the old one is not in it.
    private func branch(_ promote: PromoteSignal) throws(EngineError) -> TimelineHistory {
        return try onLog { () throws(WALError) in
            try history.truncated(at: promote.switchLSN).branching(
                .init(
                    timeline: promote.timeline, switchLSN: promote.switchLSN, token: promote.token,
                    reason: order.reason))
        }
    }

    /// Step 4.
    private func makeFirstSegment(_ branched: TimelineHistory) throws {
        let path = TimelineHistory.walPath(branched.timeline)
        try onDisk { () throws(DiskError) in
            try disk.replaceAtomically(path, with: branched.encoded())
        }
        try BranchSegment(disk: disk, system: file.current.system, source: source)
            .make(branched, at: branched.current.switchLSN, replacing: true)
    }

    /// Step 6.
    private func openLog(
        _ control: ControlData, _ promote: PromoteSignal, _ state: ReplayedState
    ) throws(EngineError) -> LogWriter<D> {
        var logOptions = LogOptions()
        logOptions.isArchiving = control.isArchiving
        let (onFatal, failure) = (options.onFatal, failure)
        return try onLog { () throws(WALError) in
            let log = try LogWriter(
                disk: disk,
                identity: LogIdentity(system: control.system, timeline: control.timeline, token: control.token),
                start: LogStart(
                    position: LogLayout.canonical(promote.switchLSN), chain: promote.chain,
                    durableMark: promote.switchLSN, lastTime: state.lastTime),
                options: logOptions,
                onFatal: { error in if failure.set(error.description) { onFatal(error) } })
            try log.reserve(bytes: 2 * LogLayout.blockBytes)
            return log
        }
    }

    private func begin(_ log: LogWriter<D>, _ promote: PromoteSignal) throws(EngineError) {
        let time = options.now()
        try onLog { () throws(WALError) in
            _ = try log.append(
                .timelineSwitch(
                    switchLSN: promote.switchLSN, previous: history.timeline(at: promote.switchLSN),
                    timeline: promote.timeline, token: promote.token, time: time))
            _ = try log.append(.endOfRecovery(recoveredTo: promote.switchLSN, time: time))
            try log.flush(through: log.appendWitness())
        }
    }

    /// The signal of a promotion whose timeline the control file names already.
    private func named() throws -> PromoteSignal? {
        guard file.current.state == .running else { return nil }
        let named = try PromoteSignal(
            decoding: onDisk { () throws(DiskError) in try disk.readAll(PromoteSignal.path) })
        guard named.timeline == file.current.timeline else {
            throw EngineError.recoveryFailed(named.switchLSN, "\(PromoteSignal.path) is of another promotion")
        }
        return named
    }
}

/// Why a timeline is opened, and what a claim means to it.
struct PromotionOrder {
    /// For the history's line.
    var reason: String
    /// Whether a number is claimed in the repository.
    var usesArchive: Bool
    /// Another's claim is passed over, and one that is lost takes the next number: what a restore to a moment means.
    var takesNextClaim: Bool

    static func restore(_ signal: RecoverySignal) -> PromotionOrder {
        PromotionOrder(
            reason: "restored from \(signal.backup) to \(signal.target)", usesArchive: signal.usesArchive,
            takesNextClaim: true)
    }
}
