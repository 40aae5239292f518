import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import HoldfastWire
import Synchronization
import Testing

@testable import HoldfastEngine
@testable import HoldfastReplica

/// A follower for one stream, which takes nothing and keeps why the stream ended.
private final class OneStream: LogFollower {
    private struct State {
        var isOver = false
        var problem: String?
    }
    private let state = Mutex(State())
    let signal: StandbySignal

    init(slot: String?) {
        signal = StandbySignal(cluster: "main", backup: "", hold: "", follow: [], node: "b", slot: slot)
    }

    var problem: String? { state.withLock { $0.problem } }
    var isStopping: Bool { state.withLock { $0.isOver } }
    let positions = FollowerPositions(
        received: LogLayout.firstPosition, flushed: LogLayout.firstPosition, applied: .zero)

    func beginStream() throws -> StreamRequest? {
        StreamRequest(
            systemIdentifier: SystemIdentifier(rawValue: 7), timeline: .first, token: .random(),
            position: LogLayout.firstPosition, chain: nil)
    }

    func endStream(_ problem: String?) {
        state.withLock { state in
            state.isOver = true
            state.problem = problem
        }
    }

    func receive(_ bytes: UnsafeRawBufferPointer, at lsn: LSN) throws { Issue.record("nothing whole is sent") }
    func flush() throws {}
    func flushSoon(through lsn: LSN) throws {}
    func observeProgress(_ told: (@Sendable () -> Void)?) {}
    func leaderIs(at durable: LSN, clock: Int64, archived: LSN, address: String) {}
    func timelineEnded(at lsn: LSN, history: [UInt8]) throws {}
    func waitApplied(beyond lsn: LSN, milliseconds: Int) {}
}

@Suite("A stream of the log ends with the reason")
struct LogStreamTests {
    /// Follows a leader that answers `HELLO`, and then each request with the next of `replies`; the last is followed by
    /// silence until the follower has gone.
    /// - Returns: why the stream ended, and what was asked for behind `HELLO`.
    private func follow(slot: String? = nil, _ replies: String...) throws -> (problem: String?, requests: [String]) {
        let requests = Mutex<[String]>([])
        let server = try ScriptedServer { client in
            ScriptedServer.reply(client, "+OK\r\n")
            for text in replies {
                let request = ScriptedServer.reply(client, text)
                requests.withLock { $0.append(request) }
            }
            while !ScriptedServer.reply(client, "").isEmpty {}
        }
        let follower = OneStream(slot: slot)
        let leaders = LeaderList([WireServer(.unix(path: server.path))], isFixed: false)
        LogStream(follower, leaders: leaders) { _ in }.run { false }
        return (follower.problem, requests.withLock { $0 })
    }

    @Test("S8: a leader that announces more than any message holds is left before it has sent it")
    func announcement() throws {
        let found = try follow("+OK\r\n$64000000\r\n")
        #expect(found.problem?.contains("64000000") == true, "\(found.problem ?? "nothing")")
    }

    @Test("why a leader refuses is told, whether or not it knows the follower's slot")
    func refused() throws {
        let known = try follow(slot: "s", "-DATAERR the histories part\r\n", "-DATAERR slot s exists\r\n")
        #expect(known.problem?.contains("the histories part") == true, "\(known.problem ?? "nothing")")
        #expect(known.requests.last?.contains("SLOT") == true)
        let unknown = try follow(
            slot: "s", "-DATAERR there is no slot s\r\n", "+OK\r\n", "-DATAERR the histories part\r\n")
        #expect(unknown.problem?.contains("the histories part") == true, "\(unknown.problem ?? "nothing")")
        #expect(unknown.requests.count == 3 && unknown.requests[2].contains("REPLICATE"))
    }
}
