import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL

/// What lies between a leader and its followers.
extension ClusterRun {
    /// A follower that has no stream asks for one: of the newest leader, or where nobody says who that is, of any.
    func connect(_ node: ClusterNode) throws {
        guard streams[node.index] == nil, let engine = node.follower, let follower = engine.logFollower else { return }
        let leaders = nodes.filter { $0.leader != nil && $0.token == current }
        guard let leader = leaders.first, let log = leader.leader, let request = try follower.beginStream() else {
            return
        }
        var stream: SimulatedStream?
        do {
            stream = try makeStream(leader, log, node, request)
        } catch {
            follower.endStream("\(error)")
            tell("\(node.name) gets no stream: \(error)")
            if let violation { throw violation }
            if error is Violation { throw error }
            if let refusal = error as? FeedRefusal { try judge(refusal, node, leader, request) }
        }
        if stream != nil { tell("\(node.name) streams from \(leader.name) at \(request.position)") }
        streams[node.index] = stream
    }

    private func makeStream(
        _ leader: ClusterNode, _ log: Engine, _ node: ClusterNode, _ request: StreamRequest
    ) throws -> SimulatedStream {
        var wanted = FeedRequest(timeline: request.timeline, lsn: request.position)
        (wanted.system, wanted.token, wanted.chain) = (request.systemIdentifier, request.token, request.chain)
        wanted.slot = node.name
        leader.activity = "slot"
        if log.slots[node.name] == nil { _ = try log.createSlot(node.name) }
        let start = try FeedStart(wanted, log)
        guard try model.contains(request.position, of: request.token, along: current) else {
            throw Violation(
                "\(leader.name) sends its log to \(node.name), whose own left it before \(request.position)")
        }
        try log.beginSlot(node.name, node: node.name, timeline: request.timeline, at: request.position)
        return SimulatedStream(
            leader: leader, follower: node, token: current, request: request, feed: start.feed)
    }

    /// A refusal must be true.
    private func judge(
        _ refusal: FeedRefusal, _ node: ClusterNode, _ leader: ClusterNode, _ request: StreamRequest
    ) throws {
        let isPart = try model.contains(request.position, of: request.token, along: current)
        switch refusal {
        case .diverged:
            guard !isPart else { throw Violation("\(node.name) is refused, and its log is the leader's: \(refusal)") }
            count { $0.diverged += 1 }
        case .ahead where isPart: throw Violation("\(node.name) has more than its leader had made durable: \(refusal)")
        case .foreign: throw Violation("\(node.name): \(refusal)")
        default: break
        }
    }

    func lose(_ index: Int, _ why: String?) {
        guard let stream = streams[index] else { return }
        streams[index] = nil
        count { $0.lostConnections += 1 }
        stream.follower.follower?.logFollower?.endStream(why)
    }

    // MARK: Forwards

    /// The leader reads some of its log, and puts it on the wire.
    func send(_ index: Int, atMost limit: Int? = nil) throws {
        guard let stream = streams[index], let engine = stream.leader.leader, stream.toFollower.count < 8 else {
            return
        }
        try attempt(stream.leader) {
            let durable = engine.durableLSN
            let end = min(durable, stream.feed.end ?? .max)
            if stream.position < end {
                let bytes = min(limit ?? random.number(1...60_000), end - stream.position)
                var buffer = [UInt8](repeating: 0, count: bytes)
                let read = try buffer.withUnsafeMutableBytes {
                    try stream.feed.read(from: stream.position, limit: durable, into: $0)
                }
                guard let read, read > 0 else { return lose(index, "its log is gone") }
                stream.toFollower.append(
                    .log(
                        stream.position, Array(buffer[..<read]), durable: durable,
                        archived: archive.isAway ? .zero : try archivedLSN(engine)))
                stream.position = stream.position + read
            } else if stream.feed.end == stream.position, !stream.isEnded {
                stream.isEnded = true
                stream.toFollower.append(
                    .end(stream.position, history: try engine.timelineHistory().encoded()))
            }
        }
    }

    func deliver(_ index: Int) throws {
        guard let stream = streams[index], !stream.isForwardCut, !stream.toFollower.isEmpty else { return }
        try take(stream.toFollower.removeFirst(), stream, index)
    }

    private func take(_ message: SimulatedStream.Message, _ stream: SimulatedStream, _ index: Int) throws {
        guard let follower = stream.follower.follower?.logFollower else { return }
        stream.follower.activity = "receive"
        var problem: String?
        do {
            switch message {
            case .log(let lsn, let bytes, let durable, let archived):
                follower.leaderIs(
                    at: durable, clock: settings.clock.tick(), archived: archived, address: stream.leader.name)
                try bytes.withUnsafeBytes { try follower.receive($0, at: lsn) }
                if random.chance(30) { try follower.flush() }
                return
            case .end(let lsn, let history): try follower.timelineEnded(at: lsn, history: history)
            }
        } catch {
            problem = "\(error)"
            if stream.follower.isUp, case EngineError.log = error {
                throw Violation("\(stream.follower.name) refuses what its leader sent: \(error)")
            }
        }
        streams[index] = nil
        follower.endStream(problem)
    }

    // MARK: Backwards

    /// The follower says how far it is; most of the time it syncs first.
    func acknowledge(_ index: Int) throws {
        guard let stream = streams[index], let engine = stream.follower.follower, let follower = engine.logFollower,
            stream.toLeader.count < 8
        else { return }
        stream.follower.activity = "flush received"
        if random.chance(80) { try attempt(stream.follower) { try follower.flush() } }
        guard stream.follower.isUp else { return }
        let positions = follower.positions
        stream.toLeader.append(positions)
        try note(stream.follower, engine, positions)
    }

    /// From now on the node must never come back with less.
    private func note(_ node: ClusterNode, _ engine: Engine, _ positions: FollowerPositions) throws {
        let token = engine.timelineToken
        guard try model.contains(positions.flushed, of: token, along: token) else { return }
        if let known = node.confirmed, known.token == token, known.lsn >= positions.flushed { return }
        node.confirmed = (token, positions.flushed)
    }

    func deliverAcknowledgement(_ index: Int) throws {
        guard let stream = streams[index], !stream.isBackwardCut, let engine = stream.leader.leader else { return }
        if let old = stream.old, random.chance(20) { return try take(old, stream, engine) }
        guard !stream.toLeader.isEmpty else { return }
        let positions = stream.toLeader.removeFirst()
        stream.old = positions
        try take(positions, stream, engine)
    }

    private func take(_ positions: FollowerPositions, _ stream: SimulatedStream, _ engine: Engine) throws {
        let limit = min(engine.durableLSN, stream.feed.end ?? .max)
        guard positions.received <= limit, positions.flushed <= limit else {
            throw Violation("\(stream.follower.name) says it has \(positions.flushed), and was sent \(limit) at most")
        }
        engine.slots.advance(stream.follower.name, timeline: stream.timeline, to: positions.flushed)
        if stream.token == current {
            // What its clients are told now; a commit that is on a follower's disk and on the leader's.
            promised = max(promised, try model.lastCommit(at: positions.flushed, on: current))
        }
        guard random.chance(15) else { return }
        stream.leader.activity = "slot"
        try attempt(stream.leader) { try engine.persistSlot(stream.follower.name) }
    }

    // MARK: Trouble

    func troubleNetwork(_ index: Int) {
        guard let stream = streams[index] else { return }
        switch random.number(0...5) {
        case 0: stream.isForwardCut.toggle()
        case 1: stream.isBackwardCut.toggle()
        default:
            // At any byte: what came before it counts.
            if case .log(let lsn, let bytes, _, _)? = stream.toFollower.first, !stream.isForwardCut {
                let count = random.number(0...bytes.count)
                if count > 0, let follower = stream.follower.follower?.logFollower {
                    stream.follower.activity = "receive"
                    do {
                        try bytes[..<count].withUnsafeBytes { try follower.receive($0, at: lsn) }
                    } catch {}
                }
            }
            lose(index, "the connection was lost")
        }
    }
}
