import Foundation
import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWire
import Synchronization
import Testing

@testable import HoldfastServer

extension ServerTests {
    @Suite("A backup belongs to its connection")
    struct PhysicalTests {
        @Test("START, FILES, READ and STOP have the fields that a backup needs")
        func backup() async throws {
            try await ServedEngine.with { served in
                let client = try served.administrator()
                for index in 0..<200 { try client("SET", "k\(index)", String(repeating: "v", count: 500)) }
                let start = try client("BACKUP", "START", "nightly", "FAST")
                let startLSN = try #require(LSN(start["start_lsn"]?.text ?? ""))
                #expect(start["timeline"] == .integer(1))
                #expect(TimelineToken(name: start["token"]?.text ?? "") != nil)
                #expect(
                    SystemIdentifier(start["system_identifier"]?.text ?? "") == served.engine.status.systemIdentifier)
                #expect(LSN(start["checkpoint_lsn"]?.text ?? "") != nil)
                #expect(Timestamp(start["started_at"]?.text ?? "") != nil)
                #expect(SegmentName(start["first_segment"]?.text ?? "")?.segment == SegmentNumber(containing: startLSN))
                #expect(start["page_bytes"] == .integer(8192))
                let files = try #require(try client("BACKUP", "FILES").elements)
                #expect(files.first?["path"] == .text("pages/00000000"))
                let bytes = Int(try #require(files.first?["bytes"]?.integer))
                #expect(bytes > 0 && bytes.isMultiple(of: 8192))
                let page = try #require(try client("BACKUP", "READ", "pages/00000000", "0", "8192").bytes)
                #expect(page.count == 8192)
                page.withUnsafeBytes { bytes in
                    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: 8192, alignment: 8192)
                    defer { copy.deallocate() }
                    copy.copyMemory(from: bytes)
                    #expect(Page(copy.baseAddress!).fault(expected: PageNumber(0)) == nil)
                }
                try client("SET", "after", "x")
                let stop = try client("BACKUP", "STOP")
                let stopLSN = try #require(LSN(stop["stop_lsn"]?.text ?? ""))
                #expect(stopLSN > startLSN)
                #expect((stop["label"]?.bytes?.count ?? 0) > 0)
                #expect(stop["transaction"] == .integer(201))
                #expect(
                    SegmentName(stop["last_segment"]?.text ?? "")?.segment
                        == SegmentNumber(containing: LSN(stopLSN.rawValue - 1)))
                #expect(try client("BACKUP", "STOP").errorText?.hasPrefix("ERR this connection has no backup") == true)
            }
        }

        @Test("CHECK names what it found, of a moment of its own, while writes go on")
        func check() async throws {
            try await ServedEngine.with { served in
                let client = try served.administrator()
                for index in 0..<200 { try client("SET", "k\(index)", String(repeating: "v", count: 500)) }
                let reply = try client("CHECK")
                #expect(reply["ok"] == .boolean(true) && reply["problems"]?.elements == [], "\(reply)")
                #expect(reply["pages"]?.integer ?? 0 >= 128 && reply["unlisted"] == .integer(0))
                #expect(LSN(reply["lsn"]?.text ?? "") == served.engine.publishedLSN)
                #expect(try client("CHECK", "all").errorText?.contains("wrong number of arguments") == true)
                #expect(try served.anonymous()("CHECK").errorText?.hasPrefix("NOPERM") == true)
            }
        }

        @Test("a CHECK whose client has gone ends with it")
        func abandonedCheck() async throws {
            let disk = SimulatedDisk(seed: 5)
            try Engine.initialize(disk)
            let options = EngineOptions(cacheBytes: 1 << 20, versionBytes: 1 << 20, runsBackgroundWork: false)
            // Closed, so that the server's engine has nothing in memory.
            let engine = try Engine(opening: disk, options: options)
            try engine.write { transaction in
                for index in 0..<800 {
                    try transaction.put("0", Array("k\(index)".utf8), [UInt8](repeating: 1, count: 4000))
                }
            }
            try engine.close()
            try await ServedEngine.with(disk: disk, options: options) { served in
                let other = try served.administrator()
                #expect(served.engine.status.allocatedPages > 3 * 128)
                let isArmed = Atomic(true), isHeld = Atomic(false), reads = Atomic(0)
                // The first page that it reads is slow.
                disk.interleave { call in
                    guard call.kind == .read, call.path.hasPrefix("pages/") else { return }
                    reads.add(1, ordering: .relaxed)
                    while isArmed.load(ordering: .acquiring) {
                        isHeld.store(true, ordering: .releasing)
                        usleep(1000)
                    }
                }
                let client = try served.administrator()
                client.wire.send("CHECK")
                try client.wire.flush()
                while !isHeld.load(ordering: .acquiring) { usleep(1000) }
                client.wire.close()
                while try other("CLIENT", "LIST").text?.split(separator: "\n").count != 1 { usleep(1000) }
                let before = reads.load(ordering: .relaxed)
                isArmed.store(false, ordering: .releasing)
                while served.engine.status.liveSnapshots > 0 { usleep(1000) }
                #expect(reads.load(ordering: .relaxed) - before < 50)
                disk.interleave(nil)
            }
        }

        @Test("READ serves whole pages of this backup's files and nothing else")
        func read() async throws {
            try await ServedEngine.with { served in
                let client = try served.administrator()
                #expect(try client("BACKUP", "READ", "pages/00000000", "0", "8192").errorText != nil, "no backup yet")
                try client("BACKUP", "START", "l", "FAST")
                let bytes = try #require(try client("BACKUP", "FILES").elements?.first?["bytes"]?.integer)
                for path in [
                    "control", "../control", "/etc/passwd", "pages/../control", "pages/00000001", "wal", "", "pages/0",
                    "pages/00000000/",
                ] {
                    let reply = try client("BACKUP", "READ", path, "0", "8192")
                    #expect(reply.errorText?.hasPrefix("ERR no such file in this backup") == true, "\(path): \(reply)")
                }
                for (offset, length) in [
                    ("1", "8192"), ("0", "1"), ("0", "0"), ("-8192", "8192"), ("0", "2097152"), ("\(bytes)", "8192"),
                    ("9223372036854775807", "8192"), ("x", "8192"), ("0", "9223372036854775807"),
                    ("9223372036854767616", "8192"),
                ] {
                    let reply = try client("BACKUP", "READ", "pages/00000000", offset, length)
                    #expect(
                        reply.errorText?.hasPrefix("ERR cannot read this range") == true,
                        "\(offset) \(length): \(reply)")
                }
                let other = try served.administrator()
                #expect(try other("BACKUP", "FILES").errorText?.hasPrefix("ERR this connection has no backup") == true)
            }
        }

        @Test("several run at once; one that loses its connection is over")
        func several() async throws {
            try await ServedEngine.with { served in
                let first = try served.administrator()
                let second = try served.administrator()
                try first("BACKUP", "START", "one", "FAST")
                #expect(
                    try first("BACKUP", "START", "again").errorText?.hasPrefix("BUSY this connection has a backup")
                        == true)
                try second("BACKUP", "START", "two", "FAST")
                #expect(served.engine.status.runningBackups == 2)
                second.wire.close()
                try waitUntil("the backup of a closed connection is over") {
                    served.engine.status.runningBackups == 1
                }
                #expect(try first("BACKUP", "STOP")["stop_lsn"] != nil)
                #expect(served.engine.status.runningBackups == 0)
            }
        }

        @Test("S3: labels and restore points with other characters are refused before anything happens")
        func names() async throws {
            try await ServedEngine.with { served in
                let client = try served.administrator()
                let end = served.engine.appendedLSN
                for name in [
                    "", "a/b", "..", "a\nb", "a\u{1B}[31m", String(repeating: "x", count: 64),
                    String(repeating: "y", count: 10 << 20),
                ] {
                    for reply in [try client("BACKUP", "START", name), try client("RESTOREPOINT", name)] {
                        let text = try #require(reply.errorText)
                        #expect(text.contains("is not allowed") && text.utf8.count < 1000 && !text.contains("\u{1B}"))
                    }
                }
                #expect(served.engine.appendedLSN == end && served.engine.status.runningBackups == 0)
            }
        }

        @Test("checkpoint, switch, restore point, promote, status")
        func others() async throws {
            try await ServedEngine.with { served in
                let client = try served.administrator()
                try client("SET", "a", "1")
                let point = try client("RESTOREPOINT", "before")
                #expect(point["name"] == .text("before") && LSN(point["lsn"]?.text ?? "") != nil)
                #expect(Timestamp(point["time"]?.text ?? "") != nil)
                let switched = try client("WAL", "SWITCH")
                #expect(SegmentName(switched["segment"]?.text ?? "")?.timeline == .first)
                #expect(LSN(try client("CHECKPOINT")["redo_lsn"]?.text ?? "") != nil)
                #expect(try client("PROMOTE")["timeline"] == .integer(2))
                let status = try client("STATUS")
                for field in [
                    "role", "timeline", "lsn", "replay_lsn", "leader_lsn", "lag_bytes", "archived_lsn",
                    "system_identifier", "data", "archiving", "warnings", "version", "transaction", "token",
                ] {
                    #expect(status[field] != nil, "\(field)")
                }
                #expect(status["role"] == .text("leader") && status["transaction"] == .integer(1))
                #expect(status["archiving"] == .boolean(false))
            }
        }
    }
}
