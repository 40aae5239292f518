import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

@Suite("Targets from the command line", .serialized)
struct TargetTests {
    @Test("D5: paused at a target a node reads, and promote opens it for writing")
    func pauseAndPromote() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.load("a\t1\nb\t2\n")
        try cluster.expect(["backup"])
        try cluster.load("c\t3\n")
        let expected = try cluster.dump()
        try cluster.archivedPoint("here")
        try cluster.load("d\t4\n")
        try cluster.archivedPoint("later")
        #expect(cluster.stopAgent() == 0)
        cluster.killLeader()
        try cluster.restoreAndStart(["--target-name", "here", "--target-action", "pause"])
        #expect(try cluster.dump() == expected)
        let refused = try cluster.run(["load"], input: Data("x\t1\n".utf8))
        #expect(refused.status != 0)
        #expect(try cluster.dump() == expected)
        #expect(try cluster.field("timeline", of: ["status"]) == "1")
        try cluster.expect(["promote"])
        #expect(try cluster.field("timeline", of: ["status"]) == "2")
        #expect(try cluster.field("role", of: ["status"]) == "leader")
        try cluster.load("x\t1\n")
        #expect(try cluster.dump() == expected + "x\t1\n")
        let again = try cluster.run(["promote"])
        #expect(again.status != 0 && again.errors.contains("hint:"), "\(again.errors)")
    }

    @Test("D5: inclusive and exclusive LSN, transaction, time and name give the commits on either side")
    func inclusiveAndExclusive() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.load("a\t1\n")
        try cluster.expect(["backup"])
        try cluster.load("b\t2\n")
        let before = try cluster.dump()
        try cluster.load("c\t3\n")
        let at = try cluster.dump()
        // `lsn` of the status may be beyond the commit's record when the segment was switched: published is its end.
        let lsn = try #require(try cluster.field("published_lsn", of: ["status"]))
        let transaction = try #require(try cluster.field("transaction", of: ["status"]))
        try cluster.load("d\t4\n")
        try cluster.archivedPoint("end")
        let all = try cluster.dump()
        #expect(cluster.stopAgent() == 0)
        cluster.killLeader()
        for (arguments, expected) in [
            (["--target-lsn", lsn], at), (["--target-lsn", lsn, "--exclusive"], before),
            (["--target-transaction", transaction], at),
            (["--target-transaction", transaction, "--exclusive"], before),
            (["--target-name", "end"], all), (["--target-name", "end", "--exclusive"], all),
            (["--target-immediate"], "a\t1\n"), ([], all),
        ] {
            try cluster.restoreAndStart(arguments + ["--no-archive"], serve: [])
            #expect(try cluster.dump() == expected, "\(arguments)")
            cluster.killLeader()
        }
    }

    @Test("D5: a target on an abandoned branch is reached by naming its timeline")
    func abandonedBranch() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.load("a\t1\n")
        try cluster.expect(["backup"])
        try cluster.archivedPoint("fork")
        try cluster.load("left\t1\n")
        let left = try cluster.dump()
        try cluster.archivedPoint("left")
        #expect(cluster.stopAgent() == 0)
        cluster.killLeader()
        // The second branch leaves the first before "left".
        try cluster.restoreAndStart(["--target-name", "fork"])
        try cluster.startAgent()
        try cluster.load("right\t1\n")
        let right = try cluster.dump()
        try cluster.archivedPoint("right")
        #expect(cluster.stopAgent() == 0)
        cluster.killLeader()
        let missing = try cluster.run(["restore", "--data", cluster.root + "/none", "--target-name", "left"])
        #expect(missing.status == 65, "\(missing.errors)")
        #expect(missing.errors.contains("left"))
        try cluster.restoreAndStart(["--target-name", "left", "--target-timeline", "1"])
        #expect(try cluster.dump() == left)
        #expect(try cluster.field("timeline", of: ["status"]) == "3")
        #expect(cluster.stopLeader() == 0)
        try cluster.restoreAndStart(["--target-name", "right", "--target-timeline", "2"])
        #expect(try cluster.dump() == right)
        #expect(try cluster.field("timeline", of: ["status"]) == "4")
    }

    @Test("D5: targets before consistency, past the archive and off the history end restore or serve with 65")
    func outOfReach() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.fill(60, bytes: 40_000)
        let first = try cluster.launch(["backup", "--label", "first", "--max-rate", "1MiB"])
        try waitUntil("pages are copied", while: first) { first.errors.contains("copying") }
        try cluster.load("inside\t1\n")
        let lsn = try #require(try cluster.field("published_lsn", of: ["status"]))
        let transaction = try #require(try cluster.field("transaction", of: ["status"]))
        #expect(first.wait() == 0, "\(first.errors)")
        try cluster.archivedPoint("fork")
        try cluster.expect(["backup", "--label", "second"])
        try cluster.load("left\t1\n")
        try cluster.archivedPoint("left")
        #expect(cluster.stopAgent() == 0)
        #expect(cluster.stopLeader() == 0)
        let ids = try cluster.backupIDs()
        try #require(ids.count == 2)

        let fresh = cluster.root + "/new"
        func refused(_ arguments: [String], _ words: [String]) throws {
            try cluster.refused(["restore", "--data", fresh] + arguments, status: 65, saying: words)
            #expect(!FileManager.default.fileExists(atPath: fresh), "\(arguments)")
        }
        for target in [["--target-lsn", lsn], ["--target-transaction", transaction]] {
            try refused(target, ["before the first backup", ids[0], target[1]])
            try refused(target + ["--backup", ids[0]], [ids[0], "cannot reach", target[1]])
        }
        try refused(["--backup", ids[1], "--target-name", "fork"], [ids[1], "cannot reach", "fork"])

        // What the restore planned with has gone when replay comes to it.
        try cluster.expect(["restore", "--data", fresh, "--target-name", "left", "--target-action", "shutdown"])
        let wal = cluster.repository + "/main/wal/00000001"
        let segments = try FileManager.default.contentsOfDirectory(atPath: wal).sorted()
        let last = try #require(segments.last?.prefix(24))
        for name in segments where name.hasPrefix(last) {
            try FileManager.default.moveItem(atPath: wal + "/" + name, toPath: cluster.root + "/" + name)
        }
        try cluster.refused(
            ["serve", "--data", fresh], status: 65, saying: ["was not reached", "left", "the log ends at"])
        for name in segments where name.hasPrefix(last) {
            try FileManager.default.moveItem(atPath: cluster.root + "/" + name, toPath: wal + "/" + name)
        }
        // And a target that the restore would not have written.
        let signal = fresh + "/recovery.signal"
        let saved = try String(contentsOfFile: signal, encoding: .utf8)
        try saved.replacing("target = name left", with: "target = lsn \(lsn)").write(
            toFile: signal, atomically: false, encoding: .utf8)
        try cluster.refused(
            ["serve", "--data", fresh], status: 65, saying: ["before the backup is consistent", lsn])
        try saved.write(toFile: signal, atomically: false, encoding: .utf8)
        try cluster.expect(["serve", "--data", fresh])
        try FileManager.default.removeItem(atPath: fresh)

        // A branch that leaves the first timeline before the second backup.
        try cluster.restoreAndStart(["--target-name", "fork"])
        try cluster.startAgent()
        try cluster.archivedPoint("right")
        #expect(cluster.stopAgent() == 0)
        #expect(cluster.stopLeader() == 0)
        for timeline in ["2", "latest"] {
            try refused(
                ["--backup", ids[1], "--target-timeline", timeline, "--target-name", "right"],
                timeline == "2" ? [ids[1], "not on the history of timeline 00000002"] : ["right"])
        }
        try cluster.expect(["restore", "--data", fresh, "--target-timeline", "2", "--target-name", "right"])
    }
}
