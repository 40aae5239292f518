import BenchmarkSupport
import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWire

/// Provisioning, catching up, and lag under load.
extension HoldfastContender {
    func provision() throws -> Provisioned {
        let node = try makeNode()
        let time = try seconds {
            try restore(node)
            try node.launchServer()
            try node.waitForRead()
        }
        let start = try soon("\(node.name) streams", while: node.server) { node.streamStart }
        let bytes = try sent(to: node) - start
        try drop(node)
        return Provisioned(seconds: time, bytesFromLeader: bytes)
    }

    /// Up to where the leader has handed the log to the node's connection.
    private func sent(to node: HoldfastNode) throws -> LSN {
        try soon("the leader knows \(node.name)") {
            let followers = try leader.status()["followers"]?.elements ?? []
            return followers.first { $0["node"]?.text == node.name }.flatMap { LSN($0["sent_lsn"]?.text ?? "") }
        }
    }

    /// For the stream, nothing of the new log is archived: the agent is away, and the follower's slot keeps it. For the
    /// archive, all of it is, and there is no slot.
    func catchUp(megabytes: Int, from source: LogSource) throws -> CaughtUp {
        if followers.isEmpty { followers = [try makeFollower(hasSlot: source == .stream)] }
        let follower = followers[0]
        if follower.server == nil { try follower.start() }
        try waitCaughtUp(follower)
        if source == .stream {
            try leader.archiveAll()
            leader.killAgent()
            try waitCaughtUp(follower)
        }
        follower.stop()
        let log = try writeLog(megabytes: megabytes)
        if source == .archive { try leader.archiveAll() }
        try shell("sync")
        let time = try seconds {
            try follower.launchServer()
            try follower.waitApplied(log.to)
        }
        try waitCaughtUp(follower)
        let start = try soon("the stream has begun", while: follower.server) { follower.streamStart }
        let streamed = start < log.to ? log.to - max(start, log.from) : 0
        if source == .stream {
            try leader.startAgent()
            try leader.archiveAll()
        }
        return CaughtUp(bytes: log.to - log.from, changes: log.changes, seconds: time, streamed: streamed)
    }

    func measureLoad(followers count: Int, seconds duration: Int) throws -> UnderLoad {
        while followers.count < count { followers.append(try makeFollower()) }
        for (index, follower) in followers.enumerated() {
            if index >= count { follower.stop() } else if follower.server == nil { try follower.start() }
        }
        let running = Array(followers[..<count])
        for follower in running { try waitCaughtUp(follower) }
        let load = try startLoad()
        defer { load.kill() }
        sleep(2)
        guard let server = leader.server?.pid else { throw NeverHappened(what: "the leader runs", errors: "") }
        let used = processorSeconds(of: server)
        let before = try commandsRun(), start = ContinuousClock.now
        let lag = try sampleLag(running, until: start + .seconds(duration))
        let writes = try commandsRun() - before
        return UnderLoad(
            rate: writes / elapsedSeconds(since: start),
            leaderMicroseconds: (processorSeconds(of: server) - used) / writes * 1e6, lagMilliseconds: lag)
    }

    /// Some hundred writes, and for each the time from its `OK` to a `WAITLSN`'s answer, of each follower in turn. A server
    /// looks every two milliseconds for those that wait.
    private func sampleLag(_ followers: [HoldfastNode], until end: ContinuousClock.Instant) throws -> [Double] {
        let writer = try TrackingClient(unix: leader.socket)
        let readers = try followers.map { try $0.connect() }
        var lag: [Double] = []
        while ContinuousClock.now < end {
            usleep(5000)
            guard !readers.isEmpty else { continue }
            let write = try writer.set("probe", "\(lag.count)")
            let reader = readers[lag.count % readers.count]
            let reply = try reader.call("WAITLSN", write.end.description, "0")
            guard reply.integer == 1 else { throw NeverHappened(what: "a write is applied", errors: "\(reply)") }
            lag.append((ContinuousClock.now - write.acknowledged) / .milliseconds(1))
        }
        return lag
    }

    private func commandsRun() throws -> Double {
        guard case let text? = try leader.connect().call("INFO", "stats").text,
            let line = text.split(separator: "\r\n").first(where: { $0.hasPrefix("total_commands_processed:") }),
            let count = Double(line.drop { $0 != ":" }.dropFirst())
        else { throw NeverHappened(what: "INFO tells the commands", errors: "") }
        return count
    }
}
