import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

@Suite("A follower is compared with its leader before it serves", .serialized)
struct FollowerContentTests {
    /// A follower of `a`, unpacked and not started.
    private func unpacked(of fixture: FollowerFixture, _ arguments: [String] = ["--verify"]) throws -> TestCluster {
        let c = try TestCluster(settings: fixture.b.settings, initialize: false)
        try c.expect(["restore", "--follow", "unix:\(fixture.a.socket)", "--node", "c"] + arguments)
        return c
    }

    private func verified(_ node: TestCluster) throws -> String? {
        try node.field("verified", of: ["status", "--connect", "unix:\(node.socket)"])
    }

    @Test("E1: restore --verify and serve --verify under load: compared at one LSN, then served")
    func underLoad() throws {
        let fixture = try FollowerFixture()
        let writer = try fixture.writer()
        defer { writer.kill() }
        let c = try unpacked(of: fixture)
        try c.startLeader()
        try waitUntil("c is verified", while: c.leader) { try verified(c) == "equal" }
        #expect(try !c.dump().isEmpty)
        let status = try c.json(["status", "--connect", "unix:\(c.socket)"])
        #expect((status["verified_digest"] as? String)?.count == 64)
        #expect(LSN(status["verified_lsn"] as? String ?? "") ?? .zero > .zero)
        // What was wished is fulfilled: the next start serves at once.
        #expect(c.stopLeader() == 0)
        try c.startLeader()
        #expect(try verified(c) == nil)
        // And of a node that serves already a start may wish it again; which a kill does not forget.
        #expect(c.stopLeader() == 0)
        try c.launchLeader(["--verify"])
        try waitUntil("the wish is written", while: c.leader) {
            try String(contentsOfFile: c.data + "/standby.signal", encoding: .utf8).contains("verify = yes")
        }
        c.killLeader()
        try c.startLeader()
        try waitUntil("c is verified again", while: c.leader) { try verified(c) == "equal" }
    }

    @Test("E1: what is to be compared is not served, backed up or promoted before; its leader may come later")
    func gate() throws {
        let fixture = try FollowerFixture(fill: 200)
        let c = try unpacked(of: fixture)
        try fixture.a.archivedPoint("end")
        fixture.a.killLeader()
        try c.startLeader()
        #expect(try verified(c) == "pending")
        for command in [["dump"], ["backup"], ["promote"]] {
            let result = try c.run(command)
            #expect(result.status == 75 && result.errors.contains("serves nothing yet"), "\(command): \(result.errors)")
        }
        try fixture.a.startLeader()
        try waitUntil("c is verified", while: c.leader) { try verified(c) == "equal" }
        #expect(try c.dump() == fixture.a.dump())
        try c.expect(["promote", "--connect", "unix:\(c.socket)"])
        #expect(try verified(c) == "equal")
    }

    @Test(
        "E1: one byte of one value differs under a right checksum: 65, the LSN, both digests, the tree; again at each start"
    )
    func differs() throws {
        let fixture = try FollowerFixture(fill: 200)
        let c = try unpacked(of: fixture)
        let path = c.data + "/pages/00000000"
        let value = try #require(fixture.a.dump().split(separator: "\n").first?.split(separator: "\t").last)
        let pages = UnsafeMutableRawBufferPointer.allocate(
            byteCount: try Data(contentsOf: URL(filePath: path)).count, alignment: 4096)
        defer { pages.deallocate() }
        try Data(contentsOf: URL(filePath: path)).copyBytes(to: pages)
        var changed = 0
        for start in stride(from: 0, to: pages.count, by: Page.bytes) {
            let page = Data(pages[start..<start + Page.bytes])
            guard let at = page.range(of: Data(value.utf8))?.lowerBound else { continue }
            pages[start + at + 500] = UInt8(ascii: "!")
            Page(pages.baseAddress! + start).stampChecksum()
            changed += 1
        }
        try #require(changed > 0)
        try Data(pages).write(to: URL(filePath: path))
        for _ in 0..<2 {
            let server = try c.launchLeader()
            defer { server.kill() }
            try waitUntil("the comparison ends the node", seconds: 120) { !server.isRunning }
            #expect(server.wait() == 65, "\(server.errors)")
            let last = server.errors.split(separator: "\n").suffix(3).joined(separator: "\n")
            #expect(last.contains("does not hold what its leader holds") && last.contains("LSN 0/"), "\(last)")
            #expect(last.contains("the first tree that differs is \"0\"") && last.contains("hint:"), "\(last)")
            #expect(last.ranges(of: /[0-9a-f]{64}/).count == 2, "\(last)")
        }
    }

    @Test("E1: --verify without a leader to compare with is refused by name")
    func refused() throws {
        let result = try BuiltBinary.run(
            ["restore", "--cluster", "main", "--data", "/nonexistent", "--verify"],
            environment: ["HOLDFAST_REPOSITORY__PATH": "/nonexistent"])
        #expect(result.status == 64 && result.errors.contains("--verify are a follower's"), "\(result.errors)")
    }
}
