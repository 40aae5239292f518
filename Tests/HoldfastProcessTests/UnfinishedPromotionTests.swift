import Foundation
import HoldfastTestSupport
import Testing

@Suite("A promotion that failed behind its claim", .serialized)
struct UnfinishedPromotionTests {
    /// `b` has claimed timeline 2, and could not open it.
    private func failed() throws -> FollowerFixture {
        let fixture = try FollowerFixture(fill: 200)
        let b = fixture.b
        let inTheWay = b.data + "/wal/00000002.history"
        try FileManager.default.createDirectory(atPath: inTheWay, withIntermediateDirectories: false)
        let refused = try b.run(["promote", "--connect", "unix:\(b.socket)"])
        #expect(refused.status != 0, "\(refused.output)")
        #expect(FileManager.default.fileExists(atPath: fixture.a.repository + "/main/wal/00000002.history"))
        try FileManager.default.removeItem(atPath: inTheWay)
        return fixture
    }

    @Test("E5: it is promoted again, and has its timeline")
    func again() throws {
        let fixture = try failed()
        let b = fixture.b
        #expect(try b.expect(["status", "--connect", "unix:\(b.socket)"]).contains("promotion is begun"))
        try b.expect(["promote", "--connect", "unix:\(b.socket)"])
        #expect(try b.field("timeline", of: ["status", "--connect", "unix:\(b.socket)"]) == "2")
        try b.load("after\tthe promotion\n")
    }

    @Test("E5: another node leads by the time it starts again: it accepts no write, and stops with 65")
    func overtaken() throws {
        let fixture = try failed()
        let b = fixture.b
        b.killLeader()
        fixture.a.killAgent()
        fixture.a.killLeader()
        let c = try TestCluster(settings: b.settings, initialize: false)
        try c.expect(["restore", "--take-over"])
        try c.startLeader()
        try c.load("kept\tby the other\n")
        #expect(try c.field("timeline", of: ["status"]) == "3")
        let server = try b.launchLeader()
        var accepted = 0
        try waitUntil("it stops") {
            if try b.run(["load"], input: Data("lost\there\n".utf8)).status == 0 { accepted += 1 }
            return !server.isRunning
        }
        #expect(accepted == 0, "writes were accepted on timeline 2")
        #expect(server.wait() == 65, "\(server.errors)")
        #expect(server.errors.contains("another node has claimed timeline 3"), "\(server.errors)")
    }

    @Test("E5: a timeline that a later restore has left aside stands in no follower's way")
    func leftAside() throws {
        let fixture = try FollowerFixture(fill: 200)
        fixture.b.killLeader()
        fixture.a.killAgent()
        fixture.a.killLeader()
        /// Restores the first backup along its own timeline.
        func restored() throws -> TestCluster {
            let node = try TestCluster(settings: fixture.b.settings, initialize: false)
            try node.expect(["restore", "--take-over", "--backup", fixture.first, "--target-immediate"])
            try node.startLeader()
            try node.startAgent()
            return node
        }
        let left = try restored()
        try left.load("left\taside\n")
        try left.archivedPoint("aside")
        #expect(try left.field("timeline", of: ["status"]) == "2")
        left.killAgent()
        left.killLeader()
        let leader = try restored()
        try leader.load("kept\tby the last\n")
        try leader.archivedPoint("kept")
        #expect(try leader.field("timeline", of: ["status"]) == "3")
        let follower = try TestCluster(settings: fixture.b.settings, initialize: false)
        try follower.expect(["restore", "--follow", "unix:\(leader.socket)", "--node", "f"])
        try follower.startLeader()
        let end = try fixture.lsn("lsn", leader)
        try waitUntil("it has caught up", while: follower.leader) {
            try fixture.lsn("replay_lsn", follower) >= end
        }
        leader.killAgent()
        leader.killLeader()
        try follower.expect(["promote", "--connect", "unix:\(follower.socket)"])
        #expect(try follower.field("timeline", of: ["status"]) == "4")
        #expect(try follower.dump().contains("kept\tby the last"))
    }
}
