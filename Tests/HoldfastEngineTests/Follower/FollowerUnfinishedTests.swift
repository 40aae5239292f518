import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Testing

@testable import HoldfastEngine

@Suite("What a follower has confirmed outlives a promotion that failed half-way, and an archive that is away")
struct FollowerUnfinishedTests {
    private typealias Random = HoldfastTestSupport.SeededGenerator

    /// A follower without threads: each test says when it replays.
    private static func open(_ cluster: FollowedCluster, _ disk: SimulatedDisk) throws -> Engine {
        var options = quietOptions()
        options.archiving = true
        options.recovery = cluster.archive
        options.runsFollowerThreads = false
        return try Engine(opening: disk, options: options)
    }

    @Test(
        "E1, A7: a promotion finds no space behind its claim: nothing more is confirmed on the old timeline, and it is finished later",
        arguments: [true, false])
    func promotedWithoutSpace(restarts: Bool) throws {
        let seed = SeededGenerator64.announced("a promotion that finds no space")
        let cluster = try FollowedCluster(seed: seed)
        var random = Random(seed: seed)
        try cluster.write(4)
        let disk = try cluster.restored(seed: seed)
        var node = try cluster.open(disk)
        try node.streamSoon(from: cluster.engine, cluster.disk, &random)
        guard node.waitApplied(cluster.engine.durableLSN) else { throw Unexpected("it does not catch up") }
        // The new timeline's first segment finds no room.
        disk.injectFaults { call in
            call.path.hasPrefix("wal/00000002") && [.write, .allocate, .setSize].contains(call.kind)
                ? .error(.noSpace) : nil
        }
        #expect(throws: (any Error).self) { try node.promote() }
        #expect(cluster.archive.claims.count == 1)
        disk.injectFaults(nil)
        // The old leader has not seen the claim yet, and counts on what this node confirms.
        var confirmed = node.logFollower?.positions.flushed ?? .zero
        let before = cluster.model
        try cluster.write(3)
        for _ in 0..<100 {
            if try node.stream(from: cluster.engine, cluster.disk, &random) { break }
            usleep(5000)
        }
        _ = node.waitApplied(cluster.engine.durableLSN, seconds: 1)
        confirmed = max(confirmed, node.logFollower?.positions.flushed ?? .zero)
        if restarts {
            node.abandon()
            node = try cluster.open(disk.restart(seed: seed))
        } else {
            try node.promote()
        }
        defer { node.abandon() }
        #expect(node.status.role == .leader)
        #expect(cluster.archive.claims == [node.status.timeline])
        let switchLSN = try node.timelineHistory().current.switchLSN
        #expect(switchLSN >= confirmed, "\(confirmed) was confirmed, and the new timeline begins at \(switchLSN)")
        #expect(try EngineModel(trees: node.everything()) == before)
        #expect(try node.problems().isEmpty)
    }

    @Test(
        "E3: the archive's segment took the place of one that was confirmed: with the archive away no promotion goes without it",
        arguments: [true, false])
    func archiveInBetween(streamsOn: Bool) throws {
        let seed = SeededGenerator64.announced("a segment of the archive in a follower's log")
        let cluster = try FollowedCluster(seed: seed)
        var random = Random(seed: seed)
        let disk = try cluster.restored(seed: seed)
        var node = try Self.open(cluster, disk)
        node.replayStep(turns: 64)
        try cluster.write(3)
        #expect(try node.stream(from: cluster.engine, cluster.disk, &random))
        node.replayStep(turns: 8)
        var confirmed = try #require(node.logFollower).positions.flushed
        #expect(confirmed == cluster.engine.durableLSN)
        // The stream is gone for so long that the archive has the whole segment.
        try cluster.write(2)
        try cluster.engine.switchWAL()
        cluster.archiveAll()
        node.replayStep(turns: 64)
        if streamsOn {
            try cluster.write(3)
            #expect(try node.stream(from: cluster.engine, cluster.disk, &random))
            confirmed = try #require(node.logFollower).positions.flushed
            #expect(confirmed == cluster.engine.durableLSN)
        }
        node.abandon()
        node = try Self.open(cluster, disk.restart(seed: seed))
        defer { node.abandon() }
        cluster.archive.setAway(true)
        node.replayStep(turns: 8)
        // Whoever chooses a leader must not go by where it stands now.
        let status = try #require(node.status.follower)
        #expect(!status.hasReadItsLog || status.positions.flushed >= confirmed)
        do {
            try node.promote(PromotionOptions(withoutRepository: true))
            #expect(node.durableLSN >= confirmed, "\(confirmed) was confirmed, and is gone")
        } catch {
            #expect(node.isFollower)
            cluster.archive.setAway(false)
            try node.promote()
        }
        let switchLSN = try node.timelineHistory().current.switchLSN
        #expect(switchLSN >= confirmed, "\(confirmed) was confirmed, and the new timeline begins at \(switchLSN)")
    }
}
