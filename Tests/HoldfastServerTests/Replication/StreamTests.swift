import Foundation
import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL
import HoldfastWire
import Testing

@testable import HoldfastServer

extension ServerTests {
    @Suite("A follower gets the log as it lies on the disk, and nothing that is not durable")
    struct StreamTests {
        private let first = LogLayout.firstPosition

        @Test("byte for byte, over ends of segments, while others write", arguments: ServedEngine.Writes.allCases)
        func bytes(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes) { served in
                let follower = try TestFollower(served, from: first)
                let client = try served.administrator()
                try await withThrowingTaskGroup(of: Void.self) { writers in
                    for writer in 0..<3 {
                        writers.addTask {
                            try await onThread {
                                let client = try served.anonymous()
                                let value = String(repeating: "v\(writer)", count: 10_000)
                                for round in 0..<300 { try client("SET", "k\(writer)-\(round)", value) }
                            }
                        }
                    }
                    // Where this blocks no writer has to wait for its thread.
                    try await onThread {
                        for _ in 0..<3 {
                            try follower.receive(through: follower.position + (2 << 20))
                            try client("WAL", "SWITCH")
                        }
                    }
                    try await writers.waitForAll()
                }
                let end = served.engine.durableLSN
                #expect(SegmentNumber(containing: end).rawValue - SegmentNumber(containing: first).rawValue >= 3)
                try follower.receive(through: end)
                #expect(try follower.bytes == served.logBytes(first..<follower.position))
            }
        }

        @Test("from any place between records on, in both versions of the protocol")
        func middle() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                let client = try served.anonymous()
                try client("SET", "a", "1")
                let middle = served.engine.durableLSN
                try client("SET", "b", "2")
                for version in [WireVersion.resp2, .resp3] {
                    let follower = try TestFollower(served, from: middle, version: version)
                    try follower.receive(through: served.engine.durableLSN)
                    #expect(try follower.bytes == served.logBytes(middle..<served.engine.durableLSN))
                }
            }
        }

        @Test("the reply says who answers, where the stream begins, and along which history")
        func reply() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                let status = served.engine.status
                let reply = try TestFollower(served, from: first, options: ["NODE", "n", "VERSION", "1"]).reply
                #expect(reply["version"] == .integer(1) && reply["timeline"] == .integer(1))
                #expect(reply["system_identifier"] == .text(status.systemIdentifier.description))
                #expect(reply["token"] == .text(status.timelineToken.description))
                #expect(reply["lsn"] == .text(first.description))
                #expect(reply["durable_lsn"] == .text(served.engine.durableLSN.description))
                #expect(reply["archived_lsn"] == .text("") && reply["node"] == .text(""))
                #expect(
                    try TimelineHistory(decoding: reply["history"]?.bytes ?? []).current.token == status.timelineToken)
            }
        }

        @Test("an idle stream tells that it lives, and asks for an answer")
        func keepalive() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                let follower = try TestFollower(served, from: served.engine.durableLSN)
                let (header, body) = try follower.message(seconds: 5)
                #expect(header.kind == .keepalive && body.isEmpty && header.lsn == follower.position)
                #expect(header.flags == ReplicationMessage.acknowledgeAtOnce && header.timeline == .first)
                #expect(header.durable == served.engine.durableLSN && header.archived == .zero)
                #expect(abs(header.clock - systemClockMicroseconds()) < 60_000_000)
            }
        }

        @Test("a follower that says nothing is disconnected; one that answers is not")
        func silence() async throws {
            try await ServedEngine.with(options: quietOptions()) {
                $0.followerTimeoutSeconds = 2.5
            } _: { served in
                let silent = try TestFollower(served, from: first)
                let other = try TestFollower(served, from: first, options: ["NODE", "lively"])
                for _ in 0..<4 {
                    while try other.message().header.kind != .keepalive {}
                    try other.acknowledge(other.position)
                }
                #expect(throws: WireError.self) { while true { try silent.message() } }
                #expect(try served.followers().map { $0["node"] } == [.text("lively")])
            }
        }

        @Test("a follower that does not read costs a bounded amount of memory, and nobody else anything")
        func stopsReading() async throws {
            try await ServedEngine.with {
                $0.followerBufferBytes = 1 << 20
            } _: { served in
                let lazy = try TestFollower(served, from: first)
                let client = try served.anonymous()
                let value = [UInt8](repeating: 7, count: 1 << 20)
                for index in 0..<48 { try client.call([Array("SET".utf8), Array("k\(index)".utf8), value]) }
                let busy = try TestFollower(served, from: first)
                try busy.receive(through: served.engine.durableLSN)
                let sent = try #require(
                    try served.followers().compactMap { LSN($0["sent_lsn"]?.text ?? "") }.min())
                // The buffer, one message, and what two sockets hold.
                #expect(sent - first < 10 << 20, "\(sent - first) bytes of \(served.engine.durableLSN - first)")
                try lazy.receive(through: served.engine.durableLSN)
                // A witness may have come between the two.
                let both = min(lazy.bytes.count, busy.bytes.count)
                #expect(LSN(first.rawValue + UInt64(both)) > sent)
                #expect(lazy.bytes.prefix(both) == busy.bytes.prefix(both))
            }
        }

        @Test(
            "anything but an acknowledgement of what there is ends the connection, and moves no slot",
            arguments: [
                "PING", "GET a", "ACK", "ACK 0/1000040", "ACK x y z 1", "ACK 0/1000040 0/1000040 0/1000040 now",
                "ACK F/0 F/0 F/0 1", "ACK 0/1000040 F/0 0/1000040 1", "ACK 0/1000040 0/1000040 0/1000040 1 1",
                "ack 0/1000040 0/1000040 0/1000040 1", "\u{1}\u{2}\u{3}", "*1\r\n$x",
            ])
        func garbage(_ text: String) async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                let client = try served.administrator()
                try client("SLOT", "CREATE", "s")
                let follower = try TestFollower(served, slot: "s", from: first)
                try follower.receive(through: served.engine.durableLSN)
                follower.wire.send(text.split(separator: " ").map { Array($0.utf8) })
                try follower.wire.flush()
                let last = try lastWord(of: follower)
                #expect(last.errorText?.hasPrefix("ERR") == true, "\(last)")
                #expect(throws: WireError.self) { try follower.wire.receive() }
                #expect(try served.slot("s")?["restart_lsn"] == .text(first.description))
                try waitUntil("the slot is free") { try served.slot("s")?["active"] == .boolean(false) }
                #expect(try client("PING") == .simple("PONG"))
            }
        }

        /// What comes when the stream is over.
        private func lastWord(of follower: TestFollower) throws -> WireValue {
            while true {
                let reply = try follower.wire.receive()
                if reply.bytes == nil { return reply }
            }
        }

        @Test("a server that stops sends what was written last before it closes the stream")
        func stopping() async throws {
            try await ServedEngine.with { served in
                let follower = try TestFollower(served, from: first)
                let client = try served.anonymous()
                for index in 0..<200 { try client("SET", "k\(index)", String(repeating: "x", count: 20_000)) }
                let end = served.engine.durableLSN
                async let stopped: Void = served.server.stop()
                try await onThread {
                    try follower.receive(through: end)
                    #expect(throws: WireError.self) { while true { try follower.message() } }
                }
                await stopped
            }
        }

        @Test("ROLE, INFO and STATUS show who follows, and how far")
        func shown() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                let client = try served.administrator()
                try client("SLOT", "CREATE", "s")
                try client("SET", "a", "1")
                let end = served.engine.durableLSN
                let follower = try TestFollower(served, slot: "s", from: first, options: ["NODE", "node-b"])
                try follower.receive(through: end)
                try follower.acknowledge(written: end, flushed: end, applied: first)
                try waitUntil("the acknowledgement is seen") {
                    try served.followers().first?["flushed_lsn"] == .text(end.description)
                }
                let shown = try #require(try served.followers().first)
                #expect(shown["node"] == .text("node-b") && shown["slot"] == .text("s"))
                #expect(shown["state"] == .text("streaming") && shown["address"]?.text?.hasPrefix("unix:") == true)
                #expect(shown["sent_lsn"] == .text(end.description) && shown["written_lsn"] == .text(end.description))
                #expect(shown["applied_lsn"] == .text(first.description))
                #expect(shown["lag_bytes"] == .integer(Int64(end - first)))
                let role = try client("ROLE").elements ?? []
                #expect(
                    role.last == .array([.array([.text("unix"), .text("0"), .text("\(end.rawValue)")])]), "\(role)")
                let info = try client("INFO", "replication").text ?? ""
                #expect(
                    info.contains(
                        "connected_slaves:1\r\nslave0:ip=unix,port=0,state=online,offset=\(end.rawValue),lag=0"))
                follower.wire.close()
                try waitUntil("it is gone") { try served.followers().isEmpty }
            }
        }
    }
}
