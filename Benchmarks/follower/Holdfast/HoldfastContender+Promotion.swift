import BenchmarkSupport
import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWire

/// The leader is lost: promotion, rewind, failover.
extension HoldfastContender {
    func promote() throws -> Double {
        let node = try makeFollower()
        try killLeaderUnderLoad()
        let client = try node.connect()
        let start = ContinuousClock.now
        let command = try node.launch(["promote"])
        try waitForWrite(client, node)
        let time = elapsedSeconds(since: start)
        guard command.wait() == 0 else { throw NeverHappened(what: "promote ends with 0", errors: command.errors) }
        try lead(node)
        return time
    }

    private func killLeaderUnderLoad() throws {
        let load = try startLoad()
        sleep(3)
        leader.kill()
        load.kill()
    }

    private func waitForWrite(_ client: WireClient, _ node: HoldfastNode) throws {
        try soon("\(node.name) accepts a write", while: node.server) {
            // READONLY until then.
            try client.call("SET", "first", "write") == .simple("OK") ? () : nil
        }
    }

    func rewind(megabytes: Int) throws -> Rewound {
        let old = leader
        let node = try makeFollower()
        node.stop()
        _ = try writeLog(megabytes: megabytes)
        old.kill()
        try node.start()
        try node.run(["promote"])
        try waitForWrite(node.connect(), node)
        try node.startAgent()
        try node.archiveAll()
        try shell("sync")
        let start = ContinuousClock.now
        try old.run(["rewind", "--from", node.address, "--node", old.name])
        let time = elapsedSeconds(since: start)
        try old.start()
        let timeToServing = elapsedSeconds(since: start)
        // It follows, or the time says nothing.
        try old.waitApplied(node.end())
        guard try old.status()["role"]?.text == "follower" else {
            throw NeverHappened(what: "the old leader follows", errors: old.server?.errors ?? "")
        }
        try shell("rm -rf \(old.data).rewound-*")
        try lead(node)
        return Rewound(seconds: time, secondsToServing: timeToServing)
    }

    /// Runs `body` in a cluster where etcd says who leads. What `body` is given kills the leader under load, and returns
    /// the seconds until its follower has accepted a write; that one leads from then on.
    func withFailover(_ body: (_ lose: () throws -> Double) throws -> Void) throws {
        guard EtcdServer.program != nil else { return say("left out: etcd is not installed") }
        let etcd = try EtcdServer()
        let ttlSeconds = 10
        say("  one etcd, ttl \(ttlSeconds) s, one follower, not synchronous")
        settingsOfNodes = "failover: {etcd: [\"\(etcd.endpoint)\"], ttl: \(ttlSeconds)s, node: NODE}"
        leader.stop()
        try leader.configure(settingsOfNodes.replacing("NODE", with: leader.name))
        try leader.start()
        try leader.startAgent()
        try waitForWrite(leader.connect(), leader)
        try body(loseLeader)
        settingsOfNodes = ""
        leader.stop()
        try leader.configure("")
        try leader.start()
        try leader.startAgent()
    }

    private func loseLeader() throws -> Double {
        let node = try makeFollower()
        // It has joined before the key is gone.
        try soon("\(node.name) is known") { try node.run(["nodes"]).contains(node.name) ? () : nil }
        sleep(1)
        let client = try node.connect()
        let load = try startLoad()
        sleep(3)
        let start = ContinuousClock.now
        leader.kill()
        load.kill()
        try waitForWrite(client, node)
        let time = elapsedSeconds(since: start)
        // It does not come back, and the next failover would wait for it.
        try node.run(["nodes", "--forget", leader.name])
        try lead(node)
        return time
    }
}
