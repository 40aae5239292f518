import Foundation
import HoldfastTestSupport
import Testing

@Suite("A node serves what is its own, and nothing else", .serialized)
struct NodeStartTests {
    /// A cluster with one backup, both processes stopped.
    private func backedUp() throws -> TestCluster {
        let cluster = try TestCluster()
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.expect(["load"], input: Data("a\t1\n".utf8))
        try cluster.expect(["backup"])
        try cluster.expect(["load"], input: Data("b\t2\n".utf8))
        try cluster.expect(["wal", "switch"])
        try waitUntil("all WAL is archived", while: cluster.agent) {
            try cluster.field("archive_waiting", of: ["status"]) == "0"
        }
        #expect(cluster.stopAgent() == 0)
        #expect(cluster.stopLeader() == 0)
        return cluster
    }

    @Test("a leader that another node has overtaken is refused, and stops when it runs")
    func fenced() throws {
        let cluster = try backedUp()
        let old = cluster.data
        try cluster.startLeader()
        cluster.data = cluster.root + "/new"
        try cluster.expect(["restore", "--data", cluster.data, "--take-over"])
        // The old leader lives while the new one claims its timeline.
        let oldLeader = try #require(cluster.leader)
        let newLeader = try RunningProcess(
            BuiltBinary.path,
            ["serve", "--data", cluster.data, "--socket", cluster.root + "/new.sock", "--listen", "127.0.0.1:0"],
            environment: ["HOLDFAST_CONFIG": cluster.configuration])
        try waitUntil("the old leader stops") { !oldLeader.isRunning }
        #expect(oldLeader.wait() == 65)
        #expect(oldLeader.errors.contains("another node has claimed timeline 2"))
        #expect(newLeader.stop() == 0)
        let again = try cluster.run(["serve", "--data", old])
        #expect(again.status == 65)
        #expect(again.errors.contains("this leader must not accept writes any more"))
    }

    @Test("a paused node serves reads, restarts at its target, and writes when it is promoted")
    func paused() throws {
        let cluster = try backedUp()
        cluster.data = cluster.root + "/new"
        try cluster.writeConfiguration()
        try cluster.expect(["restore", "--data", cluster.data, "--target-immediate", "--target-action", "pause"])
        for _ in 0..<2 {
            try cluster.startLeader()
            #expect(try cluster.field("role", of: ["status"]) == "paused")
            #expect(try cluster.dump() == "a\t1\n")
            let refused = try cluster.run(["load"], input: Data("c\t3\n".utf8))
            #expect(refused.status == 69)
            #expect(cluster.stopLeader() == 0)
        }
        try cluster.startLeader()
        try cluster.expect(["promote"])
        #expect(try cluster.field("timeline", of: ["status"]) == "2")
        try cluster.expect(["load"], input: Data("c\t3\n".utf8))
        #expect(try cluster.dump() == "a\t1\nc\t3\n")
        #expect(cluster.stopLeader() == 0)
        try cluster.startLeader()
        #expect(try cluster.dump() == "a\t1\nc\t3\n")
    }

    @Test("a node told to shut down at its target ends with 0 and has changed nothing it would need again")
    func shutdown() throws {
        let cluster = try backedUp()
        cluster.data = cluster.root + "/new"
        try cluster.writeConfiguration()
        try cluster.expect(["restore", "--data", cluster.data, "--target-action", "shutdown"])
        for _ in 0..<2 {
            let ended = try cluster.run(["serve"])
            #expect(ended.status == 0)
            #expect(ended.errors.contains("the recovery target is reached"))
        }
    }

    @Test("a copy claims nothing, pushes nothing, and is refused as a member of the cluster")
    func copy() throws {
        let cluster = try backedUp()
        let before = TestCluster.fingerprint(cluster.repository + "/main/wal")
        let claims = TestCluster.fingerprint(cluster.repository + "/main/backups")
        cluster.data = cluster.root + "/copy"
        try cluster.writeConfiguration()
        try cluster.expect(["restore", "--data", cluster.data, "--no-archive"])
        try cluster.startLeader()
        try cluster.expect(["load"], input: Data("c\t3\n".utf8))
        #expect(try cluster.dump() == "a\t1\nb\t2\nc\t3\n")
        #expect(try cluster.field("archiving", of: ["status"]) == "0")
        #expect(cluster.stopLeader() == 0)
        let refused = try cluster.run(["serve"])
        #expect(refused.status == 65)
        #expect(refused.errors.contains("this node is a copy that must not use the repository"))
        try cluster.startLeader(["--no-archive"])
        #expect(cluster.stopLeader() == 0)
        #expect(TestCluster.fingerprint(cluster.repository + "/main/wal") == before)
        #expect(TestCluster.fingerprint(cluster.repository + "/main/backups") == claims)
    }

    @Test("archiving is recorded: a start without the repository is refused unless it is given up")
    func archivingRecorded() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        #expect(cluster.stopLeader() == 0)
        let path = cluster.root + "/plain.yaml"
        try Data("server: {socket: \(cluster.socket)}\n".utf8).write(to: URL(filePath: path))
        let refused = try BuiltBinary.run(["serve", "--config", path, "--data", cluster.data])
        #expect(refused.status == 78)
        #expect(refused.errors.contains("this node archives its WAL, and no repository is configured"))
        let started = try RunningProcess(
            BuiltBinary.path, ["serve", "--config", path, "--data", cluster.data, "--no-archive"])
        try waitUntil("it answers", while: started) { try cluster.run(["status"]).status == 0 }
        #expect(started.stop() == 0)
    }

    @Test("check names a page whose bytes were changed")
    func check() throws {
        let cluster = try TestCluster()
        try cluster.expect(["load", "--data", cluster.data], input: Data("a\t1\nb\t2\n".utf8))
        #expect(try cluster.run(["check", "--data", cluster.data]).status == 0)
        let path = cluster.data + "/pages/00000000"
        let file = try FileHandle(forUpdating: URL(filePath: path))
        try file.seek(toOffset: 2 * 8192 + 8000)
        let byte = try #require(try file.read(upToCount: 1)?.first)
        try file.seek(toOffset: 2 * 8192 + 8000)
        try file.write(contentsOf: Data([byte ^ 1]))
        try file.close()
        let result = try cluster.run(["check", "--data", cluster.data, "--format", "json"])
        #expect(result.status == 65)
        #expect(result.output.contains("\"object\": \"page 2\""))
    }

    @Test("S4: a password in the configuration is in no log, at any level, and in no output")
    func secrets() throws {
        let cluster = try TestCluster(
            settings: """
                log: trace
                catalog: {uri: "postgresql://agent:canary-secret@127.0.0.1:1/nowhere"}
                schedule: {full: "* * * * *"}
                """)
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: cluster.configuration)
        try cluster.startLeader()
        try cluster.startAgent(environment: ["HOLDFAST_CLOCK_RATE": "60"])
        try waitUntil("a scheduled backup", while: cluster.agent) {
            cluster.agent?.errors.contains("backup complete") == true
        }
        let leader = try #require(cluster.leader)
        let agent = try #require(cluster.agent)
        var seen = ""
        for command in [
            ["catalog", "status"], ["catalog", "flush"], ["catalog", "migrate"], ["check"], ["info"], ["status"],
        ] {
            let result = try cluster.run(command)
            seen += result.output + result.errors
        }
        #expect(cluster.stopAgent() == 0)
        #expect(cluster.stopLeader() == 0)
        seen += leader.errors + leader.output + agent.errors + agent.output
        #expect(seen.contains("the catalog cannot be used now"))
        #expect(!seen.contains("canary"))
    }
}
