import Foundation
import HoldfastTestSupport
import Testing

@Suite("Automatic failover", .serialized, .enabled(if: EtcdServer.program != nil, "etcd-server is not installed"))
struct FailoverTests {
    @Test("E2, E5: the leader is killed: the furthest follower takes over, with every acknowledged write")
    func killedLeader() throws {
        let cluster = try FailoverCluster(minimumFollowers: 1)
        #expect(cluster.set("b", "x", "1")?.hasPrefix("-READONLY") == true)
        // What `b` misses while it stands still is more than its connection holds.
        cluster.nodes["b"]?.signal(SIGSTOP)
        let value = String(repeating: "v", count: 50_000)
        var acknowledged: [String] = []
        for index in 0..<100 where cluster.set("a", "key:\(index)", value) == "+OK" {
            acknowledged.append("key:\(index)")
        }
        cluster.nodes["a"]?.kill()
        cluster.nodes["b"]?.signal(SIGCONT)
        #expect(acknowledged.count == 100)
        let leader = try cluster.firstWriter(of: ["b", "c"])
        #expect(leader == "c", "c had more of the log")
        for key in acknowledged { #expect(try cluster.has(leader, key), "\(key) was acknowledged and is lost") }
        let table = try cluster.table()
        #expect(table["holder"] as? String == "c")
        #expect(table["away"] as? [String] == ["a"])
        try waitUntil("b follows c") { try cluster.has("b", "probe") }
        // The old leader comes back and is told.
        let old = try BuiltBinary.run(["serve", "--config", cluster.directory.path + "/a.yaml"])
        #expect(old.status == 65, "\(old.errors)")
        #expect(old.errors.contains("must not accept writes any more"), "\(old.errors)")
    }

    @Test("E2: the repository is away when a follower is to take over: it takes over when the repository is back")
    func repositoryAway() throws {
        let cluster = try FailoverCluster(minimumFollowers: 0)
        #expect(cluster.set("a", "before", "1") == "+OK")
        try waitUntil("both followers have it") { try cluster.has("b", "before") && cluster.has("c", "before") }
        let repository = cluster.directory.path + "/repository"
        try FileManager.default.moveItem(atPath: repository, toPath: repository + ".away")
        cluster.nodes["a"]?.kill()
        try waitUntil("a promotion has failed", seconds: 120) {
            ["b", "c"].contains { cluster.nodes[$0]?.errors.contains("the promotion failed") == true }
        }
        #expect(cluster.set("b", "k", "1")?.hasPrefix("-READONLY") == true)
        #expect(cluster.set("c", "k", "1")?.hasPrefix("-READONLY") == true)
        try? FileManager.default.removeItem(atPath: repository)
        try FileManager.default.moveItem(atPath: repository + ".away", toPath: repository)
        let leader = try cluster.firstWriter(of: ["b", "c"])
        #expect(try cluster.has(leader, "before"))
    }

    @Test("E2: a leader that stood still for longer than its lease acknowledges nothing any more, and stops")
    func pausedLeader() throws {
        let cluster = try FailoverCluster(minimumFollowers: 0)
        #expect(cluster.set("a", "before", "1") == "+OK")
        // Without synchronous followers a write may be lost that none of them has yet.
        try waitUntil("both followers have it") { try cluster.has("b", "before") && cluster.has("c", "before") }
        let old = try #require(cluster.nodes["a"])
        let connections = try (0..<20).map { _ in try RawConnection(unix: cluster.socket("a")) }
        old.signal(SIGSTOP)
        defer { old.signal(SIGCONT) }
        let leader = try cluster.firstWriter(of: ["b", "c"])
        #expect(try cluster.has(leader, "before"))
        for (index, connection) in connections.enumerated() { connection.send("SET late:\(index) 1\r\n") }
        old.signal(SIGCONT)
        for connection in connections {
            let reply = (try? connection.line()).flatMap { $0 } ?? "closed"
            #expect(reply != "+OK", "two leaders acknowledge")
            #expect(reply.hasPrefix("-READONLY") || reply.hasPrefix("-UNKNOWN") || reply == "closed", "\(reply)")
        }
        #expect(old.wait() == 65)
        #expect(old.errors.contains("must not accept writes any more"), "\(old.errors)")
    }

    @Test(
        "E2: without etcd a leader fences itself before its lease ends, and nobody is promoted; with it again it goes on"
    )
    func etcdAway() throws {
        let cluster = try FailoverCluster(minimumFollowers: 1)
        #expect(cluster.set("a", "k", "1") == "+OK")
        cluster.etcd.kill()
        let killed = ContinuousClock.now
        var reply: String? = "+OK"
        var last = killed
        while reply == "+OK", ContinuousClock.now - killed < .seconds(60) {
            let asked = ContinuousClock.now
            reply = cluster.set("a", "k", "2")
            if reply == "+OK" { last = asked }
            usleep(5000)
        }
        // The first may have been under way.
        if reply?.hasPrefix("-UNKNOWN") == true { reply = cluster.set("a", "k", "2") }
        #expect(reply?.hasPrefix("-READONLY") == true, "\(reply ?? "no answer")")
        #expect(reply?.contains("leader's key") == true, "\(reply ?? "no answer")")
        #expect(last - killed < .seconds(cluster.ttlSeconds), "it acknowledged beyond its lease")
        usleep(UInt32(cluster.ttlSeconds) * 1_000_000)
        for name in ["a", "b", "c"] {
            #expect(cluster.set(name, "k", "3")?.hasPrefix("-READONLY") == true, "\(name) writes without etcd")
        }
        #expect(try cluster.has("a", "k"), "reads go on")
        try cluster.etcd.restart()
        let leader = try cluster.firstWriter(of: ["a", "b", "c"])
        #expect(try cluster.holder() == leader)
    }
}
