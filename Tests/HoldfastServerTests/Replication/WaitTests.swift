import Foundation
import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL
import HoldfastWire
import Testing

@testable import HoldfastServer

extension ServerTests {
    @Suite("Clients wait for followers and for the log, and nobody waits for them")
    struct WaitTests {
        private let first = LogLayout.firstPosition

        private func end(_ client: Client) throws -> LSN {
            try #require(LSN(try client("CLIENT", "LASTLSN").text ?? ""))
        }

        @Test("WAIT counts who has the connection's last write on disk", arguments: ServedEngine.Writes.allCases)
        func wait(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes, options: quietOptions()) { served in
                let client = try served.anonymous(), other = try served.anonymous()
                let followers = try (0..<2).map { _ in try TestFollower(served, from: first) }
                #expect(try client("WAIT", "2", "0") == .integer(2), "nothing was written yet")
                try client("SET", "a", "1")
                let lsn = try end(client)
                #expect(lsn > first && lsn <= served.engine.durableLSN)
                #expect(try client("WAIT", "1", "50") == .integer(0))
                // Another's write is not waited for.
                #expect(try other("WAIT", "2", "0") == .integer(2))
                for follower in followers { try follower.receive(through: lsn) }
                client.wire.send("WAIT", "1", "0")
                client.wire.send("PING")
                try client.wire.flush()
                #expect(try other("SET", "b", "1") == .ok, "the loop goes on")
                try followers[0].acknowledge(written: lsn, flushed: first, applied: first)
                #expect(throws: WireError.self) {
                    let watcher = try served.anonymous()
                    try watcher("SET", "c", "1")
                    watcher.wire.send("WAIT", "1", "0")
                    _ = try watcher.wire.receive(patience: .seconds(0.3))
                }
                try followers[0].acknowledge(lsn)
                #expect(try client.wire.receive() == .integer(1))
                #expect(try client.wire.receive() == .simple("PONG"), "replies keep their order")
                #expect(try client("WAIT", "2", "50") == .integer(1))
                try followers[1].acknowledge(lsn)
                #expect(try client("WAIT", "2", "0") == .integer(2))
                // A read does not count as a write.
                try client("GET", "a")
                #expect(try end(client) == lsn)
                followers[0].wire.close()
                try waitUntil("it is gone") { try client("WAIT", "2", "20") == .integer(1) }
                for (line, text) in [
                    ("WAIT x 1", "value is not an integer"), ("WAIT 1 x", "timeout is not an integer"),
                    ("WAIT 1 -1", "timeout is negative"), ("WAITLSN x 1", "is no LSN"), ("WAITLSN 0/0 -1", "timeout"),
                ] {
                    #expect(try client.pipeline([line])[0].errorText?.contains(text) == true, "\(line)")
                }
            }
        }

        @Test("a client that goes while it waits, and a server that stops, leave nothing behind")
        func abandoned() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                let client = try served.anonymous()
                try client("SET", "a", "1")
                client.wire.send("WAIT", "1", "0")
                try client.wire.flush()
                client.wire.close()
                let other = try served.anonymous()
                try other("SET", "a", "2")
                other.wire.send("WAIT", "1", "0")
                try other.wire.flush()
                try waitUntil("one waits, and the other is forgotten") {
                    try served.anonymous()("INFO", "clients").text?.contains("blocked_clients:1\r\n") == true
                }
                async let stopped: Void = served.server.stop()
                #expect(try await onThread { try other.wire.receive() } == .integer(0))
                await stopped
            }
        }

        @Test("WAITLSN answers when reads see the place, or the time is over")
        func waitLSN() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                let client = try served.anonymous(), other = try served.anonymous()
                #expect(try client("WAITLSN", first.description, "0") == .integer(1))
                let target = served.engine.publishedLSN + 8
                #expect(try client("WAITLSN", target.description, "30") == .integer(0))
                client.wire.send("WAITLSN", target.description, "0")
                try client.wire.flush()
                try other("SET", "a", "1")
                #expect(try client.wire.receive() == .integer(1))
                #expect(try other("WAITLSN", end(other).description, "0") == .integer(1))
            }
        }

        @Test("CLIENT TRACKLSN: where writes end is told behind their replies", arguments: ServedEngine.Writes.allCases)
        func track(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes, options: quietOptions()) { served in
                let client = try RawClient(served.addresses.unix!)
                func replies(_ text: String, until last: String) throws -> String {
                    client.send(text)
                    return try client.receive(until: last)
                }
                _ = try replies("HELLO 3\r\n", until: "$7\r\nmodules\r\n*0\r\n")
                #expect(try replies("CLIENT LASTLSN\r\n", until: "\r\n0/0\r\n") == "$3\r\n0/0\r\n")
                #expect(try replies("CLIENT TRACKLSN on\r\n", until: "+OK\r\n") == "+OK\r\n")
                _ = try replies("CLIENT SETNAME zz\r\n", until: "+OK\r\n")
                // The last one waits for what stands before it.
                let end = "CLIENT GETNAME\r\n"
                let text = try replies("SET a 1\r\nSET b 2\r\nGET a\r\n" + end, until: "$2\r\nzz\r\n")
                let lsn = served.engine.publishedLSN.description
                #expect(text.contains(">2\r\n$3\r\nlsn\r\n$\(lsn.utf8.count)\r\n\(lsn)\r\n"), "\(text)")
                #expect(
                    text.replacing(/>2\r\n\$3\r\nlsn\r\n\$[0-9]+\r\n[^\r]+\r\n/, with: "")
                        == "+OK\r\n+OK\r\n$1\r\n1\r\n$2\r\nzz\r\n")
                #expect(
                    try replies("GET a\r\n" + end, until: "$2\r\nzz\r\n") == "$1\r\n1\r\n$2\r\nzz\r\n",
                    "a read says nothing")
                let exec = try replies("MULTI\r\nSET a 3\r\nEXEC\r\n", until: "lsn\r\n$")
                #expect(exec.hasPrefix("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n>2\r\n"), "\(exec)")
            }
        }
    }
}
