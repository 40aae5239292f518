import HoldfastCore
import HoldfastWAL

extension Follower {
    func promote(_ options: PromotionOptions) throws -> (log: any EngineLog, end: LSN) {
        try locked { state in
            if let why = state.broken { throw EngineError.stopped(why) }
            state.isPromoting = true
        }
        do {
            return try finishAndOpen(options)
        } catch {
            guard !isBegun else {
                locked {
                    $0.problem = "its promotion is begun, and is to be finished: promote it again, or start it again"
                }
                throw error
            }
            locked { $0.isPromoting = false }
            if failure.reason == nil, let engine, !isStopping { start(engine) }
            throw error
        }
    }

    /// From `promote.signal` on a promotion only goes forward: a start opens the new timeline at the switch, whatever this
    /// node would have received and confirmed behind it meanwhile. So it receives nothing.
    private var isBegun: Bool {
        do throws(DiskError) { return try disk.exists(PromoteSignal.path) } catch { return true }
    }

    private func finishAndOpen(_ wish: PromotionOptions) throws -> (log: any EngineLog, end: LSN) {
        // Whoever receives has left, or is refused from here on; what has come whole counts.
        receiving.lock()
        let received = locked { state in
            state.isStreaming = false
            return state.received
        }
        defer { receiving.unlock() }
        let flushed = Result { try onLog { () throws(WALError) in _ = try received?.flush() } }
        received?.wake()
        monitor.lock()
        monitor.broadcast()
        while state.threads > 0 { monitor.wait() }
        monitor.unlock()
        // When it must follow again the threads begin anew: none of them may still run.
        try flushed.get()
        if !options.runsFollowerThreads, !planted(.promoteUnfinished) { try replayRest() }
        try locked { state in
            if let why = state.broken { throw EngineError.stopped(why) }
        }

        let end = replay.reader.position
        let control = file.current
        guard end >= LogLayout.canonical(control.knownDurableEnd) || planted(.promoteUnfinished) else {
            throw EngineError.recoveryFailed(
                end,
                "this node had the log up to \(control.knownDurableEnd) and cannot read it: a promotion would lose that"
            )
        }
        guard let chain = replay.reader.chain else {
            throw EngineError.recoveryFailed(end, "nothing was replayed yet")
        }
        let history = replay.reader.history
        for entry in history.entries.dropFirst() where LogLayout.canonical(entry.switchLSN) >= end {
            // Two were promoted at once, or nearly: what the other has acknowledged since is not here. Or it never led: then
            // its timeline stays in the history, with nothing on it, and whoever has it yields to the one above.
            guard wish.isForced else { throw PromotionError.claimed(entry.timeline, reason: entry.reason) }
            try source.requireUnused(entry.timeline)
        }
        received?.close()
        segments.received = nil
        locked { $0.received = nil }
        _ = try raiseMinimum(to: end)
        let reached = Reached(end: end, chain: chain, timeline: history.timeline(at: end))
        let state = ReplayedState(replay)
        let promotion = promotion(history, wish)
        let begun = try promotion.begin(reached, state)
        try leaveTimeline(reached)
        let recovered = try promotion.finish(begun, state)
        // Before the new timeline's log counts: whoever is sent the old one's must not be sent more of it.
        let own = try RecoveryPlan.history(disk, file.current)
        locked { $0.history = own }
        return (recovered.log, recovered.end)
    }

    /// Before the node is a leader, and so again when a crash comes between: the old timeline's whole segments are marked for
    /// the archive, since its leader may not have archived them (pushing one again does no harm), and what lies beyond the
    /// switch is removed.
    func leaveTimeline(_ reached: Reached) throws {
        let history = replay.reader.history
        func end(of timeline: TimelineID) -> LSN { min(history.end(of: timeline) ?? reached.end, reached.end) }
        try onLog { () throws(WALError) in
            let log = EndOfLog(disk: disk, system: file.current.system)
            for entry in history.entries { try log.removeBeyondSwitch(entry.timeline, at: end(of: entry.timeline)) }
        }
        guard file.current.isArchiving else { return }
        try onDisk { () throws(DiskError) in
            let marked = Set(try disk.list("wal/archive_status"))
            for name in try disk.list("wal").compactMap({ SegmentName($0) })
            where name.segment.end <= end(of: name.timeline) && !marked.contains("\(name).done") {
                try disk.open(name.readyPath, .createOrOpen).close()
            }
            try disk.syncDirectory("wal/archive_status")
        }
    }

    private func promotion(_ history: TimelineHistory, _ wish: PromotionOptions = .init()) -> Promotion<D> {
        Promotion(
            disk: disk, file: file, cache: cache, redo: redo, options: options, source: source,
            order: PromotionOrder(
                reason: "promoted by \(signal.node)", usesArchive: true, takesNextClaim: false, options: wish),
            history: history, failure: failure)
    }

    /// A promotion that an earlier process began here: after its claim it goes on, before it the node follows.
    func begunPromotion() throws -> (Promotion<D>, PromoteSignal)? {
        guard try onDisk({ () throws(DiskError) in try disk.exists(PromoteSignal.path) }) else { return nil }
        let begun = try PromoteSignal(
            decoding: onDisk { () throws(DiskError) in try disk.readAll(PromoteSignal.path) })
        let promotion = promotion(replay.reader.history)
        if file.current.redo.lsn == begun.switchLSN { return (promotion, begun) }
        do {
            let bytes = try source.history(begun.timeline)
            if bytes == nil, begun.mayClaimLater { return (promotion, begun) }
            if let bytes, try TimelineHistory(decoding: bytes).current.token == begun.token {
                return (promotion, begun)
            }
        } catch {
            guard begun.mayClaimLater, !source.isRefusal(error) else { throw error }
            return (promotion, begun)
        }
        try onDisk { () throws(DiskError) in
            try disk.remove(PromoteSignal.path)
            try disk.syncDirectory("")
        }
        return nil
    }
}
