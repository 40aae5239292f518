import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

/// A leader `a` with its agent, a follower `b` of it, a follower `c` of `b`, and `d`, which follows `a` as well: on one
/// repository.
private final class Cascade {
    let a: TestCluster, b: TestCluster, c: TestCluster, d: TestCluster
    private var written = 0

    init() throws {
        a = try TestCluster()
        let repository = "repository: {path: \(a.repository)}\narchive: {timeout: 1s}"
        d = try TestCluster(settings: repository, initialize: false)
        b = try TestCluster(
            settings: repository + "\nfollow: [\"unix:\(a.socket)\", \"unix:\(d.socket)\"]", initialize: false)
        c = try TestCluster(settings: repository, initialize: false)
        try a.startLeader()
        try a.startAgent()
        try a.fill(300, bytes: 1000)
        try a.expect(["backup"])
        try a.archivedPoint("before")
        for (node, name, upstream) in [(b, "b", a), (d, "d", a), (c, "c", b)] {
            try node.expect(["restore", "--follow", "unix:\(upstream.socket)", "--node", name, "--slot", name])
            try node.startLeader()
        }
        try caughtUp(a, [b, d, c])
        try waitUntil("c streams from b") { try c.value("phase") == "streaming" && followers(of: b) == ["c"] }
    }

    /// The names of the nodes that a node sends its log to.
    func followers(of node: TestCluster) throws -> [String] {
        let all = try node.json(["status", "--connect", "unix:\(node.socket)"])["followers"] as? [[String: Any]] ?? []
        return all.compactMap { $0["node"] as? String }.sorted()
    }

    func write(to node: TestCluster) throws {
        written += 1
        try node.load("k\(written)\tvalue \(written)\n")
    }

    /// The nodes show everything that `leader` has, on its timeline.
    func caughtUp(_ leader: TestCluster, _ nodes: [TestCluster]) throws {
        let end = LSN(try leader.value("lsn")) ?? .zero
        let timeline = try leader.value("timeline")
        for node in nodes {
            try waitUntil("\(node.root) has caught up with \(end)", while: node.leader) {
                try LSN(node.value("replay_lsn")) ?? .zero >= end && node.value("timeline") == timeline
            }
        }
        let content = try leader.dump()
        for node in nodes {
            guard try node.dump() == content else { throw NeverHappened(what: "the same content", errors: node.root) }
        }
    }
}

extension TestCluster {
    fileprivate func value(_ name: String) throws -> String {
        try field(name, of: ["status", "--connect", "unix:\(socket)"]) ?? ""
    }
}

@Suite("A follower of a follower, with the real processes")
struct CascadeTests {
    @Test("E1: the middle is killed and comes back, then is promoted: its follower goes on behind it")
    func middle() throws {
        let cascade = try Cascade()
        let (a, b, c) = (cascade.a, cascade.b, cascade.c)
        #expect(try cascade.followers(of: a) == ["b", "d"])
        #expect(try c.value("leader") == "unix:\(b.socket)")
        let wire = try RawConnection(unix: b.socket)
        wire.request("INFO", "replication")
        wire.request("QUIT")
        let role = try wire.rest()
        #expect(role.contains("role:slave\r\n") && role.contains("connected_slaves:1\r\n"), "\(role)")
        for _ in 0..<2 {
            b.killLeader()
            try cascade.write(to: a)
            try b.startLeader()
            try cascade.write(to: a)
            try cascade.caughtUp(a, [b, c])
        }
        a.killAgent()
        a.killLeader()
        try b.expect(["promote", "--connect", "unix:\(b.socket)"])
        try cascade.write(to: b)
        try cascade.caughtUp(b, [c])
        #expect(try c.value("timeline") == "2" && c.value("leader") == "unix:\(b.socket)")
        #expect(try c.run(["check", "--connect", "unix:\(c.socket)"]).status == 0)
    }

    @Test("E3: another follower of the leader is promoted: the middle goes over to it, and its own follower with it")
    func other() throws {
        let cascade = try Cascade()
        let (a, b, c, d) = (cascade.a, cascade.b, cascade.c, cascade.d)
        try cascade.write(to: a)
        try cascade.caughtUp(a, [b, c, d])
        a.killAgent()
        a.killLeader()
        try d.expect(["promote", "--connect", "unix:\(d.socket)"])
        try cascade.write(to: d)
        try cascade.caughtUp(d, [b, c])
        try waitUntil("each streams from the one before it") {
            try b.value("leader") == "unix:\(d.socket)" && c.value("leader") == "unix:\(b.socket)"
                && cascade.followers(of: d) == ["b"] && cascade.followers(of: b) == ["c"]
        }
        // The middle is no leader for whoever knows more than one node.
        #expect(try b.value("role") == "follower")
        #expect(try c.run(["check", "--connect", "unix:\(c.socket)"]).status == 0)
    }
}
