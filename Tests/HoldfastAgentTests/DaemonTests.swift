import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

@Suite("The agent keeps a cluster safe while nobody looks", .serialized)
struct DaemonTests {
    private func backups(_ cluster: TestCluster) throws -> [[String: Any]] {
        guard FileManager.default.fileExists(atPath: cluster.repository + "/main/cluster.json") else { return [] }
        let clusters = try cluster.json(["info"])["clusters"] as? [[String: Any]]
        return clusters?.first?["backups"] as? [[String: Any]] ?? []
    }

    /// The moments, in seconds, whose runs the agent has begun, as its log tells, in order.
    private func begunRuns(_ log: String) -> [Int] {
        log.split(separator: "\n").filter { $0.contains("scheduled backup is due") }.compactMap { line in
            line.split(separator: " ").first { $0.hasPrefix("due=") }
                .flatMap { Timestamp.parse($0.dropFirst(4)) }.map { Int($0 / 1_000_000) }
        }
    }

    @Test("a schedule of every minute is run in every minute of a shortened clock, once each")
    func schedule() throws {
        let cluster = try TestCluster(settings: "schedule: {full: \"* * * * *\", timezone: Europe/Berlin}")
        try cluster.startLeader()
        try cluster.expect(["load"], input: Data("a\t1\n".utf8))
        try cluster.startAgent(environment: ["HOLDFAST_CLOCK_RATE": "25"])
        let agent = try #require(cluster.agent)
        // A minute is passed over only when the run before lasted longer than one: four without that are enough.
        try waitUntil("a run in each of four minutes in a row", while: agent) {
            let due = begunRuns(agent.errors)
            return (3..<max(3, due.count)).contains { due[$0] == due[$0 - 3] + 180 }
        }
        #expect(cluster.stopAgent() == 0)
        let due = begunRuns(agent.errors)
        print("scheduled runs: \(due.map { ($0 - due[0]) / 60 }) minutes after the first")
        #expect(due.allSatisfy { $0 % 60 == 0 })
        #expect(zip(due, due.dropFirst()).allSatisfy { $0 < $1 }, "a minute was run twice: \(due)")
        // Each run made one backup, the last one unless it was stopped with the agent.
        let stopped = agent.errors.contains("the scheduled backup was stopped with the agent") ? 1 : 0
        #expect(!agent.errors.contains("the scheduled backup failed"), "\(agent.errors)")
        let made = try backups(cluster)
        #expect(made.count == due.count - stopped)
        #expect(made.allSatisfy { $0["label"] as? String == "scheduled" })
        let state = try String(contentsOfFile: cluster.root + "/state/main/schedule.json", encoding: .utf8)
        #expect(state.contains("\"handled\":\(due[due.count - 1 - stopped])"), "\(state)")
        #expect(cluster.stopLeader() == 0)
    }

    @Test("A7: a state directory that cannot be written ends neither the agent nor its archiver")
    func unwritableState() throws {
        let cluster = try TestCluster(settings: "schedule: {full: \"* * * * *\"}\narchive: {timeout: 1s}")
        try cluster.startLeader()
        // Root may write anywhere: something in the way of the file stands for a disk that is full.
        let obstacle = cluster.root + "/state/main/schedule.json.tmp"
        try FileManager.default.createDirectory(atPath: obstacle, withIntermediateDirectories: true)
        try cluster.startAgent(environment: ["HOLDFAST_CLOCK_RATE": "60"])
        func failures() -> Int {
            (cluster.agent?.errors.components(separatedBy: "the schedule's state cannot be written").count ?? 1) - 1
        }
        // At the start, and when the first run is due.
        try waitUntil("a run that cannot be noted", while: cluster.agent) { failures() >= 2 }
        try cluster.expect(["load"], input: Data("a\t1\n".utf8))
        try waitUntil("the WAL is archived", while: cluster.agent) {
            guard let archived = try cluster.field("archived_lsn", of: ["status"]) else { return false }
            return !archived.isEmpty && archived != "null"
        }
        #expect(cluster.stopAgent() == 0)
        #expect(cluster.stopLeader() == 0)
    }

    @Test("a run that was missed is made up for once when the agent is back")
    func missedRun() throws {
        let cluster = try TestCluster(settings: "schedule: {full: \"0 2 29 2 *\", timezone: UTC}")
        try cluster.startLeader()
        let state = cluster.root + "/state/main"
        try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
        // Handled long ago: the leap day of 2024 was missed.
        try Data(
            #"{"version":1,"jobs":{"full":{"schedule":"0 2 29 2 * GMT","handled":1700000000,"attempts":0}}}"#.utf8
        ).write(to: URL(filePath: state + "/schedule.json"))
        try cluster.startAgent()
        try waitUntil("the missed backup", while: cluster.agent) { try backups(cluster).count == 1 }
        try waitUntil("the run is noted as done") {
            try String(contentsOfFile: state + "/schedule.json", encoding: .utf8).contains("\"handled\":1709172000")
        }
        #expect(cluster.stopAgent() == 0)
        try cluster.startAgent()
        try waitUntil("the agent runs again", while: cluster.agent) {
            cluster.agent?.errors.contains("archiving") == true
        }
        #expect(cluster.stopAgent() == 0)
        #expect(try backups(cluster).count == 1)
    }

    @Test("a failed run is reported and tried again until it succeeds")
    func retry() throws {
        let cluster = try TestCluster(settings: "schedule: {full: \"* * * * *\"}")
        try cluster.startAgent(environment: ["HOLDFAST_CLOCK_RATE": "60"])
        try waitUntil("a failure in the log", while: cluster.agent) {
            cluster.agent?.errors.contains("the scheduled backup failed") == true
        }
        try cluster.startLeader()
        try waitUntil("a backup", while: cluster.agent) { try !backups(cluster).isEmpty }
        #expect(cluster.stopAgent() == 0)
    }

    @Test("stopping the agent ends a running backup cleanly, and the next start makes up for it")
    func stopDuringBackup() throws {
        // The strongest compression of one worker makes a backup that lasts.
        let cluster = try TestCluster(
            settings: "schedule: {full: \"* * * * *\"}\ncatalog: {uri: \"host=/nonexistent\"}")
        var yaml = try String(contentsOfFile: cluster.configuration, encoding: .utf8)
        yaml.replace(
            "repository: {path: \(cluster.repository)}",
            with: "repository: {path: \(cluster.repository), compression: {level: 19, workers: 1}}")
        try yaml.write(toFile: cluster.configuration, atomically: true, encoding: .utf8)
        try cluster.startLeader()
        var random = SeededGenerator(seed: 5)
        let words = (0..<4096).map { _ in String(random.next(), radix: 36) }
        let records = (0..<4000).map { number in
            "key\(number)\t" + (0..<150).map { _ in words[Int(random.next() % 4096)] }.joined(separator: " ")
        }
        try cluster.expect(["load"], input: Data((records.joined(separator: "\n") + "\n").utf8))
        try cluster.startAgent(environment: ["HOLDFAST_CLOCK_RATE": "30"])
        try waitUntil("a backup is copying", while: cluster.agent) {
            cluster.agent?.errors.contains("copying") == true
        }
        let agent = try #require(cluster.agent)
        #expect(cluster.stopAgent() == 0)
        #expect(agent.errors.contains("the scheduled backup was stopped with the agent"))
        #expect(try backups(cluster).isEmpty)
        try cluster.startAgent()
        try waitUntil("the backup that was stopped", while: cluster.agent) { try backups(cluster).count == 1 }
        #expect(cluster.stopAgent() == 0)
    }

    @Test("a second agent with the same state directory is refused")
    func twoAgents() throws {
        let cluster = try TestCluster()
        try cluster.startAgent()
        try waitUntil("the agent runs", while: cluster.agent) {
            cluster.agent?.errors.contains("agent started") == true
        }
        let second = try cluster.run(["agent"])
        #expect(second.status == 75)
        #expect(second.errors.contains("another agent serves this cluster"))
        #expect(cluster.stopAgent() == 0)
    }

    @Test("D1: archiving fails, then the leader is killed: the segments wait, and are pushed when the archive is back")
    func archiveAway() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.expect(["load"], input: Data("a\t1\n".utf8))
        try waitUntil("the first segment is archived", while: cluster.agent) {
            try cluster.field("archived_lsn", of: ["status"]) != "<null>"
        }
        try FileManager.default.moveItem(atPath: cluster.repository, toPath: cluster.repository + ".away")
        try cluster.expect(["load"], input: Data("b\t2\n".utf8))
        try cluster.expect(["wal", "switch"])
        try waitUntil("a segment waits") {
            try cluster.field("archive_waiting", of: ["status"]).flatMap { Int($0) } ?? 0 > 0
        }
        try waitUntil("the agent says so", while: cluster.agent) {
            cluster.agent?.errors.contains("WAL cannot be archived now") == true
        }
        cluster.killLeader()
        try cluster.startLeader()
        let waiting = try #require(try cluster.field("archive_waiting", of: ["status"]).flatMap { Int($0) })
        #expect(waiting >= 1)
        try FileManager.default.moveItem(atPath: cluster.repository + ".away", toPath: cluster.repository)
        try waitUntil("the queue is empty", while: cluster.agent) {
            try cluster.field("archive_waiting", of: ["status"]) == "0"
        }
        let wal = try cluster.json(["wal", "list"])["timelines"] as? [[String: Any]]
        #expect((wal?.first?["gaps"] as? [Any])?.isEmpty == true)
        #expect(try cluster.dump() == "a\t1\nb\t2\n")
    }

    @Test("the leader's lease is held while the leader lives, and given back on an orderly stop")
    func lease() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.expect(["load"], input: Data("a\t1\n".utf8))
        try cluster.expect(["backup"])
        try waitUntil("the lease is held", while: cluster.agent) {
            cluster.agent?.errors.contains("the leader's lease is held") == true
        }
        let refused = try cluster.run(["restore", "--data", cluster.root + "/new"])
        #expect(refused.status == 75)
        #expect(refused.errors.contains("the leader of cluster main is alive"))
        #expect(cluster.stopAgent() == 0)
        #expect(cluster.stopLeader() == 0)
        try cluster.expect(["restore", "--data", cluster.root + "/new"])
    }
}
