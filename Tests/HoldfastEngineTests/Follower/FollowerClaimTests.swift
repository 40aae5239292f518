import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("A follower's claim: its own is taken up, another's stands, and none is needed where the operator says so")
struct FollowerClaimTests {
    private static func caughtUp(
        seed: UInt64, instances: [String] = ["b"]
    ) throws -> (cluster: FollowedCluster, nodes: [(engine: Engine, disk: SimulatedDisk)]) {
        let cluster = try FollowedCluster(seed: seed)
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        try cluster.write(6)
        let nodes = try instances.enumerated().map { index, instance in
            let disk = try cluster.restored(seed: seed &+ UInt64(index), node: instance)
            let engine = try cluster.open(disk, instance: instance)
            try engine.streamSoon(from: cluster.engine, cluster.disk, &random)
            guard engine.waitApplied(cluster.engine.durableLSN) else { throw Unexpected("it does not catch up") }
            return (engine, disk)
        }
        return (cluster, nodes)
    }

    private static func token(_ cluster: FollowedCluster, _ timeline: TimelineID) throws -> TimelineToken? {
        try cluster.archive.history(timeline).map { try TimelineHistory(decoding: $0).current.token }
    }

    @Test(
        "E5: a claim was written though its call failed: another is refused, the node itself takes it up, also restarted"
    )
    func takenUp() throws {
        let seed = SeededGenerator64.announced("an orphan claim")
        for restarts in [false, true] {
            let (cluster, nodes) = try Self.caughtUp(seed: seed, instances: ["b", "c"])
            var (engine, disk) = nodes[0]
            cluster.archive.loseAnswers(1)
            #expect(throws: GrowingArchive.Away.self) { try engine.promote() }
            #expect(engine.isFollower)
            let claimed = try #require(cluster.archive.claims.last)
            let token = try Self.token(cluster, claimed)
            if restarts {
                engine.abandon()
                disk = disk.restart(seed: seed)
                engine = try cluster.open(disk, instance: "b")
                #expect(engine.waitApplied(cluster.engine.durableLSN))
            }
            // Long enough for it to look at the archive's timelines.
            usleep(1_200_000)
            #expect(engine.status.timeline == .first)
            #expect(throws: (any Error).self) { try nodes[1].engine.promote() }
            #expect(nodes[1].engine.isFollower)
            try engine.promote()
            #expect(engine.status.timeline == claimed && engine.status.timelineToken == token)
            #expect(cluster.archive.claims == [claimed])
            #expect(try EngineModel(trees: engine.everything()) == cluster.model)
            #expect(try !disk.exists(ClaimSignal.path))
            engine.abandon()
            nodes[1].engine.abandon()
        }
    }

    @Test(
        "E1, E5: the power fails at calls of a promotion without the repository: all is there, and what is owed is known"
    )
    func cutOffWithoutRepository() throws {
        let seed = SeededGenerator64.announced("a promotion without the repository that is cut off")
        let wish = PromotionOptions(withoutRepository: true)
        /// Returns what the promotion made of calls; with `call` the power fails at that one.
        @Sendable func promote(failingAt call: Int?) throws -> (FollowedCluster, SimulatedDisk, calls: Int) {
            let (cluster, nodes) = try Self.caughtUp(seed: seed)
            let (engine, disk) = nodes[0]
            cluster.archive.setAway(true)
            let first = disk.calls
            if let call { disk.failPower(atCall: first + call) }
            do { try engine.promote(wish) } catch { guard call != nil else { throw error } }
            let calls = disk.calls - first
            engine.abandon()
            cluster.archive.setAway(false)
            return (cluster, disk, calls)
        }
        let outcome = Mutex((followed: 0, owed: 0, claimed: 0))
        let calls = try promote(failingAt: nil).calls
        let failures = concurrently(Array(stride(from: 1, through: calls + 4, by: 3))) { call in
            let (cluster, disk, _) = try promote(failingAt: call)
            let after = disk.restart(seed: seed &+ UInt64(call))
            let engine = try cluster.open(after, instance: "b")
            defer { engine.abandon() }
            if engine.isFollower {
                outcome.withLock { $0.followed += 1 }
                guard engine.waitApplied(cluster.engine.durableLSN) else { throw Unexpected("it lost what it had") }
                guard cluster.archive.claims.isEmpty else { throw Unexpected("a follower has claimed") }
            } else if cluster.archive.claims.isEmpty {
                outcome.withLock { $0.owed += 1 }
                let status = engine.status
                let owed = try ClaimSignal.read(after)
                guard owed?.timeline == status.timeline, owed?.token == status.timelineToken else {
                    throw Unexpected("nobody knows that the claim is owed: \(owed as Any)")
                }
            } else {
                outcome.withLock { $0.claimed += 1 }
                guard cluster.archive.claims == [engine.status.timeline],
                    try Self.token(cluster, engine.status.timeline) == engine.status.timelineToken
                else { throw Unexpected("claimed were \(cluster.archive.claims)") }
            }
            guard try EngineModel(trees: engine.everything()) == cluster.model else {
                throw Unexpected("other content")
            }
        }
        print("promotions without the repository that were cut off: \(outcome.withLock { "\($0)" })")
        #expect(failures == [])
        #expect(outcome.withLock { $0.followed > 0 && $0.owed > 0 })
    }

    @Test("E5: a copy of the directory elsewhere does not take up the claim of the first")
    func copied() throws {
        let seed = SeededGenerator64.announced("a copied claim")
        let (cluster, nodes) = try Self.caughtUp(seed: seed)
        cluster.archive.loseAnswers(1)
        #expect(throws: GrowingArchive.Away.self) { try nodes[0].engine.promote() }
        let copy = try cluster.open(nodes[0].disk.afterKill(seed: seed), instance: "elsewhere")
        defer { copy.abandon() }
        #expect(copy.waitApplied(cluster.engine.durableLSN))
        #expect(throws: (any Error).self) { try copy.promote() }
        #expect(copy.isFollower)
        try nodes[0].engine.promote()
        nodes[0].engine.abandon()
    }

    @Test("E5: the log went on behind a claim that was lost sight of: the next number, and the old one is nobody's")
    func otherFork() throws {
        let seed = SeededGenerator64.announced("a claim from another place")
        let (cluster, nodes) = try Self.caughtUp(seed: seed)
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        let (engine, disk) = nodes[0]
        cluster.archive.loseAnswers(1)
        #expect(throws: GrowingArchive.Away.self) { try engine.promote() }
        let orphan = try #require(cluster.archive.claims.last)
        try cluster.write(2)
        try engine.streamSoon(from: cluster.engine, cluster.disk, &random)
        #expect(engine.waitApplied(cluster.engine.durableLSN))
        try engine.promote()
        #expect(engine.status.timeline > orphan)
        #expect(cluster.archive.claims == [orphan, engine.status.timeline])
        let history = try TimelineHistory(decoding: try #require(cluster.archive.history(engine.status.timeline)))
        #expect(history.entry(orphan) == nil)
        #expect(try EngineModel(trees: engine.everything()) == cluster.model)
        engine.abandon()
        _ = disk
    }

    @Test("E5: a claim of a node that is gone is passed over by force alone, and not when something was written on it")
    func forced() throws {
        let seed = SeededGenerator64.announced("a foreign claim")
        let (cluster, nodes) = try Self.caughtUp(seed: seed, instances: ["b", "c"])
        cluster.archive.loseAnswers(1)
        #expect(throws: GrowingArchive.Away.self) { try nodes[0].engine.promote() }
        nodes[0].engine.abandon()
        let other = nodes[1].engine
        let orphan = try #require(cluster.archive.claims.last)
        // Before it has gone along to that timeline, and after.
        #expect(throws: (any Error).self) { try other.promote() }
        for _ in 0..<3000 where other.status.timeline != orphan { usleep(20_000) }
        #expect(other.status.timeline == orphan)
        #expect(throws: PromotionError.self) { try other.promote() }
        #expect(throws: (any Error).self) { try other.promote(.init(withoutRepository: true)) }
        let name = SegmentName(
            timeline: orphan, segment: SegmentNumber(containing: other.publishedLSN + 10 * SegmentNumber.bytes))
        cluster.archive.add(name, [])
        #expect(throws: (any Error).self) { try other.promote(.init(isForced: true)) }
        #expect(other.isFollower)
        cluster.archive.remove(name)
        try other.promote(.init(isForced: true))
        #expect(other.status.timeline > orphan)
        #expect(try EngineModel(trees: other.everything()) == cluster.model)
        other.abandon()
    }

    @Test("E5: a number that another has claimed meanwhile is not this node's, though it follows one of that number")
    func otherToken() throws {
        let seed = SeededGenerator64.announced("two timelines of one number")
        let (cluster, nodes) = try Self.caughtUp(seed: seed, instances: ["b", "c", "d"])
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        let (leader, follower, other) = (nodes[0].engine, nodes[1].engine, nodes[2].engine)
        defer { for node in nodes { node.engine.abandon() } }
        cluster.archive.setAway(true)
        try leader.promote(.init(withoutRepository: true))
        try leader.write { try $0.put("new", bytes("key"), bytes("value")) }
        for _ in 0..<4000 where follower.publishedLSN < leader.durableLSN {
            // At the fork it is told of the next timeline, and goes over.
            if try !follower.stream(from: leader, nodes[0].disk, &random) { usleep(1000) }
        }
        #expect(follower.status.timelineToken == leader.status.timelineToken)
        cluster.archive.setAway(false)
        try other.promote()
        #expect(other.status.timeline == leader.status.timeline)
        #expect(throws: PromotionError.self) { try follower.promote() }
        #expect(follower.isFollower)
        #expect(cluster.archive.claims == [other.status.timeline])
        // By force, as long as nothing was written there.
        let name = SegmentName(
            timeline: other.status.timeline,
            segment: SegmentNumber(containing: other.durableLSN + 10 * SegmentNumber.bytes))
        cluster.archive.add(name, [])
        #expect(throws: (any Error).self) { try follower.promote(.init(isForced: true)) }
        cluster.archive.remove(name)
        try follower.promote(.init(isForced: true))
        #expect(follower.status.timeline > other.status.timeline)
    }

    @Test(
        "E1: with the archive away a promotion without it opens the next timeline, also after a crash, and owes the claim"
    )
    func withoutRepository() throws {
        let seed = SeededGenerator64.announced("a promotion without the repository")
        var outcomes = (owed: 0, claimed: 0)
        for crash in [0] + Array(stride(from: 5, through: 69, by: 4)) {
            let (cluster, nodes) = try Self.caughtUp(seed: seed)
            var (engine, disk) = nodes[0]
            cluster.archive.setAway(true)
            #expect(throws: (any Error).self) { try engine.promote() }
            if crash > 0 { disk.failPower(atCall: disk.calls + crash) }
            let isDone = (try? engine.promote(.init(withoutRepository: true))) != nil
            if isDone, crash > 0 {
                // It has fewer calls; the power would fail in what follows.
                engine.abandon()
                continue
            }
            if !isDone {
                engine.abandon()
                disk = disk.restart(seed: seed)
                // A follower that starts must read the archive.
                cluster.archive.setAway(false)
                engine = try cluster.open(disk, instance: "b")
                if engine.isFollower {
                    #expect(engine.waitApplied(cluster.engine.durableLSN))
                    cluster.archive.setAway(true)
                    try engine.promote(.init(withoutRepository: true))
                }
            }
            #expect(engine.status.role == .leader && engine.status.timeline == TimelineID(2), "crash at \(crash)")
            #expect(try EngineModel(trees: engine.everything()) == cluster.model)
            let owed = try ClaimSignal.read(disk)
            if cluster.archive.claims == [] {
                outcomes.owed += 1
                #expect(owed?.timeline == engine.status.timeline && owed?.token == engine.status.timelineToken)
            } else {
                outcomes.claimed += 1
                #expect(try Self.token(cluster, TimelineID(2)) == engine.status.timelineToken)
            }
            #expect(try !disk.exists(PromoteSignal.path) && disk.exists(TimelineHistory.walPath(TimelineID(2))))
            engine.abandon()
        }
        print("cut off promotions: \(outcomes)")
        #expect(outcomes.owed > 0 && outcomes.claimed > 0)
    }

    @Test("E5: the archive answers after all: what another has claimed is refused, with the option too")
    func refusedAllTheSame() throws {
        let seed = SeededGenerator64.announced("a claim that another has")
        let (cluster, nodes) = try Self.caughtUp(seed: seed, instances: ["b", "c"])
        try nodes[0].engine.promote(.init(withoutRepository: true))
        #expect(cluster.archive.claims == [nodes[0].engine.status.timeline])
        #expect(try !nodes[0].disk.exists(ClaimSignal.path))
        #expect(throws: (any Error).self) { try nodes[1].engine.promote(.init(withoutRepository: true)) }
        #expect(nodes[1].engine.isFollower)
        for node in nodes { node.engine.abandon() }
    }
}
