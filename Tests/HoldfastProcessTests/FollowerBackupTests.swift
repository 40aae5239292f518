import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

@Suite("Backups and archiving beside a follower", .serialized)
struct FollowerBackupTests {
    private func json(_ text: String) throws -> [String: Any] {
        try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any] ?? [:]
    }

    @Test("C1: a follower's backup under load, restored to its stop and later, holds what the leader held there")
    func underLoad() throws {
        let fixture = try FollowerFixture()
        let (a, b) = (fixture.a, fixture.b)
        var stops: [(id: String, stop: String)] = []
        let writer = try fixture.writer()
        // From the follower's own host, and from another that knows the leader.
        for (node, connect) in [(b, []), (a, ["--connect", "unix:\(b.socket)"])] {
            try a.expect(["checkpoint"])
            let record = try json(node.expect(["backup", "--format", "json", "--label", "from-b"] + connect))
            stops.append((try #require(record["id"] as? String), try #require(record["stop_lsn"] as? String)))
            #expect(record["timeline"] as? Int == 1)
            #expect(LSN(record["start_lsn"] as? String ?? "") ?? .max < LSN(stops.last!.stop)!)
        }
        writer.kill()
        try a.archivedPoint("end")
        let atEnd = try a.dump()
        for (id, stop) in stops {
            let atStop = try fixture.restored(["--backup", id, "--target-immediate"])
            #expect(atStop == (try fixture.restored(["--backup", fixture.first, "--target-lsn", stop])), "\(id)")
            #expect(try fixture.restored(["--backup", id, "--target-name", "end"]) == atEnd, "\(id)")
        }
        #expect(try a.backupIDs() == [fixture.first] + stops.map(\.id))
        let check = try a.run(["check", "--cluster", "main"])
        #expect(check.status == 0, "\(check.output)\(check.errors)")
    }

    @Test("C1: an idle leader gets no write by its follower's backup, which waits for nothing that will not come")
    func idle() throws {
        let fixture = try FollowerFixture(fill: 200)
        let (a, b) = (fixture.a, fixture.b)
        try a.expect(["checkpoint"])
        // What `archive.timeout` switches, it has.
        var end = LSN.zero
        try waitUntil("the leader rests") {
            let now = try fixture.lsn("lsn", a)
            defer { end = now }
            usleep(1_500_000)
            return now == end
        }
        try fixture.caughtUp()
        let record = try json(b.expect(["backup", "--format", "json"]))
        #expect(try fixture.lsn("lsn", a) == end)
        let id = try #require(record["id"] as? String)
        #expect(try fixture.restored(["--backup", id]) == a.dump())
    }

    @Test("C6: the follower is killed while it is copied, or promoted before the WAL is archived: 69 and 75, no backup")
    func interrupted() throws {
        let fixture = try FollowerFixture(timeout: "600s")
        let (a, b) = (fixture.a, fixture.b)
        func interrupt(
            _ status: Int32, _ words: String, at moment: String = "copying", _ rate: String = "500KiB",
            _ body: () throws -> Void
        ) throws {
            let backup = try b.launch(["backup", "--max-rate", rate])
            try waitUntil("the backup is at \(moment)", while: backup) { backup.errors.contains(moment) }
            try body()
            #expect(backup.wait() == status, "\(backup.errors)")
            #expect(backup.errors.contains(words) && backup.errors.contains("hint:"), "\(backup.errors)")
            #expect(try a.backupIDs() == [fixture.first])
        }
        try interrupt(69, "connection") { b.killLeader() }
        try b.startLeader()
        try fixture.caughtUp()
        // Its last segment is in no archive yet when the copy has ended, and will not come under its name.
        a.killAgent()
        try a.load("only\tin an open segment\n")
        try fixture.caughtUp()
        try interrupt(75, "promoted to timeline 2", at: "waiting for WAL", "100MiB") {
            a.killLeader()
            try b.expect(["promote", "--connect", "unix:\(b.socket)"])
        }
        try b.startAgent()
        try b.load("after\tthe promotion\n")
        let record = try json(b.expect(["backup", "--format", "json"]))
        #expect(record["timeline"] as? Int == 2)
        let id = try #require(record["id"] as? String)
        #expect(try fixture.restored(["--backup", id]) == b.dump())
        #expect(try a.backupIDs() == [fixture.first, id])
    }

    @Test("C6: a promotion while the page files are copied fails the backup with 75, and nothing counts")
    func promotedWhileCopied() throws {
        let fixture = try FollowerFixture()
        let (a, b) = (fixture.a, fixture.b)
        let backup = try b.launch(["backup", "--max-rate", "500KiB"])
        try waitUntil("the copy is under way", while: backup) { backup.errors.contains("copying") }
        try b.expect(["promote", "--connect", "unix:\(b.socket)"])
        #expect(backup.wait() == 75, "\(backup.errors)")
        #expect(backup.errors.contains("promoted meanwhile") && backup.errors.contains("hint:"), "\(backup.errors)")
        #expect(try a.backupIDs() == [fixture.first])
    }

    @Test("D1: an agent beside a follower archives nothing, and behind its promotion goes on without gap or overlap")
    func agentBesideFollower() throws {
        let fixture = try FollowerFixture(fill: 200)
        let (a, b) = (fixture.a, fixture.b)
        try b.startAgent()
        a.killAgent()
        // Whole segments that the leader has, and nobody archives but the follower's agent, if it did.
        let before = fixture.segments()
        for round in 0..<3 {
            try a.load("round\(round)\tof the leader\n")
            try a.expect(["wal", "switch"])
        }
        try a.load("last\tof the leader\n")
        try fixture.caughtUp()
        usleep(3_000_000)
        #expect(fixture.segments() == before)
        #expect(try FileManager.default.contentsOfDirectory(atPath: b.data + "/wal/archive_status") == [])
        a.killLeader()
        let promoted = try b.expect(["promote", "--connect", "unix:\(b.socket)"])
        let fork = SegmentNumber(containing: try fixture.lsn("lsn", b))
        try b.load("first\tof the new leader\n")
        try b.archivedPoint("end")
        let names = fixture.segments()
        let old = names.filter { $0.timeline == .first }.map(\.segment)
        let new = names.filter { $0.timeline > .first }.map(\.segment)
        #expect(Set(old).count == old.count && old.last?.next == fork && new.first == fork, "\(names), \(promoted)")
        for part in [old, new] {
            for (one, next) in zip(part, part.dropFirst()) { #expect(one.next == next, "\(names)") }
        }
        #expect(old.count >= before.count + 3)
        #expect(try fixture.restored(["--target-name", "end"]) == b.dump())
    }
}
