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
}
