import Foundation
import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL
import HoldfastWire
import Testing

@testable import HoldfastServer

extension ServerTests {
    @Suite("With synchronous followers OK means that they have it too")
    struct SynchronousTests {
        private let first = LogLayout.firstPosition

        private func set(_ served: ServedEngine, _ settings: String...) throws {
            let words = ["CONFIG", "SET"] + settings
            #expect(try served.administrator().call(words.map { Array($0.utf8) }) == .ok)
        }

        /// Sends requests and sees that nothing is answered for now.
        private func sendHeld(_ client: Client, _ lines: String...) throws {
            for line in lines { client.wire.send(line.split(separator: " ").map { Array($0.utf8) }) }
            try client.wire.flush()
        }

        @Test("replies are held until enough have confirmed", arguments: ServedEngine.Writes.allCases)
        func held(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes, options: quietOptions()) { served in
                try set(served, "synchronous.min_followers", "2", "synchronous.timeout", "60s")
                let followers = try (0..<3).map { _ in try TestFollower(served, from: first) }
                let client = try served.anonymous(), reader = try served.anonymous()
                try sendHeld(client, "SET a 1", "GET a", "MULTI", "APPEND a 2", "EXEC", "PING")
                // It is durable here, and seen: only the acknowledgement waits.
                try waitUntil("the first write is published") { try reader("GET", "a") == .text("1") }
                let begun = served.engine.durableLSN
                try followers[0].acknowledge(begun)
                try followers[1].acknowledge(written: begun, flushed: first, applied: begun)
                usleep(200_000)
                #expect(try reader("GET", "a") == .text("1"), "what stands behind the held reply has not begun")
                try followers[2].acknowledge(written: begun, flushed: begun, applied: first)
                try waitUntil("the second is published") { try reader("GET", "a") == .text("12") }
                let end = served.engine.durableLSN
                for follower in followers { try follower.acknowledge(end) }
                let replies = try (0..<6).map { _ in try client.wire.receive() }
                #expect(
                    replies == [
                        .ok, .text("1"), .ok, .simple("QUEUED"), .array([.integer(2)]), .simple("PONG"),
                    ])
            }
        }

        @Test("no acknowledgement comes before the followers'", arguments: ServedEngine.Writes.allCases)
        func notBefore(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes, options: quietOptions()) { served in
                try set(served, "synchronous.min_followers", "1", "synchronous.timeout", "60s")
                let follower = try TestFollower(served, from: first)
                for round in 0..<20 {
                    let client = try served.anonymous()
                    let before = served.engine.durableLSN
                    try sendHeld(client, round % 2 == 0 ? "SET a \(round)" : "INCR n")
                    try waitUntil("it is durable") { served.engine.durableLSN > before }
                    #expect(throws: WireError.self) { try client.wire.receive(patience: .seconds(0.02)) }
                    try follower.acknowledge(served.engine.durableLSN)
                    #expect(try served.anonymous()("WAITLSN", served.engine.durableLSN.description, "0") == .integer(1))
                }
            }
        }

        @Test("level applied waits for readers of the follower")
        func applied() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                try set(
                    served, "synchronous.min_followers", "1", "synchronous.level", "applied", "synchronous.timeout",
                    "60s")
                let follower = try TestFollower(served, from: first)
                let client = try served.anonymous()
                let before = served.engine.durableLSN
                try sendHeld(client, "SET a 1")
                try waitUntil("it is durable") { served.engine.durableLSN > before }
                let end = served.engine.durableLSN
                try follower.acknowledge(written: end, flushed: end, applied: before)
                usleep(100_000)
                #expect(try served.anonymous()("PING") == .simple("PONG"))
                try sendHeld(client, "PING")
                try follower.acknowledge(end)
                #expect(try client.wire.receive() == .ok)
                #expect(try client.wire.receive() == .simple("PONG"))
            }
        }

        @Test(
            "CLIENT SYNCHRONOUS: a connection's writes wait for the followers that it chose, others' for the node's",
            arguments: ServedEngine.Writes.allCases)
        func chosen(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes, options: quietOptions()) { served in
                try set(served, "synchronous.min_followers", "1", "synchronous.timeout", "60s")
                let followers = try (0..<2).map { _ in try TestFollower(served, from: first) }
                let plain = try served.anonymous(), lax = try served.anonymous(), strict = try served.anonymous()
                #expect(try lax("CLIENT", "SYNCHRONOUS", "0") == .ok)
                #expect(try strict("CLIENT", "SYNCHRONOUS", "2", "applied") == .ok)
                let before = served.engine.durableLSN
                try sendHeld(plain, "SET a 1")
                try sendHeld(strict, "SET b 2", "CLIENT SYNCHRONOUS 0", "SET b 3")
                #expect(try lax("SET", "c", "3") == .ok)
                try waitUntil("all are durable") { try lax("DBSIZE") == .integer(3) }
                let end = served.engine.durableLSN
                try followers[0].acknowledge(written: end, flushed: end, applied: before)
                #expect(try plain.wire.receive() == .ok)
                usleep(100_000)
                #expect(try lax("GET", "b") == .text("2"), "what stands behind the held reply has not begun")
                try followers[0].acknowledge(end)
                try followers[1].acknowledge(end)
                #expect(try (0..<3).map { _ in try strict.wire.receive() } == [.ok, .ok, .ok])

                // The node's time, and the node's followers again.
                #expect(try strict("CLIENT", "SYNCHRONOUS", "2") == .ok)
                try set(served, "synchronous.timeout", "150ms")
                let text = try strict("SET", "b", "4").errorText ?? ""
                #expect(text.hasPrefix("UNKNOWN "), "\(text)")
                #expect(text.contains("of the 2 followers that must have flushed"), "\(text)")
                try set(served, "synchronous.min_followers", "0")
                #expect(try strict("SET", "b", "5").errorText?.hasPrefix("UNKNOWN ") == true, "its own is kept")
                #expect(try strict("CLIENT", "SYNCHRONOUS", "default") == .ok && strict("SET", "b", "6") == .ok)
                for words in [["101"], ["-1"], ["x"], ["1", "written"], ["default", "flushed"], []] {
                    let reply = try strict.call((["CLIENT", "SYNCHRONOUS"] + words).map { Array($0.utf8) })
                    #expect(reply.errorText?.hasPrefix("ERR ") == true, "\(words): \(reply)")
                }
            }
        }

        @Test(
            "refuse: the error says that the outcome is unknown, once for each command",
            arguments: ServedEngine.Writes.allCases)
        func refuse(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes, options: quietOptions()) { served in
                try set(served, "synchronous.min_followers", "1", "synchronous.timeout", "150ms")
                let client = try served.anonymous()
                let replies = try client.pipeline(["PING", "SET a 1", "SET b 2", "DBSIZE"])
                #expect(replies[0] == .simple("PONG"))
                for reply in replies[1...2] {
                    let text = reply.errorText ?? ""
                    #expect(text.hasPrefix("UNKNOWN the write is on this leader's disk, but"), "\(reply)")
                    #expect(text.contains("0 of the 1 followers that must have flushed it"))
                }
                #expect(try client("DBSIZE") == .integer(2), "it is here")
                let exec = try client.pipeline(["MULTI", "SET c 3", "SET d 4", "EXEC", "GET c"])
                #expect(exec[3].errorText?.hasPrefix("UNKNOWN ") == true && exec[4] == .text("3"), "\(exec)")
                // A request that is whole only later is not lost with those that waited.
                let raw = try RawClient(served.addresses.unix!)
                raw.send("SET e 5\r\nSET f 6\r\n*2\r\n$3\r\nGET\r\n$1\r\n")
                _ = try raw.receive(until: "in STATUS\r\n")
                raw.send("e\r\n")
                #expect(try raw.receive(until: "$1\r\n5\r\n").hasSuffix("in STATUS\r\n$1\r\n5\r\n"))
                try set(served, "synchronous.min_followers", "0")
                #expect(try client("SET", "a", "9") == .ok)
            }
        }

        @Test(
            "degrade: writes go on without followers, and wait again when these are back",
            arguments: ServedEngine.Writes.allCases)
        func degrade(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes, options: quietOptions()) { served in
                try set(
                    served, "synchronous.min_followers", "1", "synchronous.timeout", "300ms", "synchronous.on_timeout",
                    "degrade")
                let client = try served.anonymous(), administrator = try served.administrator()
                #expect(try client("SET", "a", "1") == .ok)
                #expect(try administrator("INFO", "replication").text?.contains("synchronous_degraded:1") == true)
                #expect(
                    try administrator("STATUS")["warnings"]?.elements?.contains {
                        $0.text?.hasPrefix("writes are acknowledged without followers") == true
                    } == true)
                try set(served, "synchronous.timeout", "60s")
                try set(served, "synchronous.timeout", "300ms")
                #expect(try client("SET", "a", "2") == .ok)
                // No write waits any more.
                let begun = ContinuousClock.now
                for index in 0..<20 { #expect(try client("SET", "a", "\(index)") == .ok) }
                #expect(ContinuousClock.now - begun < .seconds(4))
                let follower = try TestFollower(served, from: first)
                try follower.acknowledge(served.engine.durableLSN)
                try waitUntil("followers are back") {
                    try administrator("INFO", "replication").text?.contains("synchronous_degraded:0") == true
                }
                try set(served, "synchronous.timeout", "60s")
                let before = served.engine.durableLSN
                try sendHeld(client, "SET b 1")
                try waitUntil("it is durable") { served.engine.durableLSN > before }
                #expect(throws: WireError.self) { try client.wire.receive(patience: .seconds(0.2)) }
                try follower.acknowledge(served.engine.durableLSN)
            }
        }

        @Test("a client that goes while its write is held is no trouble; fewer followers asked for lets writes go")
        func changes() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                try set(served, "synchronous.min_followers", "1", "synchronous.timeout", "60s")
                let gone = try served.anonymous(), client = try served.anonymous()
                try sendHeld(gone, "SET a 1")
                try sendHeld(client, "SET b 1")
                try waitUntil("both are here") { try served.anonymous()("DBSIZE") == .integer(2) }
                gone.wire.close()
                usleep(50_000)
                try set(served, "synchronous.min_followers", "0")
                #expect(try client.wire.receive() == .ok)
            }
        }

        @Test(
            "E2: a follower that comes again before its first connection is found dead is one follower",
            arguments: ServedEngine.Writes.allCases)
        func cameAgain(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes, options: quietOptions()) { served in
                try set(served, "synchronous.min_followers", "2", "synchronous.timeout", "60s")
                let client = try served.anonymous(), counting = try served.anonymous()
                let before = try TestFollower(served, from: first, options: ["INSTANCE", "b"])
                try sendHeld(client, "SET a 1")
                try waitUntil("it is here") { try served.anonymous()("DBSIZE") == .integer(1) }
                let end = served.engine.durableLSN
                try before.acknowledge(end)
                try waitUntil("it is confirmed") {
                    try served.followers().contains { $0["flushed_lsn"] == .text(end.description) }
                }
                // Nothing has ended the first connection: its machine lost power, or its network.
                let again = try TestFollower(served, from: end, options: ["INSTANCE", "b"])
                try again.acknowledge(end)
                try waitUntil("it is confirmed again") {
                    try served.followers().count { $0["flushed_lsn"] == .text(end.description) } == 2
                }
                #expect(throws: WireError.self) { try client.wire.receive(patience: .seconds(0.2)) }
                #expect(try counting("WAIT", "2", "20") == .integer(1))
                // Two that bear one name, or none, are two.
                let other = try TestFollower(served, from: end, options: ["INSTANCE", "c"])
                try other.acknowledge(end)
                #expect(try counting("WAIT", "2", "20000") == .integer(2))
                withExtendedLifetime(before) {}
            }
        }

        @Test(
            "E2: where a leader is elected only the word of those counts among which it is",
            arguments: ServedEngine.Writes.allCases)
        func electable(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes, options: quietOptions()) { served in
                served.setElectable(["b"])
                try set(served, "synchronous.min_followers", "1", "synchronous.timeout", "60s")
                let b = try TestFollower(served, from: first, options: ["NODE", "b"])
                let other = try TestFollower(served, from: first, options: ["NODE", "reports"])
                let client = try served.anonymous()
                try sendHeld(client, "SET a 1")
                try waitUntil("it is here") { try served.anonymous()("DBSIZE") == .integer(1) }
                let end = served.engine.durableLSN
                try other.acknowledge(end)
                try waitUntil("it is confirmed") { try served.anonymous()("WAIT", "2", "20") == .integer(2) }
                try waitUntil("it is confirmed") {
                    try served.followers().contains { $0["flushed_lsn"] == .text(end.description) }
                }
                #expect(throws: WireError.self) { try client.wire.receive(patience: .seconds(0.2)) }
                let again = try served.anonymous()
                try sendHeld(again, "SET a 2")
                try waitUntil("it is here") { served.engine.durableLSN > end }
                try b.acknowledge(served.engine.durableLSN)
                #expect(try again.wire.receive() == .ok)
            }
        }

        @Test("a shorter time-out holds for what waits already, and for what comes behind it")
        func shorterTimeout() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                try set(served, "synchronous.min_followers", "1", "synchronous.timeout", "1h")
                let early = try served.anonymous(), late = try served.anonymous()
                try sendHeld(early, "SET a 1")
                try waitUntil("it is here") { try served.anonymous()("DBSIZE") == .integer(1) }
                try set(served, "synchronous.timeout", "150ms")
                #expect(try late("SET", "b", "2").errorText?.hasPrefix("UNKNOWN ") == true)
                #expect(try early.wire.receive().errorText?.hasPrefix("UNKNOWN ") == true)
            }
        }

        @Test("settings are checked and shown")
        func settings() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                try set(
                    served, "synchronous.min_followers", "0", "synchronous.level", "applied", "synchronous.timeout",
                    "1500ms", "synchronous.on_timeout", "degrade")
                let client = try served.administrator()
                let shown = try client("CONFIG", "GET", "synchronous.*")
                #expect(
                    shown["synchronous.min_followers"] == .text("0") && shown["synchronous.level"] == .text("applied"))
                #expect(shown["synchronous.timeout"] == .text("1500ms"))
                #expect(shown["synchronous.on_timeout"] == .text("degrade"))
                #expect(served.appliedSettings?.synchronous.timeoutSeconds == 1.5)
                for (name, value) in [
                    ("min_followers", "-1"), ("min_followers", "x"), ("level", "sent"), ("timeout", "0"),
                    ("timeout", "x"), ("on_timeout", "wait"),
                ] {
                    #expect(
                        try client("CONFIG", "SET", "synchronous.\(name)", value).errorText != nil, "\(name) \(value)")
                }
            }
        }
    }
}
