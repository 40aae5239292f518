import Foundation
import HoldfastTestSupport
import Testing

@Suite("A promotion while the repository is away", .serialized)
struct PromotionWithoutRepositoryTests {
    private func setAway(_ fixture: FollowerFixture, _ isAway: Bool) throws {
        let path = fixture.a.repository
        let (from, to) = isAway ? (path, path + ".away") : (path + ".away", path)
        try FileManager.default.moveItem(atPath: from, toPath: to)
    }

    private func caughtUpAndCutOff() throws -> FollowerFixture {
        let fixture = try FollowerFixture(fill: 200)
        try fixture.caughtUp()
        fixture.a.killAgent()
        fixture.a.killLeader()
        try setAway(fixture, true)
        return fixture
    }

    @Test("E5: refused without the option; with it loudly; when the repository is back the claim is there")
    func claimsLater() throws {
        let fixture = try caughtUpAndCutOff()
        let b = fixture.b
        let refused = try b.run(["promote", "--connect", "unix:\(b.socket)"])
        #expect(refused.status != 0 && refused.errors.contains("hint:"), "\(refused.errors)")
        let text = try b.expect(["promote", "--connect", "unix:\(b.socket)", "--without-repository"])
        #expect(text.contains("timeline 2, WITHOUT THE REPOSITORY") && text.contains("risk"), "\(text)")
        try b.load("after\tthe promotion\n")
        let warned = try b.expect(["status"])
        #expect(warned.contains("timeline 2 was opened without the repository"), "\(warned)")
        // Also over a restart with the repository away.
        b.killLeader()
        try b.startLeader()
        #expect(FileManager.default.fileExists(atPath: b.data + "/claim.signal"))
        try setAway(fixture, false)
        try waitUntil("the timeline is claimed", while: b.leader) {
            !FileManager.default.fileExists(atPath: b.data + "/claim.signal")
        }
        #expect(FileManager.default.fileExists(atPath: fixture.a.repository + "/main/wal/00000002.history"))
        try b.startAgent()
        try b.archivedPoint("later")
        #expect(try !b.expect(["status"]).contains("without the repository"))
    }

    @Test(
        "E5: another node has claimed the number meanwhile: this one stops with 65 and says who, and archives nothing")
    func taken() throws {
        let fixture = try caughtUpAndCutOff()
        let b = fixture.b
        try b.expect(["promote", "--connect", "unix:\(b.socket)", "--without-repository"])
        try b.load("lost\tto the other\n")
        b.killLeader()
        try setAway(fixture, false)
        // The other is made from the archive.
        let c = try TestCluster(settings: b.settings, initialize: false)
        try c.expect(["restore", "--take-over"])
        try c.startLeader()
        try c.startAgent()
        try c.load("kept\tby the other\n")
        try b.startAgent()
        for _ in 0..<2 {
            let server = try b.launchLeader()
            #expect(server.wait() == 65, "\(server.errors)")
            #expect(
                server.errors.contains("another node has claimed that timeline there: restored from"),
                "\(server.errors)")
        }
        try c.archivedPoint("end")
        #expect(try fixture.restored(["--target-name", "end"]) == c.dump())
    }
}
