import BenchmarkSupport
import Foundation
import HoldfastCore
import HoldfastTestSupport

/// Provisioning, catching up, and lag under load.
extension PostgresContender {
    func provision() throws -> Provisioned {
        let start = ContinuousClock.now
        let node = try copyLeader()
        let copied = ContinuousClock.now
        // Not part of it: how much was copied.
        let size = try shell("du -sb \(node.data) | cut -f1").trimmed
        let restarted = ContinuousClock.now
        try node.launch()
        try node.waitForRead()
        let time = (copied - start) / .seconds(1) + elapsedSeconds(since: restarted)
        node.remove()
        return Provisioned(seconds: time, bytesFromLeader: Int(size) ?? 0)
    }

    /// For the stream the standby knows no archive, and the primary keeps the log. For the archive all of it is there, and
    /// the standby looks there first.
    func catchUp(megabytes: Int, from source: LogSource) throws -> CaughtUp {
        if followers.isEmpty { followers = [try makeFollower()] }
        let follower = followers[0]
        if source == .archive { follower.settings = ["restore_command=cp \(leader.archive)/%f %p"] }
        if follower.server == nil { try follower.start() }
        try waitCaughtUp(follower)
        follower.stop()
        let log = try writeLog(megabytes: megabytes)
        if source == .archive { try leader.archiveAll() }
        try shell("sync")
        let time = try seconds {
            try follower.launch()
            try follower.waitApplied(log.to)
        }
        try waitCaughtUp(follower)
        return CaughtUp(bytes: log.to - log.from, changes: log.changes, seconds: time)
    }

    func measureLoad(followers count: Int, seconds duration: Int) throws -> UnderLoad {
        while followers.count < count { followers.append(try makeFollower()) }
        for (index, follower) in followers.enumerated() {
            if index >= count { follower.stop() } else if follower.server == nil { try follower.start() }
        }
        let running = Array(followers[..<count])
        for follower in running { try waitCaughtUp(follower) }
        guard let server = leader.server?.pid else { throw NeverHappened(what: "the leader runs", errors: "") }
        let used = processorSeconds(of: server)
        let load = try startLoad(seconds: duration)
        defer { load.kill() }
        let lag = try sampleLag(running, while: load)
        guard load.wait() == 0,
            let line = load.output.split(separator: "\n").first(where: { $0.hasPrefix("tps = ") }),
            let rate = Double(line.dropFirst(6).prefix { $0 != " " })
        else { throw NeverHappened(what: "pgbench tells its rate", errors: load.errors + load.output) }
        return UnderLoad(
            rate: rate,
            leaderMicroseconds: (processorSeconds(of: server) - used) / (rate * Double(duration)) * 1e6,
            lagMilliseconds: lag)
    }

    /// As on the other side: writes, and for each the time from its acknowledgement until a read of a standby sees it.
    /// PostgreSQL 18 has no way to wait for that, so the standby is asked each half millisecond.
    private func sampleLag(_ followers: [PostgresNode], while load: RunningProcess) throws -> [Double] {
        let writer = try leader.connect()
        let readers = try followers.map { try $0.connect() }
        var lag: [Double] = []
        // Until clients have connected nothing is loaded.
        sleep(1)
        while load.isRunning {
            usleep(5000)
            guard !readers.isEmpty else { continue }
            let number = try writer.value("update probe set n = n + 1 returning n")
            let acknowledged = ContinuousClock.now
            let reader = readers[lag.count % readers.count]
            while try reader.value("select n >= \(number) from probe") != "t" { usleep(500) }
            lag.append((ContinuousClock.now - acknowledged) / .milliseconds(1))
        }
        return lag
    }
}
