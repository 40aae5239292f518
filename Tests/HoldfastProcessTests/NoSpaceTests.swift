import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

@Suite(
    "No space: clear errors, reads go on, and writing resumes by itself when there is room", .serialized,
    .enabled(if: SmallFileSystem.isPossible, "mounting a tmpfs needs root"))
struct NoSpaceTests {
    @Test("A7: the leader's disk fills with WAL that waits for the archive")
    func leader() throws {
        let directory = try TemporaryDirectory("holdfast-full")
        let disk = try SmallFileSystem(directory.path + "/disk", size: "100m")
        let cluster = try TestCluster(initialize: false)
        cluster.data = disk.path + "/data"
        try cluster.writeConfiguration()
        try cluster.expect(["init"])
        try cluster.startLeader()
        try cluster.load("first\t1\n")
        // No agent runs: nothing is archived, so nothing may be recycled.
        var refusal: BuiltBinary.Result?
        var acknowledged = 0
        for round in 0..<40 where refusal == nil {
            let line = "big:\(String(format: "%04d", round))\t\(String(repeating: "x", count: 4 << 20))\n"
            let result = try cluster.run(["load"], input: Data(line.utf8))
            if result.status == 0 { acknowledged += 1 } else { refusal = result }
        }
        let refused = try #require(refusal, "the disk never filled")
        #expect(refused.errors.localizedCaseInsensitiveContains("space"), "\(refused.errors)")
        #expect(acknowledged > 0)
        // Reads go on, and status says why nothing is written.
        let lines = try cluster.dump().split(separator: "\n")
        #expect(lines.contains("first\t1"))
        #expect(lines.count >= acknowledged + 1)
        let warnings = try cluster.json(["status"])["warnings"] as? [String] ?? []
        #expect(warnings.contains { $0.localizedCaseInsensitiveContains("space") }, "\(warnings)")
        #expect(cluster.leader?.isRunning == true)
        try disk.grow(to: "600m")
        try waitUntil("writes are taken again", while: cluster.leader) {
            try cluster.run(["load"], input: Data("after\t1\n".utf8)).status == 0
        }
        // Nothing of it is lost in a crash.
        let expected = try cluster.dump()
        cluster.killLeader()
        try cluster.startLeader()
        #expect(try cluster.dump() == expected)
        #expect(cluster.stopLeader() == 0)
    }

    @Test("A7: the disk of the page files fills: what cannot grow is refused, and nothing acknowledged is lost")
    func pages() throws {
        let directory = try TemporaryDirectory("holdfast-full")
        let cluster = try TestCluster(initialize: false)
        cluster.data = directory.path + "/data"
        try cluster.writeConfiguration()
        try cluster.expect(["init"])
        // The page files get a file system of their own, as an administrator would give them one.
        let aside = directory.path + "/aside"
        try FileManager.default.moveItem(atPath: cluster.data + "/pages", toPath: aside)
        let disk = try SmallFileSystem(cluster.data + "/pages", size: "8m")
        for name in try FileManager.default.contentsOfDirectory(atPath: aside) {
            try FileManager.default.copyItem(atPath: aside + "/" + name, toPath: disk.path + "/" + name)
        }
        try cluster.startLeader()
        try cluster.load("first\t1\n")
        var acknowledged: Set<Substring> = ["first\t1"]
        var refusal: BuiltBinary.Result?
        for round in 0..<40 where refusal == nil {
            let line = "big:\(String(format: "%04d", round))\t\(String(repeating: "x", count: 1 << 20))"
            let result = try cluster.run(["load"], input: Data((line + "\n").utf8))
            if result.status == 0 { acknowledged.insert(Substring(line)) } else { refusal = result }
        }
        let refused = try #require(refusal, "the disk never filled")
        for word in ["pages/00000000", "hint:"] { #expect(refused.errors.contains(word), "\(refused.errors)") }
        #expect(refused.errors.localizedCaseInsensitiveContains("no space"), "\(refused.errors)")
        #expect(acknowledged.count > 1)
        // Reads go on; a refused write has left nothing; what has its pages can be written over, and checkpoints end.
        #expect(try Set(cluster.dump().split(separator: "\n")) == acknowledged)
        try cluster.load("first\t2\n")
        acknowledged.remove("first\t1")
        acknowledged.insert("first\t2")
        try cluster.expect(["checkpoint"])
        #expect(cluster.leader?.isRunning == true)
        // A crash while it is full.
        cluster.killLeader()
        try cluster.startLeader()
        #expect(try Set(cluster.dump().split(separator: "\n")) == acknowledged)
        try disk.grow(to: "64m")
        try waitUntil("writes are taken again", while: cluster.leader) {
            try cluster.run(["load"], input: Data("after\t\(String(repeating: "y", count: 1 << 20))\n".utf8)).status
                == 0
        }
        acknowledged.insert("after\t\(String(repeating: "y", count: 1 << 20))")
        cluster.killLeader()
        try cluster.startLeader()
        #expect(try Set(cluster.dump().split(separator: "\n")) == acknowledged)
        #expect(cluster.stopLeader() == 0)
        try cluster.expect(["check", "--data", cluster.data])
    }

    @Test("A7: the repository fills during a backup: nothing of it counts, and with room the next one works")
    func repository() throws {
        let cluster = try TestCluster()
        let disk = try SmallFileSystem(cluster.repository, size: "6m")
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.load("a\t1\n")
        try cluster.archivedPoint("before")
        #expect(cluster.stopAgent() == 0)
        try cluster.fill(300, bytes: 40_000)
        let result = try cluster.run(["backup", "--label", "lost"])
        #expect(result.status == 74, "\(result.status): \(result.errors)")
        #expect(result.errors.localizedCaseInsensitiveContains("space"), "\(result.errors)")
        #expect(result.errors.contains("hint:"), "\(result.errors)")
        #expect(try cluster.backups().isEmpty)
        try cluster.startAgent()
        let agent = try #require(cluster.agent)
        try waitUntil("the agent says that it cannot archive", while: agent) {
            agent.errors.contains("WAL cannot be archived now")
        }
        try cluster.load("b\t2\n")
        try disk.grow(to: "200m")
        try cluster.expect(["backup", "--label", "after"])
        try cluster.archivedPoint("after")
        let expected = try cluster.dump()
        #expect(cluster.stopAgent() == 0)
        cluster.killLeader()
        try cluster.restoreAndStart(["--target-name", "after", "--no-archive"])
        #expect(try cluster.dump() == expected)
        #expect(cluster.stopLeader() == 0)
    }
}
