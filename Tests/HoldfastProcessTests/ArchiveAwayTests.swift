import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

@Suite("An archive that is away", .serialized)
struct ArchiveAwayTests {
    @Test("D1: the archive is moved away and given back: writes go on, it is told everywhere, nothing is recycled")
    func awayAndBack() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.load("start\t1\n")
        try cluster.expect(["backup"])
        try cluster.archivedPoint("before")
        let away = cluster.repository + ".away"
        try FileManager.default.moveItem(atPath: cluster.repository, toPath: away)
        var waiting: [String] = []
        for round in 0..<9 {
            try cluster.load("round:\(round)\t\(round)\n")
            if let name = try cluster.field("segment", of: ["wal", "switch"]) { waiting.append(name) }
        }
        // A checkpoint would recycle what is not needed for recovery.
        try cluster.expect(["checkpoint"])
        try cluster.expect(["checkpoint"])
        let wal = try Set(FileManager.default.contentsOfDirectory(atPath: cluster.data + "/wal"))
        for name in waiting {
            #expect(wal.contains(name), "\(name) is gone, and not archived")
            #expect(FileManager.default.fileExists(atPath: cluster.data + "/wal/archive_status/\(name).ready"))
        }
        try waitUntil("status warns") {
            let warnings = try cluster.json(["status"])["warnings"] as? [String] ?? []
            return warnings.contains { $0.contains("wait for the archive") }
        }
        #expect(try cluster.serverInfo().contains("wait for the archive"))
        let agent = try #require(cluster.agent)
        try waitUntil("the log says so", while: agent) { agent.errors.contains("WAL cannot be archived now") }
        #expect(!FileManager.default.fileExists(atPath: cluster.repository), "an empty archive was made instead")
        let expected = try cluster.dump()
        #expect(expected.split(separator: "\n").count == 10)
        try FileManager.default.moveItem(atPath: away, toPath: cluster.repository)
        try cluster.archivedPoint("after")
        #expect(try cluster.field("archive_waiting", of: ["status"]).flatMap { Int($0) } ?? 9 < 2)
        let list = try cluster.json(["wal", "list"])["timelines"] as? [[String: Any]]
        #expect((list?.first?["gaps"] as? [Any])?.isEmpty == true)
        #expect(cluster.stopAgent() == 0)
        cluster.killLeader()
        // As on a new host, which has never used the repository.
        try FileManager.default.removeItem(atPath: cluster.root + "/state")
        try cluster.restoreAndStart(["--target-name", "after"])
        #expect(try cluster.dump() == expected)
        try FileManager.default.moveItem(atPath: cluster.repository, toPath: away)
        for command in [["backup"], ["wal", "push"]] {
            let refused = try cluster.run(command)
            #expect(refused.status == 69, "\(refused.errors)")
            #expect(refused.errors.contains("the repository is not there"), "\(refused.errors)")
        }
        #expect(!FileManager.default.fileExists(atPath: cluster.repository), "an empty archive was made instead")
    }
}
