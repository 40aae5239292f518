import Foundation
import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL
import HoldfastWire
import Logging
import Testing

@testable import HoldfastServer

extension ServerTests {
    @Suite("A slot keeps the log for its follower, as far as it may")
    struct SlotTests {
        private let first = LogLayout.firstPosition

        /// Fills whole segments.
        private func fill(_ client: Client, segments: Int) throws {
            let value = [UInt8](repeating: 7, count: 1 << 20)
            for index in 0..<segments * 17 {
                #expect(try client.call([Array("SET".utf8), Array("k\(index % 8)".utf8), value]) == .ok)
            }
        }

        @Test("create, list, drop")
        func commands() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                let client = try served.administrator()
                #expect(try client("SLOT", "LIST") == .array([]))
                let made = try client("SLOT", "CREATE", "b")
                #expect(made["name"] == .text("b") && made["timeline"] == .integer(1))
                #expect(made["restart_lsn"] == .text(first.description))
                try client("SLOT", "CREATE", "a")
                #expect(try client("SLOT", "CREATE", "a").errorText?.hasPrefix("DATAERR there is a slot") == true)
                let slots = try #require(try client("SLOT", "LIST").elements)
                #expect(slots.map { $0["name"] } == [.text("a"), .text("b")])
                for field in [
                    "name", "timeline", "restart_lsn", "active", "node", "kept_bytes", "invalid", "invalid_reason",
                    "written_lsn", "flushed_lsn", "applied_lsn", "lag_bytes",
                ] {
                    #expect(slots[0][field] != nil, "\(field)")
                }
                #expect(slots[0]["active"] == .boolean(false) && slots[0]["invalid"] == .boolean(false))
                #expect(slots[0]["kept_bytes"] == .integer(Int64(served.engine.appendedLSN - first)))
                #expect(try client("SLOT", "DROP", "a") == .ok)
                #expect(try client("SLOT", "DROP", "a").errorText?.hasPrefix("DATAERR there is no such slot") == true)
                #expect(try client("SLOT", "LIST").elements?.count == 1)
                #expect(try client("SLOT", "DROP").errorText?.contains("wrong number of arguments") == true)
                #expect(try client("SLOT", "RENAME", "a").errorText?.hasPrefix("ERR unknown subcommand") == true)
                for name in ["", "a/b", "..", "x.tmp", "a\nb", String(repeating: "x", count: 64), "-"] {
                    #expect(try client("SLOT", "CREATE", name).errorText?.contains("is not allowed") == true, "\(name)")
                }
            }
        }

        @Test("a slot in use cannot be dropped, and shows who uses it")
        func inUse() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                let client = try served.administrator()
                try client("SLOT", "CREATE", "s")
                let follower = try TestFollower(served, slot: "s", from: first, options: ["NODE", "node-b"])
                #expect(try client("SLOT", "DROP", "s").errorText?.hasPrefix("BUSY the slot is in use") == true)
                let shown = try #require(try served.slot("s"))
                #expect(shown["active"] == .boolean(true) && shown["node"] == .text("node-b"))
                follower.wire.close()
                try waitUntil("it may go") { try client("SLOT", "DROP", "s") == .ok }
            }
        }

        @Test("what a follower confirmed stands after a restart, and after a power loss; it never moves back")
        func persistence() async throws {
            let disk = SimulatedDisk(seed: 11)
            try Engine.initialize(disk)
            var end = LSN.zero
            try await ServedEngine.with(disk: disk, options: quietOptions()) { served in
                let client = try served.administrator()
                try client("SLOT", "CREATE", "s")
                try client("SLOT", "CREATE", "other")
                try client("SET", "a", "1")
                end = served.engine.durableLSN
                let follower = try TestFollower(served, slot: "s", from: first, options: ["NODE", "node-b"])
                try follower.acknowledge(end)
                try follower.acknowledge(first)
                try waitUntil("it is heard") {
                    try served.followers().first?["applied_lsn"] == .text("\(end)")
                }
                follower.wire.close()
                try waitUntil("the slot is free") { try served.slot("s")?["active"] == .boolean(false) }
                let found = try Engine(opening: disk.restart(seed: 1), options: quietOptions())
                #expect(found.slots["s"]?.restart == end && found.slots["other"]?.restart == first)
                found.abandon()
            }
            let found = try Engine(opening: disk, options: quietOptions())
            #expect(found.slots.all.map(\.name) == ["other", "s"])
            #expect(found.slots["s"]?.restart == end && found.slots["s"]?.node == "node-b")
            try found.dropSlot("s")
            found.abandon()
            let after = try Engine(opening: disk.restart(seed: 2), options: quietOptions())
            #expect(after.slots.all.map(\.name) == ["other"])
            try after.close()
        }

        @Test("a damaged slot is invalid, a newer one is refused by name, a replacement's rest is removed")
        func files() throws {
            let disk = SimulatedDisk(seed: 12)
            try Engine.initialize(disk)
            let engine = try Engine(opening: disk, options: quietOptions())
            _ = try engine.createSlot("s")
            try engine.close()
            let text = String(decoding: try #require(disk.contents()["slots/s"]), as: UTF8.self)
            #expect(
                text.hasPrefix(
                    "holdfast slot 1\ntimeline = 00000001\nrestart = 0/1000000\nnode = \ninvalid = \ncrc32c = "))
            try disk.replaceAtomically("slots/t.tmp.x", with: [1])
            try disk.rename("slots/t.tmp.x", to: "slots/t.tmp")
            for at in text.utf8.indices.map({ text.utf8.distance(from: text.utf8.startIndex, to: $0) }) where at > 15 {
                let copy = disk.afterKill(seed: 1)
                copy.damage("slots/s") { $0[at] ^= 1 }
                let found = try Engine(opening: copy, options: quietOptions())
                #expect(found.slots["s"]?.invalidReason == "its file is damaged", "byte \(at)")
                #expect(found.status.warnings.contains { $0.hasPrefix("slot s keeps no WAL any more") })
                #expect(copy.contents()["slots/t.tmp"] == nil)
                found.abandon()
            }
            disk.damage("slots/s") { $0[14] = UInt8(ascii: "2") }
            #expect(throws: EngineError.self) { try Engine(opening: disk, options: quietOptions()) }
            disk.damage("slots/s") { $0[14] = UInt8(ascii: "1") }
            try Engine(opening: disk, options: quietOptions()).close()
        }

        @Test("nothing below a slot is recycled; what a follower has confirmed is")
        func keeps() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                let client = try served.administrator()
                try client("SLOT", "CREATE", "s")
                try fill(client, segments: 2)
                for _ in 0..<2 { try client("CHECKPOINT") }
                #expect(served.segments.first?.segment == SegmentNumber(containing: first))
                let follower = try TestFollower(served, slot: "s", from: first)
                try follower.receive(through: served.engine.durableLSN)
                #expect(try follower.bytes == served.logBytes(first..<follower.position))
                // Within a second, since a segment is behind it.
                try follower.acknowledge(follower.position)
                try waitUntil("the log may go") {
                    try client("CHECKPOINT")
                    return try #require(served.segments.first).segment > SegmentNumber(containing: first)
                }
                let kept = try #require(LSN(try served.slot("s")?["restart_lsn"]?.text ?? ""))
                #expect(try #require(served.segments.first).segment <= SegmentNumber(containing: kept))
                // Without the slot the rest goes.
                follower.wire.close()
                try fill(client, segments: 1)
                let held = try #require(served.segments.first)
                for _ in 0..<2 { try client("CHECKPOINT") }
                #expect(served.segments.first == held)
                try waitUntil("the slot is dropped") { try client("SLOT", "DROP", "s") == .ok }
                try client("CHECKPOINT")
                #expect(try #require(served.segments.first).segment > held.segment)
            }
        }

        @Test("past its bound a slot is given up, durably and loudly; whoever has caught up elsewhere may use it again")
        func bound() async throws {
            try await ServedEngine.with(options: quietOptions(slotWALBytes: 40 << 20)) { served in
                let client = try served.administrator()
                try client("SLOT", "CREATE", "s")
                try fill(client, segments: 2)
                for _ in 0..<2 { try client("CHECKPOINT") }
                #expect(served.segments.first?.segment == SegmentNumber(containing: first), "still within its bound")
                try fill(client, segments: 1)
                for _ in 0..<2 { try client("CHECKPOINT") }
                #expect(try #require(served.segments.first).segment > SegmentNumber(containing: first))
                let shown = try #require(try served.slot("s"))
                #expect(shown["invalid"] == .boolean(true) && shown["kept_bytes"] == .integer(0))
                #expect(shown["invalid_reason"]?.text?.hasPrefix("it kept more than 41943040 bytes of WAL") == true)
                let warnings = try client("STATUS")["warnings"]?.elements ?? []
                #expect(warnings.contains { $0.text?.hasPrefix("slot s keeps no WAL any more") == true })
                #expect(try client("INFO", "replication").text?.contains("slot s keeps no WAL any more") == true)
                let refused = try TestFollower(served, slot: "s", from: first).reply.errorText
                #expect(
                    refused?.hasPrefix("SLOTINVALID the slot keeps nothing any more (s)") == true, "\(refused ?? "")")
                let found = try ReplicationSlot(
                    decoding: Array(Data(contentsOf: URL(filePath: served.data + "/slots/s"))), path: "s")
                #expect(found?.invalidReason != nil)
                let end = served.engine.durableLSN
                let follower = try TestFollower(served, slot: "s", from: end)
                #expect(follower.reply["lsn"] == .text(end.description))
                #expect(try served.slot("s")?["invalid"] == .boolean(false))
                #expect(try served.slot("s")?["restart_lsn"] == .text(end.description))
            }
        }

        @Test("a slot that was given up under a follower which then catches up keeps log again")
        func givenUpInUse() async throws {
            try await ServedEngine.with(options: quietOptions(slotWALBytes: 40 << 20)) { served in
                let client = try served.administrator()
                try client("SLOT", "CREATE", "s")
                let follower = try TestFollower(served, slot: "s", from: first)
                try fill(client, segments: 3)
                let end = served.engine.durableLSN
                // It has got everything, and is slow to say so.
                try follower.receive(through: end)
                for _ in 0..<2 { try client("CHECKPOINT") }
                #expect(try served.slot("s")?["invalid"] == .boolean(true))
                try follower.acknowledge(end)
                try waitUntil("the slot keeps log again") { try served.slot("s")?["invalid"] == .boolean(false) }
                #expect(try served.slot("s")?["restart_lsn"] == .text(end.description))
                follower.wire.close()
                try fill(client, segments: 1)
                for _ in 0..<2 { try client("CHECKPOINT") }
                #expect(try #require(served.segments.first).segment <= SegmentNumber(containing: end))
            }
        }

        @Test("a full disk keeps no slot from being given up")
        func boundWithoutSpace() throws {
            let disk = SimulatedDisk(seed: 13)
            try Engine.initialize(disk)
            let engine = try Engine(opening: disk, options: quietOptions(slotWALBytes: 20 << 20))
            _ = try engine.createSlot("s")
            let value = [UInt8](repeating: 7, count: 4 << 20)
            for index in 0..<12 { try engine.write { try $0.put("0", Array("k\(index % 3)".utf8), value) } }
            disk.injectFaults { call in
                call.path.hasPrefix("slots/") && [.open, .write].contains(call.kind) ? .error(.noSpace) : nil
            }
            for _ in 0..<2 { try engine.checkpoint() }
            disk.injectFaults(nil)
            #expect(engine.slots["s"]?.invalidReason != nil)
            #expect(disk.contents()["wal/000000010000000000000001"] == nil)
            try engine.close()
        }

        @Test("slots are no part of a backup")
        func backup() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                let client = try served.administrator()
                try client("SLOT", "CREATE", "s")
                try client("BACKUP", "START", "l", "FAST")
                let files = try #require(try client("BACKUP", "FILES").elements).compactMap { $0["path"]?.text }
                #expect(!files.isEmpty && files.allSatisfy { $0.hasPrefix("pages/") })
            }
        }
    }
}
