import HoldfastCore
import HoldfastWAL

/// Brings a restored directory to its target by replaying an archive's log, and then does what was asked: opens a new
/// timeline, waits there for reads only, or ends.
///
/// Until the promotion nothing in `wal/` is written, and a crash starts over from the backup's start. A page may be
/// written during replay when memory is short; the control file's minimum recovery point is moved past it first,
/// so that a later replay which ends before that place (a segment has gone, say) is refused.
struct ArchiveRecovery<D: Disk> {
    let disk: D
    let options: EngineOptions
    let source: any RecoverySource

    /// With the directory's lock held.
    func run() throws -> RecoveredEngine {
        let file = try ControlFile(opening: disk)
        let control = file.current
        let signal = try RecoverySignal(
            decoding: onDisk { () throws(DiskError) in try disk.readAll(RecoverySignal.fileName) })
        let history = try history(signal, control)
        let pages = try onDisk { () throws(DiskError) in try PageFiles(disk) }
        let cache = try PageCache(store: pages, options: options)
        let redo = Redo(cache)

        let failure = FailureLatch()
        let promotion = Promotion(
            disk: disk, file: file, cache: cache, redo: redo, options: options, source: source,
            order: .restore(signal), history: history, failure: failure)
        if let begun = try promotion.begun(control) {
            // Replay was complete and its pages durable: what the archive has got since does not matter.
            let state = ReplayedState(control)
            return try promotion.finish(begun, state)
        }

        let segments = ArchiveSegments(source)
        source.willReplay(history.entries.map { ($0.timeline, $0.switchLSN) })
        let reader = LogReader(
            source: segments, system: control.system, history: history, from: control.redo.lsn, chain: control.redoChain
        )
        let replay = Replay(reader, redo, from: control, start: control.redo.lsn)
        redo.raise = { [weak replay] () throws(EngineError) in
            guard let replay else { return .zero }
            return try raiseMinimum(file, history, replay.reader.position)
        }
        let reached: Reached
        let clock = ContinuousClock()
        let begun = clock.now
        do {
            reached = try self.replay(replay, control, signal, history)
        } catch {
            throw segments.failure ?? error
        }
        options.onReplayed?(control.redo.lsn, reached.end, (clock.now - begun) / .seconds(1))
        // Every page applied lies below the place reached, and a record that was only looked at does not count: from here
        // on pages may be written up to there and no further.
        redo.durableMark = try raiseMinimum(file, history, reached.end)
        redo.raise = nil
        let state = ReplayedState(replay)
        switch signal.action {
        case .promote:
            return try promotion.finish(try promotion.begin(reached, state), state)
        case .pause:
            let log = PausedLog(at: reached.end)
            source.replayEnded()
            return RecoveredEngine(
                log: log, cache: cache, storage: DiskStorage(disk, file), failure: failure, end: reached.end,
                lastTransaction: state.lastTransaction, lastCommitTime: state.lastTime,
                greatestRedo: state.greatestRedo, replayedBytes: redo.appliedBytes,
                paused: PausedRecovery(log: log, target: signal.target) {
                    let recovered = try promotion.finish(try promotion.begin(reached, state), state)
                    return (recovered.log, recovered.end)
                })
        case .shutdown:
            source.replayEnded()
            throw EngineError.stoppedAtTarget(signal.target.description, reached.end)
        }
    }

    private func replay(
        _ replay: Replay<ArchiveSegments>, _ control: ControlData, _ signal: RecoverySignal, _ history: TimelineHistory
    ) throws -> Reached {
        let consistent =
            planted(.consistentTooEarly)
            ? control.redo.lsn : max(control.demand?.stop ?? .zero, control.minimumRecoveryPoint?.lsn ?? .zero)
        let judge = TargetJudge(target: signal.target, isInclusive: signal.isInclusive)
        let stop = try replay.run { point in
            guard signal.target == .immediate else { return try judge.judge(point) }
            return LogLayout.canonical(point.end) >= LogLayout.canonical(consistent) ? .stopAfter : .apply
        }
        switch stop {
        case .after(let lsn), .before(let lsn):
            guard LogLayout.canonical(lsn) >= LogLayout.canonical(consistent), let chain = replay.stopChain else {
                throw RecoveryTargetError.beforeConsistency(signal.target, consistent: consistent)
            }
            return Reached(end: LogLayout.canonical(lsn), chain: chain, timeline: history.timeline(at: lsn))
        case .logEnded:
            guard let end = replay.reader.end else { preconditionFailure("replay ended without an end") }
            // An archive holds whole segments: a log that breaks off inside one is damaged, and one that goes on
            // behind a missing one has a gap.
            guard end.reason == .missingSegment else {
                throw EngineError.recoveryFailed(end.position, "segment \(end.segment): \(end.reason)")
            }
            if try source.holdsLater(than: end.segment) {
                throw EngineError.recoveryFailed(
                    end.position, "segment \(end.segment) is missing from the archive, and later ones are there")
            }
            guard end.position >= LogLayout.canonical(consistent), let chain = end.chain else {
                throw EngineError.recoveryFailed(
                    end.position, "the archive ends here, and the backup is whole only from \(consistent) on")
            }
            guard judge.isReached(atEnd: end.position) || signal.target == .immediate else {
                throw RecoveryTargetError.notReached(
                    signal.target, end: end.position, timeline: end.timeline,
                    lastTime: replay.lastTime == 0 ? nil : replay.lastTime, lastTransaction: replay.lastTransaction)
            }
            return Reached(end: end.position, chain: chain, timeline: end.timeline)
        }
    }

    /// Pages through `lsn` are about to be written: durable first, then the mark.
    private func raiseMinimum(
        _ file: ControlFile<D>, _ history: TimelineHistory, _ lsn: LSN
    ) throws(EngineError) -> LSN {
        var control = file.current
        if lsn > control.minimumRecoveryPoint?.lsn ?? .zero, !planted(.noMinimumRecoveryPoint) {
            control.minimumRecoveryPoint = .init(timeline: history.timeline(at: lsn), lsn: lsn)
            try onDisk { () throws(DiskError) in try file.write(control) }
        }
        return lsn
    }

    /// The history of the target timeline: the archive's, or that of a first timeline.
    private func history(_ signal: RecoverySignal, _ control: ControlData) throws -> TimelineHistory {
        let timeline: TimelineID =
            switch signal.timeline {
            case .number(let timeline): timeline
            case .current, .latest: control.timeline
            }
        let history: TimelineHistory
        if let bytes = try source.history(timeline) {
            history = try TimelineHistory(decoding: bytes)
        } else {
            guard timeline == control.timeline else {
                throw EngineError.recoveryFailed(
                    control.redo.lsn, "the archive has no history of timeline \(timeline)")
            }
            history = TimelineHistory(first: control.token, timeline: timeline)
        }
        guard history.entry(control.timeline)?.token == control.token else {
            throw EngineError.recoveryFailed(
                control.redo.lsn, "timeline \(timeline) does not descend from the backup's timeline \(control.timeline)"
            )
        }
        // The timeline alone says little: it may have been left before the place from which on the pages are whole.
        let places = [
            control.demand.map { ($0.timeline, $0.stop) }, control.minimumRecoveryPoint.map { ($0.timeline, $0.lsn) },
        ]
        for case let (own, lsn)? in places where !history.contains(own, lsn) {
            throw EngineError.recoveryFailed(
                lsn,
                "timeline \(timeline) does not descend from it: the pages are whole only from there on, on timeline \(own)"
            )
        }
        return history
    }
}

/// What replay came to.
struct Reached {
    /// The position where a new timeline would begin.
    var end: LSN
    /// The CRC of the record that ends there.
    var chain: UInt32
    var timeline: TimelineID
}

/// What replay knows besides the pages.
struct ReplayedState {
    var lastTransaction: TransactionID
    var lastTime: Int64
    var greatestRedo: LSN

    init(_ replay: Replay<some SegmentSource>) {
        lastTransaction = replay.lastTransaction
        lastTime = replay.lastTime
        greatestRedo = replay.greatestRedo
    }

    init(_ control: ControlData) {
        lastTransaction = control.lastTransaction
        lastTime = control.lastCommitTime
        greatestRedo = control.greatestRedo
    }
}
