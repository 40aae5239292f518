import HoldfastCore
import HoldfastWAL

/// What the receiving thread calls.
extension Follower {
    func beginStream() throws -> StreamRequest? {
        receiving.lock()
        defer { receiving.unlock() }
        let (found, history) = locked { state -> (ReceivedLog<D>?, TimelineHistory) in
            let mayStream =
                !state.isLooking && !state.isPromoting && !state.isStopping && !state.isBroken && state.ending == nil
            if mayStream, state.received != nil { state.isStreaming = true }
            return (mayStream ? state.received : nil, state.history)
        }
        // Where a later timeline is known already, the one before it is received up to the switch first.
        guard let received = found, let entry = history.entry(received.timeline) else { return nil }
        let (position, chain) = received.resume()
        return StreamRequest(
            systemIdentifier: file.current.system, timeline: entry.timeline, token: entry.token, position: position,
            chain: chain)
    }

    func receive(_ bytes: UnsafeRawBufferPointer, at lsn: LSN) throws {
        receiving.lock()
        defer { receiving.unlock() }
        let received = try open()
        do throws(WALError) {
            try received.receive(bytes, at: lsn)
        } catch {
            if case .invalid = error { locked { $0.faults += 1 } }
            throw EngineError(error)
        }
        log.advance(to: received.durableLSN)
    }

    func flush() throws {
        receiving.lock()
        defer { receiving.unlock() }
        let received = try open()
        log.advance(to: try onLog { () throws(WALError) in try received.flush() })
    }

    func flushSoon(through lsn: LSN) throws {
        receiving.lock()
        defer { receiving.unlock() }
        let received = try open()
        try onLog { () throws(WALError) in try received.askFlush(through: lsn) }
    }

    func observeProgress(_ told: (@Sendable () -> Void)?) { observer.withLock { $0 = told } }

    /// The flushing thread: makes durable what the receiving one asks for while that receives more.
    func flushLoop() {
        while failure.reason == nil {
            monitor.lock()
            while state.received == nil, !state.isStopping, !state.isPromoting { monitor.wait() }
            let received = state.isStopping || state.isPromoting ? nil : state.received
            monitor.unlock()
            guard let received else { return }
            guard received.flushWhenAsked(milliseconds: 200) else { continue }
            log.advance(to: received.durableLSN)
            tellProgress()
        }
    }

    func tellProgress() { observer.withLock { $0 }?() }

    /// Under `receiving`.
    private func open() throws(EngineError) -> ReceivedLog<D> {
        let received = locked { $0.isStreaming && !$0.isPromoting && !$0.isStopping ? $0.received : nil }
        guard let received else { throw .closed }
        return received
    }

    func leaderIs(at durable: LSN, clock: Int64, archived: LSN, address: String) {
        locked { state in
            state.leader = address
            state.leaderLSN = durable
            state.leaderClock = clock
            // Another timeline's leader knows nothing of what the one before it had archived behind the fork.
            let isSame = state.archivedTimeline == state.received?.timeline
            state.archived = isSame ? max(state.archived, archived) : archived
            state.archivedTimeline = state.received?.timeline
            state.problem = nil
        }
    }

    func timelineEnded(at lsn: LSN, history: [UInt8]) throws {
        try flush()
        let next = try onLog { () throws(WALError) in try TimelineHistory(decoding: history) }
        let own = locked { state in state.received.flatMap { state.history.entry($0.timeline) } }
        guard let own, next.entry(own.timeline)?.token == own.token, next.end(of: own.timeline) == lsn else {
            throw EngineError.recoveryFailed(
                lsn, "the leader says that the timeline ends there, and its history does not")
        }
        locked { $0.ending = (lsn, next) }
    }

    func endStream(_ problem: String?) {
        receiving.lock()
        defer { receiving.unlock() }
        // From here on nothing becomes durable that replay, which looks into the archive now, does not know of.
        if let received = locked({ $0.received }) {
            received.settle()
            log.advance(to: received.durableLSN)
        }
        locked { state in
            state.isStreaming = false
            state.phase = .waiting
            state.looksNow = true
            if let problem { state.problem = problem }
            state.received?.wake()
            monitor.broadcast()
        }
    }
}
