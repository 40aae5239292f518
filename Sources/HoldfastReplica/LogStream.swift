import Glibc
import HoldfastCore
import HoldfastEngine
import HoldfastWAL
import HoldfastWire

/// Streams a leader's log to a follower: connects, asks from where the follower is, hands on what comes, says what is
/// durable; and begins again, with the next of the leaders, when that ends. One thread of its own, for as long as the node
/// follows.
package struct LogStream: Sendable {
    /// What became of a stream, for a log.
    package enum Event: Sendable {
        case began(leader: String, at: LSN, timeline: TimelineID)
        case ended(leader: String, why: String?)
    }

    private let follower: any LogFollower
    private let leaders: LeaderList
    private let node: String
    private let tell: @Sendable (Event) -> Void

    /// A stream that brings nothing for so long is taken for dead: keepalives come each second.
    private static let silenceSeconds = 10.0
    private static let connectSeconds = 2.0
    /// Log of which the leader has more, and does not send it, waits so long for its sync.
    private static let quietMilliseconds = 100
    private static let firstPause = 0.05, longestPause = 5.0

    /// - Parameter node: how this node names itself to a leader; `nil`: as its restore said.
    package init(
        _ follower: any LogFollower, leaders: LeaderList, node: String? = nil,
        tell: @escaping @Sendable (Event) -> Void
    ) {
        self.follower = follower
        self.leaders = leaders
        self.node = node ?? follower.signal.node
        self.tell = tell
    }

    /// Returns when the node stops, or was promoted: `isOver` says so.
    package func run(isOver: () -> Bool) {
        var next = 0
        var pause = Self.firstPause
        var lastProblem: String?
        while !follower.isStopping, !isOver() {
            let known = leaders.current
            if known.isEmpty {
                if leaders.isFixed { return }
                Self.sleep(0.02)
                continue
            }
            let request: StreamRequest?
            do { request = try follower.beginStream() } catch { request = nil }
            guard let request else {
                Self.sleep(0.02)
                continue
            }
            let server = known[next % known.count]
            let began = follower.positions.received
            var problem: String?
            do {
                try stream(request, from: server, isOver)
            } catch {
                problem = Self.text(error)
            }
            follower.endStream(problem)
            let moved = follower.positions.received > began
            if problem != lastProblem || moved { tell(.ended(leader: server.address.description, why: problem)) }
            lastProblem = problem
            if problem == nil || moved {
                pause = Self.firstPause
            } else {
                next += 1
                // Every leader is tried before the pause grows.
                if next.isMultiple(of: known.count) { pause = min(pause * 2, Self.longestPause) }
            }
            if rest(pause * Double.random(in: 0.7...1.3), while: known) { pause = Self.firstPause }
        }
    }

    private func stream(
        _ request: StreamRequest, from server: WireServer, _ isOver: () -> Bool
    ) throws {
        var options = WireClient.Options()
        options.connectSeconds = Self.connectSeconds
        // No message is longer than a piece of log, a head and a history: a leader that says so is none.
        options.limits.bulkBytes = 1 << 20
        options.limits.frameBytes = 2 << 20
        // Where somebody says who leads, a leader that died should not be waited for long.
        options.replySeconds = leaders.isFixed ? Self.silenceSeconds : Self.silenceSeconds / 3
        let address = server.address
        let client = try WireClient(to: server, options: options)
        defer { client.close() }
        guard let wake = WireWake() else { throw WireError.cannotConnect(address, errno) }
        try begin(request, client)
        tell(.began(leader: address.description, at: request.position, timeline: request.timeline))
        follower.observeProgress { wake.wake() }
        defer { follower.observeProgress(nil) }
        var flushes = FlushPace(flushed: follower.positions.flushed)
        var told: FollowerPositions?
        while !isOver() {
            let quiet = flushes.isPending(follower.positions) ? Self.quietMilliseconds : nil
            let arrival = try client.receive(orAt: wake, quietMilliseconds: quiet) { message in
                try take(message, request, server)
            }
            var mustAnswer = false
            switch arrival {
            case .other(.error(let text)): throw WireError.refused(command: "REPLICATE", error: text)
            case .other: throw WireError.unexpectedReply(command: "REPLICATE", "no message of a stream")
            case .message(nil): return
            case .message(let head?):
                mustAnswer = head.flags & ReplicationMessage.acknowledgeAtOnce != 0
                let step = flushes.step(
                    follower.positions, leader: head.durable, isMoreHere: client.bufferedBytes > 0)
                switch step {
                case .none: break
                case .atOnce: try follower.flush()
                case .soon(let lsn): try follower.flushSoon(through: lsn)
                }
            case .quiet: try follower.flushSoon(through: flushes.all(follower.positions))
            // What was asked for is done, or could not be: then this throws.
            case .woken: try follower.flushSoon(through: flushes.asked)
            }
            let now = follower.positions
            // What has only come is no news, unless somebody asks.
            let isNews = now.flushed != told?.flushed || now.applied != told?.applied
            guard mustAnswer || isNews else { continue }
            try acknowledge(now, client)
            told = now
        }
    }

    /// Hands a message on.
    /// - Returns: its head; `nil` when the stream is over.
    private func take(
        _ message: UnsafeRawBufferPointer, _ request: StreamRequest, _ server: WireServer
    ) throws -> ReplicationMessage? {
        guard leaders.contains(server) else { return nil }
        let head: ReplicationMessage
        do throws(ReplicationFault) {
            head = try ReplicationMessage(reading: message)
        } catch { throw WireError.unexpectedReply(command: "REPLICATE", error.reason) }
        let body = UnsafeRawBufferPointer(rebasing: message[ReplicationMessage.headerBytes...])
        follower.leaderIs(
            at: head.durable, clock: head.clock, archived: head.archived, address: server.address.description)
        switch head.kind {
        case .wal:
            guard head.timeline == request.timeline else {
                throw WireError.unexpectedReply(
                    command: "REPLICATE",
                    "log of timeline \(head.timeline) where \(request.timeline) was asked for")
            }
            try follower.receive(body, at: head.lsn)
        case .keepalive: break
        case .end:
            try follower.timelineEnded(at: head.lsn, history: Array(body))
            return nil
        }
        return head
    }

    private func begin(_ request: StreamRequest, _ client: WireClient) throws {
        let signal = follower.signal
        func ask(_ cascade: [String] = []) throws -> WireValue {
            var words = [
                "REPLICATE", signal.slot ?? "-", String(request.timeline.rawValue), request.position.description,
                "SYSTEM", request.systemIdentifier.description, "TOKEN", request.token.description, "NODE", node,
                "VERSION", "1",
            ]
            if !request.instance.isEmpty { words += ["INSTANCE", request.instance] }
            if let chain = request.chain { words += ["CHAIN", hexadecimal(UInt64(chain), digits: 8)] }
            return try client.call((words + cascade).map { Array($0.utf8) })
        }
        func askAny() throws -> WireValue {
            do {
                return try ask()
            } catch let error as WireError where error.code == "UNAVAILABLE" && client.server == leaders.upstream {
                return try ask(["CASCADE", "yes"])
            }
        }
        do {
            _ = try askAny()
        } catch let error as WireError where error.code == "DATAERR" && signal.slot != nil {
            // A leader that was promoted meanwhile does not know this follower's slot. Where there is one, that was not why.
            let made = Result { try client.call("SLOT", "CREATE", signal.slot!) }
            if case .failure(WireError.refused) = made { throw error }
            _ = try made.get()
            _ = try askAny()
        }
    }

    private func acknowledge(_ at: FollowerPositions, _ client: WireClient) throws {
        client.send(
            "ACK", at.received.description, at.flushed.description, at.applied.description,
            String(systemClockMicroseconds()))
        try client.flush()
    }

    private static func text(_ error: any Error) -> String {
        let text = (error as? any DiagnosableError)?.diagnosis.description ?? "\(error)"
        return text.replacing("\n", with: "; ")
    }

    /// Waits so long, or until other leaders are named.
    /// - Returns: whether they are.
    private func rest(_ seconds: Double, while known: [WireServer]) -> Bool {
        var left = seconds
        while left > 0 {
            Self.sleep(min(left, 0.05))
            left -= 0.05
            if !leaders.isFixed, leaders.current != known { return true }
        }
        return false
    }

    private static func sleep(_ seconds: Double) { usleep(UInt32(seconds * 1e6)) }
}
