import HoldfastCore
import HoldfastWAL

/// Brings a directory with `standby.signal` to the place from which its pages are whole, and hands it over to a `Follower`,
/// which goes on from there with readers about.
///
/// Up to that place pages change in place and nobody reads. It is the backup's stop, or after a restart the minimum
/// recovery point: no page on the disk is newer.
struct FollowerRecovery<D: Disk> {
    let disk: D
    let options: EngineOptions
    let source: any FollowerSource

    /// With the directory's lock held.
    func run() throws -> RecoveredEngine {
        let file = try ControlFile(opening: disk)
        let control = file.current
        let signal = try StandbySignal(
            decoding: onDisk { () throws(DiskError) in try disk.readAll(StandbySignal.fileName) })
        // The archive may hold more of a timeline than its followers took: so the newest one counts before any log is read.
        let history = try Self.history(disk, control) {
            try source.histories(above: control.timeline) + [source.history(control.timeline)].compactMap { $0 }
        }
        try keep(history)
        let pages = try onDisk { () throws(DiskError) in try PageFiles(disk) }
        let cache = try PageCache(store: pages, options: options)
        let redo = Redo(cache)
        let segments = FollowerSegments(disk, source)
        source.willReplay(history.entries.map { ($0.timeline, $0.switchLSN) })
        let reader = LogReader(
            source: segments, system: control.system, history: history, from: control.redo.lsn,
            chain: control.redoChain)
        let replay = Replay(reader, redo, from: control, start: control.redo.lsn)
        let failure = FailureLatch()
        let follower = Follower(
            disk: disk, file: file, options: options, source: source, signal: signal, cache: cache, redo: redo,
            segments: segments, replay: replay, failure: failure)
        redo.raise = { [weak follower] () throws(EngineError) in try follower?.raiseMinimum(to: nil) ?? .zero }
        segments.willLeaveToArchive = { [weak follower] lsn throws(EngineError) in
            try follower?.raiseDurableEnd(to: lsn)
        }
        let begun = try follower.begunPromotion()
        if let (promotion, signal) = begun, control.redo.lsn == signal.switchLSN {
            try follower.leaveTimeline(
                Reached(end: signal.switchLSN, chain: signal.chain, timeline: control.redo.timeline))
            return try promotion.finish(signal, ReplayedState(control))
        }
        try replayToConsistency(replay, segments, control, notBeyond: begun?.1.switchLSN)
        if let (promotion, signal) = begun {
            try replayAll(replay, segments, to: signal.switchLSN)
            redo.durableMark = try follower.raiseMinimum(to: signal.switchLSN)
            redo.raise = nil
            let state = ReplayedState(replay)
            let timeline = replay.reader.history.timeline(at: signal.switchLSN)
            let reached = Reached(end: signal.switchLSN, chain: signal.chain, timeline: timeline)
            try promotion.resume(reached, state)
            try follower.leaveTimeline(reached)
            return try promotion.finish(signal, state)
        }
        redo.raise = nil
        let end = replay.reader.position
        redo.durableMark = try follower.raiseMinimum(to: end)
        follower.handOver(at: end)
        return RecoveredEngine(
            log: follower.log, cache: cache, storage: DiskStorage(disk, file), failure: failure, end: end,
            lastTransaction: replay.lastTransaction, lastCommitTime: replay.lastTime,
            greatestRedo: replay.greatestRedo, replayedBytes: redo.appliedBytes, follower: follower)
    }

    /// What is followed lies in `wal/` before any log of it does: a later start may find the archive away.
    private func keep(_ history: TimelineHistory) throws {
        let path = TimelineHistory.walPath(history.timeline)
        try onDisk { () throws(DiskError) in
            if history.entries.count > 1, try !disk.exists(path) {
                try disk.replaceAtomically(path, with: history.encoded())
            }
        }
    }

    /// - Parameter limit: where a promotion of this node's own was begun. The old timeline may go on behind it, and be
    ///   archived: none of that is this node's, though the place itself may be the end of no commit.
    private func replayToConsistency(
        _ replay: Replay<FollowerSegments<D>>, _ segments: FollowerSegments<D>, _ control: ControlData,
        notBeyond limit: LSN?
    ) throws {
        let consistent = LogLayout.canonical(
            planted(.followerConsistentTooEarly)
                ? .zero : max(control.demand?.stop ?? .zero, control.minimumRecoveryPoint?.lsn ?? .zero))
        while replay.reader.position < consistent {
            let stop: Replay<FollowerSegments<D>>.Stop
            do {
                stop = try replay.run { point in
                    let end = LogLayout.canonical(point.end)
                    if let limit, end > LogLayout.canonical(limit) { return .stopBefore }
                    return end >= consistent ? .stopAfter : .apply
                }
            } catch {
                throw segments.takeFailure() ?? error
            }
            if case .before = stop { return }
            guard stop == .logEnded, let end = replay.reader.end, end.position < consistent else { continue }
            // What was received lies in `wal/`, and what was not in the archive: one of the two goes on.
            guard try segments.takeFromArchive(at: end.position, replay.reader.history) else {
                throw EngineError.recoveryFailed(
                    end.position,
                    "segment \(end.segment): \(end.reason); and the pages are whole only from \(consistent) on")
            }
        }
    }

    /// A promotion that was begun here goes on where it began.
    private func replayAll(
        _ replay: Replay<FollowerSegments<D>>, _ segments: FollowerSegments<D>, to lsn: LSN
    ) throws {
        while replay.reader.position < lsn {
            do {
                _ = try replay.run { LogLayout.canonical($0.end) > lsn ? .stopBefore : .apply }
            } catch {
                throw segments.takeFailure() ?? error
            }
            guard let end = replay.reader.end, end.position < lsn else { return }
            guard try segments.takeFromArchive(at: end.position, replay.reader.history) else {
                throw EngineError.recoveryFailed(
                    end.position, "its promotion was begun at \(lsn), and the log up to there cannot be read")
            }
        }
    }

    /// The newest history that goes through what the node has: of those that it followed, which lie in `wal/`, and of those
    /// that `archived` knows. While the archive is away a node with one of its own goes on with that.
    static func history(
        _ disk: D, _ control: ControlData, archived: () throws -> [[UInt8]]
    ) throws -> TimelineHistory {
        var best: TimelineHistory?
        // A promotion of this node's own that was cut off has left its timeline's history: it is no way that was followed.
        let begun = try onDisk { () throws(DiskError) in
            try disk.exists(PromoteSignal.path) ? try disk.readAll(PromoteSignal.path) : nil
        }.map { try PromoteSignal(decoding: $0) }
        let asked = try ClaimSignal.read(disk)
        func consider(_ bytes: [UInt8]) throws {
            let history = try TimelineHistory(decoding: bytes)
            if let begun, history.current.token == begun.token { return }
            if let asked, history.current.token == asked.token { return }
            guard history.entry(control.timeline)?.token == control.token,
                history.contains(control.redo.timeline, control.redo.lsn),
                control.minimumRecoveryPoint.map({ history.contains($0.timeline, $0.lsn) }) ?? true,
                history.timeline > best?.timeline ?? .init(0)
            else { return }
            best = history
        }
        for name in try onDisk({ () throws(DiskError) in try disk.list("wal") }) where name.hasSuffix(".history") {
            try consider(onDisk { () throws(DiskError) in try disk.readAll("wal/" + name) })
        }
        do {
            for bytes in try archived() { try consider(bytes) }
        } catch {
            guard best != nil else { throw error }
        }
        return best ?? TimelineHistory(first: control.token, timeline: control.timeline)
    }
}
