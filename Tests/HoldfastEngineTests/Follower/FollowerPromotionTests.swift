import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("A follower is promoted whole, once, and others go on behind it")
struct FollowerPromotionTests {
    /// A cluster, and a follower's disk that has all of its log.
    private static func caughtUp(seed: UInt64) throws -> (cluster: FollowedCluster, disk: SimulatedDisk) {
        let cluster = try FollowedCluster(seed: seed)
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        try cluster.write(6)
        let disk = try cluster.restored(seed: seed)
        let follower = try cluster.open(disk)
        try follower.streamSoon(from: cluster.engine, cluster.disk, &random)
        guard follower.waitApplied(cluster.engine.durableLSN) else { throw Unexpected("it does not catch up") }
        follower.abandon()
        return (cluster, disk)
    }

    private static func waitCaughtUp(_ follower: Engine, _ lsn: LSN) throws {
        guard follower.waitApplied(lsn) else { throw Unexpected("at \(follower.publishedLSN) of \(lsn)") }
    }

    /// The promoted node is a leader with this content, also when the power fails once more, and says so without an archive.
    private static func check(_ engine: Engine, _ disk: SimulatedDisk, _ model: EngineModel) throws {
        guard engine.status.role == .leader else { throw Unexpected("it is no leader") }
        try engine.write { try $0.put("after", bytes("promotion"), bytes("1")) }
        engine.abandon()
        let after = disk.restart(seed: 1)
        for name in [BackupLabel.path, StandbySignal.fileName, PromoteSignal.path] where try after.exists(name) {
            throw Unexpected("\(name) is still there")
        }
        var options = quietOptions()
        options.archiving = true
        let leader = try Engine(opening: after, options: options)
        defer { leader.abandon() }
        var written = model
        written.trees["after"] = [bytes("promotion"): bytes("1")]
        guard try EngineModel(trees: leader.everything()) == written else { throw Unexpected("other content") }
        let problems = try leader.problems()
        guard problems.isEmpty else { throw Unexpected("\(problems)") }
    }

    @Test(
        "E1: the power fails at each I/O call of a promotion: the node follows or is the leader, with everything received"
    )
    func everyCall() throws {
        let seed = SeededGenerator64.announced("a promotion that is cut off")
        let (cluster, base) = try Self.caughtUp(seed: seed)
        let lsn = cluster.engine.durableLSN
        // The calls of a whole promotion, from where it begins.
        func open(_ disk: SimulatedDisk) throws -> Engine {
            let follower = try cluster.open(disk)
            if follower.isFollower { try Self.waitCaughtUp(follower, lsn) }
            return follower
        }
        let trial = base.afterKill(seed: seed)
        let whole = try open(trial)
        let first = trial.calls
        // Each attempt claims for itself: the archive is shared, so that claims of cut off attempts are theirs alone.
        try whole.promote()
        let calls = trial.calls - first
        let timeline = whole.status.timeline
        try Self.check(whole, trial, cluster.model)
        #expect(timeline > .first)
        let outcome = Mutex((resumed: 0, followed: 0))
        let failures = concurrently(Array(stride(from: 1, through: calls + 8, by: 2))) { call in
            let mine = try Self.caughtUp(seed: seed)
            let disk = mine.disk.afterKill(seed: seed &+ UInt64(call))
            let lsn = mine.cluster.engine.durableLSN
            let follower = try mine.cluster.open(disk)
            try Self.waitCaughtUp(follower, lsn)
            disk.failPower(atCall: disk.calls + call)
            try? follower.promote()
            follower.abandon()
            let after = disk.restart(seed: seed &+ UInt64(call))
            let again = try mine.cluster.open(after)
            if again.isFollower {
                outcome.withLock { $0.followed += 1 }
                guard again.publishedLSN <= lsn else { throw Unexpected("it has more than it received") }
                try Self.waitCaughtUp(again, lsn)
                try again.promote()
            } else {
                outcome.withLock { $0.resumed += 1 }
            }
            guard mine.cluster.archive.claims == [again.status.timeline] else {
                throw Unexpected("it is on \(again.status.timeline), and claimed were \(mine.cluster.archive.claims)")
            }
            try Self.check(again, after, mine.cluster.model)
        }
        print("promotions of \(calls) calls that were cut off: \(outcome.withLock { "\($0)" })")
        #expect(failures == [])
        #expect(outcome.withLock { $0.resumed > 0 && $0.followed > 0 })
    }

    @Test("E5: two followers are promoted at once: one wins, the other says so and still follows")
    func rivals() throws {
        let seed = SeededGenerator64.announced("two promotions")
        let (cluster, disk) = try Self.caughtUp(seed: seed)
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        let lsn = cluster.engine.durableLSN
        let followers = try [disk.afterKill(seed: 1), disk.afterKill(seed: 2)].map { ($0, try cluster.open($0)) }
        for (_, follower) in followers { try Self.waitCaughtUp(follower, lsn) }
        let results = Mutex<[Int: String]>([:])
        DispatchQueue.concurrentPerform(iterations: 2) { index in
            do {
                try followers[index].1.promote()
                results.withLock { $0[index] = "won" }
            } catch { results.withLock { $0[index] = "\(error)" } }
        }
        let told = results.withLock { $0 }
        #expect(told.values.filter { $0 == "won" }.count == 1, "\(told)")
        let winner = told[0] == "won" ? 0 : 1
        #expect(cluster.archive.claims.count == 1)
        let loser = followers[1 - winner].1
        #expect(loser.isFollower)
        #expect(throws: (any Error).self) { try loser.promote() }
        // It goes on behind the one that won, whose timeline it finds in the archive.
        let leader = followers[winner].1
        try leader.write { try $0.put("won", bytes("a"), bytes("b")) }
        for _ in 0..<200 where loser.status.timeline != leader.status.timeline { usleep(20_000) }
        #expect(loser.status.timeline == leader.status.timeline)
        for _ in 0..<2000 where loser.publishedLSN < leader.durableLSN {
            if try !loser.stream(from: leader, followers[winner].0, &random) { usleep(1000) }
        }
        #expect(loser.waitApplied(leader.durableLSN))
        #expect(try EngineModel(trees: loser.everything()) == EngineModel(trees: leader.everything()))
        loser.abandon()
        leader.abandon()
        // And after a restart it still does.
        let again = try cluster.open(followers[1 - winner].0.restart(seed: seed))
        #expect(again.status.timeline == leader.status.timeline)
        again.abandon()
    }

    @Test("E4: a timeline that left this node's own before what the node has is not followed, and the node says so")
    func diverged() throws {
        let seed = SeededGenerator64.announced("a follower ahead of the fork")
        let (cluster, disk) = try Self.caughtUp(seed: seed)
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        let behind = try cluster.open(disk.afterKill(seed: 1))
        try Self.waitCaughtUp(behind, cluster.engine.durableLSN)
        let ahead = try cluster.open(disk.afterKill(seed: 2))
        try Self.waitCaughtUp(ahead, cluster.engine.durableLSN)
        try cluster.write(3)
        try ahead.streamSoon(from: cluster.engine, cluster.disk, &random)
        try Self.waitCaughtUp(ahead, cluster.engine.durableLSN)
        try behind.promote()
        for _ in 0..<200 where ahead.status.follower?.problem?.contains("rewound") != true { usleep(20_000) }
        #expect(ahead.status.follower?.problem?.contains("rewound") == true, "\(ahead.status)")
        #expect(ahead.status.timeline == .first)
        #expect(try EngineModel(trees: ahead.everything()) == cluster.model)
        ahead.abandon()
        behind.abandon()
    }

    @Test("E1: with the archive away a promotion is refused, and the node goes on following")
    func archiveAway() throws {
        let seed = SeededGenerator64.announced("a promotion without the archive")
        let (cluster, disk) = try Self.caughtUp(seed: seed)
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        let follower = try cluster.open(disk)
        try Self.waitCaughtUp(follower, cluster.engine.durableLSN)
        cluster.archive.setAway(true)
        #expect(throws: (any Error).self) { try follower.promote() }
        #expect(follower.isFollower)
        try cluster.write(2)
        for _ in 0..<2000 where follower.publishedLSN < cluster.engine.durableLSN {
            if try !follower.stream(from: cluster.engine, cluster.disk, &random) { usleep(1000) }
        }
        try Self.waitCaughtUp(follower, cluster.engine.durableLSN)
        cluster.archive.setAway(false)
        try follower.promote()
        try Self.check(follower, disk, cluster.model)
    }
}

@Suite("A follower goes the way of the newest timeline")
struct FollowerTimelineTests {
    @Test(
        "E4: a backup of before the fork, an archive that holds the abandoned branch beyond it: the fork is not passed",
        arguments: [true, false])
    func abandonedBranch(isArchived: Bool) throws {
        let seed = SeededGenerator64.announced("an abandoned branch in the archive")
        let fork = try ForkedCluster(seed: seed)
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        if isArchived {
            try fork.leader.switchWAL()
            fork.cluster.archiveAll(of: fork.leader, fork.disk)
        }
        // Without the new timeline's first segment in the archive the node begins to receive in the middle of one.
        let disk = try fork.cluster.restored(seed: seed, node: "c")
        let node = try fork.cluster.open(disk)
        for _ in 0..<2000 where node.publishedLSN < fork.leader.durableLSN {
            if try !node.stream(from: fork.leader, fork.disk, &random) { usleep(1000) }
        }
        try fork.requireFollows(node)
        node.abandon()
        // The timeline came from the archive; a restart knows it without.
        #expect(try disk.restart(seed: seed).exists(TimelineHistory.walPath(fork.leader.status.timeline)))
        fork.leader.abandon()
    }

    @Test("E4: a node that reads the archive while another is promoted goes along, and does not pass the fork")
    func promotedMeanwhile() throws {
        let seed = SeededGenerator64.announced("promoted meanwhile")
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        var opened: (disk: SimulatedDisk, node: Engine)?
        let fork = try ForkedCluster(seed: seed) { cluster in
            let disk = try cluster.restored(seed: seed, node: "c")
            let node = try cluster.open(disk)
            guard node.waitApplied(SegmentNumber(containing: cluster.engine.durableLSN).start) else {
                throw Unexpected("it does not catch up")
            }
            opened = (disk, node)
        }
        let (disk, node) = opened!  // Set above.
        // It looks once a second, and finds the claim and the abandoned branch's segments.
        for _ in 0..<300 where node.publishedLSN < fork.fork { usleep(10_000) }
        for _ in 0..<2000 where node.publishedLSN < fork.leader.durableLSN {
            if try !node.stream(from: fork.leader, fork.disk, &random) { usleep(1000) }
        }
        try fork.requireFollows(node)
        node.abandon()
        // And from a restart, in the middle of the new timeline's first segment.
        try fork.leader.write { try $0.put("new", bytes("more"), bytes("value")) }
        let again = try fork.cluster.open(disk.restart(seed: seed))
        for _ in 0..<2000 where again.publishedLSN < fork.leader.durableLSN {
            if try !again.stream(from: fork.leader, fork.disk, &random) { usleep(1000) }
        }
        try fork.requireFollows(again)
        again.abandon()
        fork.leader.abandon()
    }

    @Test("D1: whole segments that only the promoted node has are marked for the archive, and nothing else is")
    func marks() throws {
        let seed = SeededGenerator64.announced("what a promotion leaves for the archive")
        let cluster = try FollowedCluster(seed: seed)
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        let disk = try cluster.restored(seed: seed)
        let node = try cluster.open(disk)
        for _ in 0..<3 {
            try cluster.write(2)
            // Switched and not archived: the leader is lost before its archiver comes.
            try cluster.engine.switchWAL()
            try cluster.write(1)
            try node.streamSoon(from: cluster.engine, cluster.disk, &random)
        }
        guard node.waitApplied(cluster.engine.durableLSN) else { throw Unexpected("it does not catch up") }
        try node.promote()
        let ready = try disk.list("wal/archive_status").compactMap {
            $0.hasSuffix(".ready") ? SegmentName($0.dropLast(6)) : nil
        }
        let wal = disk.contents()
        let old = ready.filter { $0.timeline == .first }
        #expect(old.count >= 3)
        for name in old {
            let leaders = cluster.disk.contents()[name.walPath]
            #expect(wal[name.walPath] == leaders, "\(name) is not what the leader had")
        }
        let missing = cluster.disk.contents().keys.compactMap { SegmentName($0.dropFirst(4)) }.filter {
            $0.segment.end <= node.publishedLSN && !cluster.archive.names.contains($0) && !old.contains($0)
        }
        #expect(missing.isEmpty, "neither archived nor marked: \(missing)")
        node.abandon()
    }
}
