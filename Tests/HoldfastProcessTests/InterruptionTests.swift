import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

/// SIGKILL at moments from a printed seed, in the middle of the long jobs.
@Suite("What is interrupted is never taken for whole, and the next run works", .serialized)
struct InterruptionTests {
    /// A leader with some MiB that do not compress, and its agent.
    private func filledCluster() throws -> TestCluster {
        let cluster = try TestCluster()
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.fill(300, bytes: 40_000)
        return cluster
    }

    /// Of what is no backup only the name may be left, so that it is not given twice.
    private func expectNoRemains(of cluster: TestCluster) throws {
        let directory = cluster.repository + "/main/backups/"
        let usable = try Set(cluster.backupIDs())
        for id in try FileManager.default.contentsOfDirectory(atPath: directory) where !usable.contains(id) {
            let files = try FileManager.default.contentsOfDirectory(atPath: directory + id)
            #expect(!files.contains { $0.hasPrefix("base-") }, "\(id) still has \(files)")
        }
    }

    @Test("C6: a backup killed at random moments is no backup to any command, and the next one works")
    func backupKilled() throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("backup killed"))
        let cluster = try filledCluster()
        let span = try microseconds { try cluster.expect(["backup"]) }
        let first = try #require(try cluster.backupIDs().first)
        var interrupted = 0
        for round in 0..<12 {
            let known = try Set(cluster.backupIDs())
            let backup = try cluster.launch(["backup", "--label", "round-\(round)"])
            usleep(UInt32(UInt64.random(in: 0...span, using: &random)))
            backup.kill()
            let usable = try cluster.backups()
            for directory in try FileManager.default.contentsOfDirectory(atPath: cluster.repository + "/main/backups")
            where !known.contains(directory) {
                let isWhole = usable.contains { $0["id"] as? String == directory }
                if isWhole { continue }
                interrupted += 1
                let restore = try cluster.run([
                    "restore", "--dry-run", "--data", cluster.root + "/x", "--backup", directory,
                ])
                #expect(restore.status == 65, "\(restore.errors)")
                #expect(restore.errors.contains(directory), "\(restore.errors)")
            }
        }
        print("backup killed: \(interrupted) left something unfinished")
        #expect(interrupted > 0, "no kill hit a backup under way")
        try cluster.expect(["backup", "--label", "after"])
        let last = try #require(try cluster.backups().last)
        #expect(last["label"] as? String == "after")
        // What was unfinished is cleared up.
        try expectNoRemains(of: cluster)
        #expect(try cluster.backupIDs().contains(first))
        let expected = try cluster.dump()
        try cluster.archivedPoint("end")
        #expect(cluster.stopAgent() == 0)
        cluster.killLeader()
        try cluster.restoreAndStart(["--target-name", "end"])
        #expect(try cluster.dump() == expected)
    }

    @Test("C6: a second backup while one runs ends with 75 and says who holds the cluster; the first one is whole")
    func twoBackups() throws {
        let cluster = try filledCluster()
        let first = try cluster.launch(["backup", "--label", "first", "--max-rate", "2MiB"])
        try waitUntil("pages are copied", while: first) { first.errors.contains("copying") }
        let second = try cluster.run(["backup", "--label", "second"])
        #expect(first.isRunning, "the first one was over before the second began: \(first.errors)")
        #expect(second.status == 75, "\(second.errors)")
        for word in ["held by another job", "process \(first.pid)", ProcessInfo.processInfo.hostName, "hint:"] {
            #expect(second.errors.contains(word), "it does not say \"\(word)\": \(second.errors)")
        }
        #expect(second.output == "")
        #expect(first.wait() == 0, "\(first.errors)")
        let ids = try cluster.backupIDs()
        #expect(try cluster.backups().map { $0["label"] as? String } == ["first"])
        // The one that was refused has not even taken an id.
        #expect(try FileManager.default.contentsOfDirectory(atPath: cluster.repository + "/main/backups") == ids)
        try cluster.expect(["backup", "--label", "third"])
        #expect(try cluster.backupIDs().count == 2)
    }

    @Test("C6: the leader is killed during a backup: the backup fails, nothing is left of it, the next one works")
    func leaderKilled() throws {
        let cluster = try filledCluster()
        try cluster.expect(["backup"])
        let expected = try cluster.dump()
        let backup = try cluster.launch(["backup", "--label", "lost", "--max-rate", "1MiB"])
        try waitUntil("pages are copied", while: backup) { backup.errors.contains("copying") }
        cluster.killLeader()
        let status = backup.wait()
        #expect(status == 69 || status == 74, "\(status): \(backup.errors)")
        #expect(backup.errors.contains("hint:"), "\(backup.errors)")
        #expect(try cluster.backups().allSatisfy { $0["label"] as? String != "lost" })
        try cluster.startLeader()
        try cluster.expect(["backup", "--label", "next"])
        #expect(try cluster.backups().last?["label"] as? String == "next")
        try expectNoRemains(of: cluster)
        #expect(try cluster.dump() == expected)
    }

    @Test("C6: the agent is stopped during a scheduled backup: it ends cleanly, and the run is made up for")
    func agentStopped() throws {
        // Once a year: the run that is cut off is the only one that can be made up for. Ten minutes take a second.
        let due = Calendar(identifier: .gregorian).dateComponents(
            in: .gmt, from: Date(timeIntervalSinceNow: 600))
        let cluster = try TestCluster(
            settings: """
                schedule: {full: "\(due.minute!) \(due.hour!) \(due.day!) \(due.month!) *", timezone: UTC}
                """)
        try cluster.startLeader()
        try cluster.fill(600, bytes: 40_000)
        try cluster.startAgent(environment: ["HOLDFAST_CLOCK_RATE": "600"])
        let agent = try #require(cluster.agent)
        try waitUntil("a scheduled backup copies", while: agent) { agent.errors.contains("copying") }
        #expect(cluster.stopAgent() == 0, "\(agent.errors)")
        try #require(agent.errors.contains("due at the next start"), "the backup was quicker: \(agent.errors)")
        // Nothing of it counts, on the leader or in the repository, and no lock is left that the next one would wait for.
        #expect(try cluster.backupIDs() == [])
        try expectNoRemains(of: cluster)
        let directory = cluster.repository + "/main/backups/"
        for id in try FileManager.default.contentsOfDirectory(atPath: directory) {
            let files = try FileManager.default.contentsOfDirectory(atPath: directory + id)
            #expect(files.contains("backup.json"), "\(id) was not given up: \(files)")
        }
        try waitUntil("the leader forgets it") { try cluster.serverInfo().contains("running_backups:0") }
        // A clock that is past the moment at once, and months before the next one.
        try cluster.startAgent(environment: ["HOLDFAST_CLOCK_RATE": "100000"])
        try waitUntil("the scheduled backup is made up for", seconds: 15, while: cluster.agent) {
            try cluster.backupIDs().count == 1
        }
        #expect(try cluster.backups().first?["label"] as? String == "scheduled")
        #expect(cluster.stopAgent() == 0)
        #expect(cluster.stopLeader() == 0)
    }

    @Test("D6: a restore killed at random moments is refused by serve, and the same command finishes it")
    func restoreKilled() throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("restore killed"))
        let cluster = try filledCluster()
        try cluster.expect(["backup"])
        try cluster.load("late\t1\n")
        let expected = try cluster.dump()
        try cluster.archivedPoint("end")
        #expect(cluster.stopAgent() == 0)
        #expect(cluster.stopLeader() == 0)
        let arguments = ["restore", "--data", cluster.root + "/new", "--target-name", "end"]
        let span = try microseconds { try cluster.expect(arguments) }
        var halfDone = 0
        for round in 0..<24 where round < 10 || halfDone == 0 {
            try FileManager.default.removeItem(atPath: cluster.root + "/new")
            let restore = try cluster.launch(arguments)
            usleep(UInt32(UInt64.random(in: 0...span, using: &random)))
            restore.kill()
            // What it left is whole, or nothing takes it for whole and the same command finishes it.
            if !FileManager.default.fileExists(atPath: cluster.root + "/new/recovery.signal") {
                for command in ["serve", "check", "dump"] {
                    let result = try cluster.run([command, "--data", cluster.root + "/new"])
                    #expect(result.status == 65, "\(command) took a half-done restore: \(result.errors)")
                    if result.errors.contains("not finished") {
                        halfDone += 1
                        #expect(result.errors.contains("--target-name end"), "no way out: \(result.errors)")
                    }
                }
            }
            let again = try cluster.run(arguments)
            // A restore that was complete before it was killed is refused: a second one would replace it.
            #expect(again.status == 0 || again.errors.contains("already holds"), "\(again.errors)")
            #expect(FileManager.default.fileExists(atPath: cluster.root + "/new/recovery.signal"))
        }
        print("restore killed: \(halfDone) refusals of what was half done")
        #expect(halfDone > 0, "no kill hit a restore under way")
        cluster.data = cluster.root + "/new"
        try cluster.writeConfiguration()
        try cluster.startLeader()
        #expect(try cluster.dump() == expected)
    }
}
