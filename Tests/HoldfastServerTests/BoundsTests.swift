import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWire
import Testing

@testable import HoldfastServer

extension ServerTests {
    @Suite("Frames, pipelines and connections are bounded, and cut or foreign ones end cleanly")
    struct BoundsTests {
        @Test("S9: malformed frames are answered with the reason, and the connection is closed")
        func malformed() async throws {
            try await ServedEngine.with { served in
                let cases = [
                    ("*1\r\n$-5\r\n", "invalid bulk length"), ("*99999999999\r\n", "invalid multibulk length"),
                    ("*2\r\n$3\r\nGET\r\n:1\r\n", "expected '$', got ':'"),
                    ("*1\r\n$67108865\r\n", "invalid bulk length"),
                    ("set a \"b\r\n", "unbalanced quotes in request"),
                    (String(repeating: "x", count: 70_000), "too big inline request"),
                ]
                for (bytes, reason) in cases {
                    let client = try RawClient(served.addresses.unix!)
                    client.send("PING\r\n" + bytes)
                    #expect(client.rest() == "+PONG\r\n-ERR Protocol error: \(reason)\r\n")
                }
                // Behind writes that are on their way, the error comes after their replies.
                let client = try RawClient(served.addresses.unix!)
                client.send("SET a 1\r\nSET b 2\r\nGET a\r\n*1\r\nx")
                #expect(client.rest() == "+OK\r\n+OK\r\n$1\r\n1\r\n-ERR Protocol error: expected '$', got 'x'\r\n")
            }
        }

        @Test(
            "requests cut at each byte run once they are whole, and not before", arguments: ServedEngine.Writes.allCases
        )
        func cut(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes) { served in
                let text = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3\r\nx\r\n\r\n*1\r\n$6\r\nAPPEND\r\n"
                let bytes = Array(text.utf8)
                for cut in 0..<bytes.count {
                    let client = try RawClient(served.addresses.unix!)
                    client.send(Array(bytes[..<cut]))
                    client.send(Array(bytes[cut...]))
                    client.endInput()
                    #expect(
                        client.rest() == "+OK\r\n-ERR wrong number of arguments for 'append' command\r\n",
                        "cut at \(cut)")
                }
                let half = try RawClient(served.addresses.unix!)
                half.send("*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$100\r\nabc")
                half.endInput()
                #expect(half.rest() == "")
                #expect(try served.anonymous()("GET", "half") == .null)
            }
        }

        @Test("a client that ends its input gets all its replies", arguments: ServedEngine.Writes.allCases)
        func halfClosed(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes) { served in
                let client = try RawClient(served.addresses.unix!)
                client.send((0..<500).map { "SET k\($0) v\r\nKEYS k\($0)\r\n" }.joined())
                client.endInput()
                #expect(
                    client.rest() == (0..<500).map { "+OK\r\n*1\r\n$\("k\($0)".utf8.count)\r\nk\($0)\r\n" }.joined())
            }
        }

        /// Answered on the event loop, and by another thread.
        @Test(
            "a client that sends much and reads nothing is held back, not buffered without end",
            arguments: [("GET big", ""), ("RANGE b c", "*2\r\n$3\r\nbig\r\n")])
        func slowReader(_ request: String, _ prefix: String) async throws {
            try await ServedEngine.with { served in
                let value = String(repeating: "v", count: 100_000)
                try served.anonymous()("SET", "big", value)
                let client = try RawClient(served.addresses.unix!)
                let count = 2000
                try await onThread {
                    let writer = Thread { client.send(String(repeating: request + "\r\n", count: count)) }
                    writer.start()
                    // 200 MB of replies are wanted; meanwhile others are served, and the rest of its requests waits.
                    for _ in 0..<50 { #expect(try served.anonymous()("PING") == .simple("PONG")) }
                    let administrator = try served.administrator()
                    func processed() throws -> Int {
                        try #require(
                            administrator("INFO", "stats").text?.split(separator: "\r\n")
                                .first { $0.hasPrefix("total_commands_processed:") }.flatMap { Int($0.dropFirst(25)) })
                    }
                    // Until only this question itself is counted any more.
                    var last = try processed(), still = 0
                    while still < 20 {
                        usleep(20_000)
                        let now = try processed()
                        still = now - last <= 1 ? still + 1 : 0
                        last = now
                    }
                    #expect(last < count / 2, "\(last) commands were run for a client that reads nothing")
                    let reply = Array("\(prefix)$100000\r\n\(value)\r\n".utf8)
                    for _ in 0..<count where client.receive(reply.count) != reply {
                        throw WireError.unexpectedReply(command: "GET", "a wrong reply")
                    }
                }
            }
        }

        /// What makes a pipeline run elsewhere than on the event loop.
        enum Heavy: CaseIterable { case manyKeys, manyBytes }

        @Test(
            "S9: a pipeline that runs on another thread stops when its replies have grown, and goes on in order",
            arguments: Heavy.allCases)
        func pipelineOutput(_ heavy: Heavy) async throws {
            let first =
                switch heavy {
                case .manyKeys: "EXISTS" + String(repeating: " absent", count: 300)
                case .manyBytes:
                    "*3\r\n$3\r\nSET\r\n$5\r\nother\r\n$100000\r\n" + String(repeating: "x", count: 100_000)
                }
            try await ServedEngine.with { served in
                for number in 0..<10 {
                    try served.anonymous()("SET", "big\(number)", String(repeating: "\(number)", count: 1_000_000))
                }
                let pipeline = first + "\r\n" + (0..<100).map { "GET big\($0 % 10)\r\nAPPEND log \($0),\r\n" }.joined()
                let session = CommandSession(watches: WatchToken())
                let run = CommandRun(
                    requests: Array((0..<100).map { "GET big\($0 % 10)\r\n" }.joined().utf8), role: .anonymous,
                    session: session, version: .resp2, limits: WireLimits(), completed: { _ in })
                let services = CommandServices(cursors: ScanCursors(), watchTable: WatchTable(), replyBytes: 256 << 20)
                try served.engine.read { run.run(reading: $0, services, refusal: nil) }
                #expect(run.out.count < CommandRun.outputBytes + 1_001_000)
                #expect(run.rest.count == (100 - 17) * "GET big0\r\n".utf8.count)
                let replies = try await onThread {
                    let client = try RawClient(served.addresses.unix!)
                    let sender = Thread {
                        client.send(pipeline)
                        client.endInput()
                    }
                    sender.start()
                    return client.rest()
                }
                let got = replies.split(separator: "\r\n").filter { $0.utf8.count == 1_000_000 }.map { $0.first! }
                #expect(String(got) == String(repeating: "0123456789", count: 10))
                #expect(
                    try served.anonymous()("GET", "log").text == (0..<100).map { "\($0)," }.joined())
            }
        }

        @Test("S9: a transaction's replies are bounded; one that cannot be told is not done")
        func transactionOutput() async throws {
            try await ServedEngine.with(configure: { $0.replyBytes = 1 << 20 }) { served in
                let client = try served.anonymous()
                try client("SET", "big", String(repeating: "v", count: 400_000))
                try client("MULTI")
                try client("SET", "before", "1")
                for _ in 0..<3 { try client("GET", "big") }
                try client("SET", "after", "1")
                guard case .error(let why) = try client("EXEC") else {
                    Issue.record("the transaction was done")
                    return
                }
                #expect(why.contains("longer than"), "\(why)")
                #expect(try client("MGET", "before", "after").elements == [.null, .null])
                // As long as it may be, it is done.
                try client("MULTI")
                try client("GET", "big")
                try client("SET", "after", "1")
                #expect(try client("EXEC").elements?.count == 2)
                #expect(try client("GET", "after").text == "1")
            }
        }

        @Test("connections beyond the bound are told and closed; a place that is given up is free again")
        func connections() async throws {
            try await ServedEngine.with(configure: { $0.maximumConnections = 3 }) { served in
                var clients = try (0..<3).map { _ in try served.anonymous() }
                #expect(throws: (any Error).self) { _ = try served.anonymous()("PING") }
                // Whoever has to find out why is let in all the same, and not without bound either.
                var administrators = try (0..<16).map { _ in try served.administrator() }
                for client in administrators { #expect(try client("PING") == .simple("PONG")) }
                let refused = try RawClient(served.addresses.unix!)
                #expect(refused.rest() == "-ERR max number of clients reached\r\n")
                administrators.removeAll()
                for client in clients { #expect(try client("PING") == .simple("PONG")) }
                clients.removeLast().wire.close()
                try waitUntil("a place is free") {
                    (try? served.anonymous()("PING")) == .simple("PONG")
                }
            }
        }

        @Test("S9: what waits in all connections together is bounded")
        func inputBound() async throws {
            try await ServedEngine.with(configure: { $0.inputBytes = 4 << 20 }) { served in
                let client = try RawClient(served.addresses.unix!)
                client.send("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$60000000\r\n")
                client.send([UInt8](repeating: 1, count: 8 << 20))
                client.endInput()
                #expect(client.rest().hasPrefix("-ERR the requests that wait in this server exceed"))
                #expect(try served.anonymous()("PING") == .simple("PONG"))
            }
        }

        @Test("S9: a reply without end is refused at its bound")
        func replyBound() async throws {
            try await ServedEngine.with(configure: { $0.replyBytes = 100_000 }) { served in
                let client = try served.anonymous()
                for index in 0..<200 { try client("SET", "k\(index)", String(repeating: "v", count: 1000)) }
                #expect(try client("RANGE", "", "").errorText?.contains("longer than 100000 bytes") == true)
                #expect(
                    try client.pipeline(["MULTI", "RANGE k l", "PING", "EXEC"])[3].elements?.first?.errorText != nil)
                #expect(try client("RANGE", "k", "l", "LIMIT", "3").elements?.count == 6)
            }
        }

        @Test("HTTP that a browser was talked into sending does nothing")
        func http() async throws {
            try await ServedEngine.with { served in
                let client = try RawClient(served.addresses.unix!)
                client.send("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nSET evil 1\r\n")
                #expect(client.rest() == "")
                #expect(try served.anonymous()("GET", "evil") == .null)
            }
        }

        @Test(
            "clients that go on writing are closed behind a reply, and do not hold up the stop", .timeLimit(.minutes(1))
        )
        func stopUnderWrites() async throws {
            // Where in a turn the stop finds the clients is chance.
            for _ in 0..<20 { try await stopOnceUnderWrites() }
        }

        private func stopOnceUnderWrites() async throws {
            try await ServedEngine.with(configure: { $0.drainSeconds = 3600 }) { served in
                let address = served.addresses.tcp!
                let writers = (0..<8).map { _ in
                    Thread {
                        guard let client = try? Client(address) else { return }
                        while (try? client("SET", "k", "v")) == .ok {}
                    }
                }
                for writer in writers { writer.start() }
                try await Task.sleep(for: .milliseconds(30))
                await served.server.stop()
            }
        }

        @Test("stopping answers what is under way, then closes everyone", arguments: ServedEngine.Writes.allCases)
        func stop(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes) { served in
                let idle = try served.anonymous()
                let busy = try RawClient(served.addresses.unix!)
                busy.send((0..<200).map { "SET k\($0) v\r\n" }.joined())
                _ = busy.receive(5)
                await served.server.stop()
                #expect(busy.rest().split(separator: "\r\n").allSatisfy { $0 == "+OK" })
                #expect(throws: WireError.self) { try idle("PING") }
                #expect(throws: WireError.self) { try served.anonymous() }
            }
        }
    }
}
