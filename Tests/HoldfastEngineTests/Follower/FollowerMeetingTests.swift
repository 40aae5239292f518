import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("A follower is brought to an LSN that its leader names")
struct FollowerMeetingTests {
    private static func follower(
        seed: UInt64, isTight: Bool = false
    ) throws -> (cluster: FollowedCluster, engine: Engine, random: HoldfastTestSupport.SeededGenerator) {
        let cluster = try FollowedCluster(seed: seed)
        let engine = try cluster.open(cluster.restored(seed: seed), isTight: isTight)
        guard engine.waitApplied(cluster.engine.durableLSN) else { throw Unexpected("it does not catch up") }
        return (cluster, engine, HoldfastTestSupport.SeededGenerator(seed: seed))
    }

    private static func streamAll(
        _ cluster: FollowedCluster, to engine: Engine, _ random: inout HoldfastTestSupport.SeededGenerator
    ) throws {
        try engine.streamSoon(from: cluster.engine, cluster.disk, &random)
    }

    private static func model(_ snapshot: SnapshotHandle) throws -> EngineModel {
        EngineModel(trees: try snapshot.read { try everything($0) })
    }

    @Test("E1: the snapshot holds every commit through the LSN and none behind it, whatever has come meanwhile")
    func exact() throws {
        let seed = SeededGenerator64.announced("two nodes at one LSN")
        let made = try Self.follower(seed: seed)
        let (cluster, engine) = (made.cluster, made.engine)
        var random = made.random
        defer { engine.abandon() }
        for round in 0..<30 {
            // Replay may be at its end, or have much to do.
            try cluster.write(Int.random(in: 0...12, using: &random))
            if Int.random(in: 0..<3, using: &random) == 0 { try cluster.engine.checkpoint() }
            if Int.random(in: 0..<6, using: &random) == 0 { try cluster.engine.switchWAL() }
            try Self.streamAll(cluster, to: engine, &random)
            var named = LSN.zero
            var stood = LSN.zero
            let snapshot = try engine.snapshot { shown in
                stood = shown
                let moment = cluster.states.keys.filter { $0 <= shown }.max()
                try cluster.write(Int.random(in: 0...3, using: &random))
                let leader = try cluster.engine.snapshot(through: shown, milliseconds: 0)
                defer { leader.snapshot.close() }
                guard leader.lsn >= shown else { throw Unexpected("\(leader.lsn) is below \(shown)") }
                named = leader.lsn
                try cluster.write(Int.random(in: 0...5, using: &random))
                try Self.streamAll(cluster, to: engine, &random)
                // What comes is kept, and not carried out.
                usleep(2000)
                let now = engine.publishedLSN
                guard cluster.states.keys.filter({ $0 <= now }).max() == moment else {
                    throw Unexpected("it went on to \(now)")
                }
                return leader.lsn
            }
            defer { snapshot.close() }
            let last = try #require(cluster.states.keys.filter { $0 <= named }.max())
            #expect(try Self.model(snapshot) == cluster.states[last], "round \(round): \(stood) to \(named)")
            #expect(engine.waitApplied(cluster.engine.publishedLSN))
        }
    }

    @Test("E6: with so little memory that readers see a log in parts, each part is one of the leader's moments")
    func parts() throws {
        let seed = SeededGenerator64.announced("a log that is shown in parts")
        let made = try Self.follower(seed: seed, isTight: true)
        let (cluster, engine) = (made.cluster, made.engine)
        var random = made.random
        defer { engine.abandon() }
        var seen = Set<LSN>()
        for _ in 0..<4 {
            try cluster.write(250)
            try Self.streamAll(cluster, to: engine, &random)
            while engine.publishedLSN < cluster.engine.publishedLSN {
                let snapshot = try engine.makeSnapshot()
                defer { snapshot.close() }
                let last = try #require(cluster.states.keys.filter { $0 <= snapshot.lsn }.max())
                do {
                    let model = try Self.model(snapshot)
                    seen.insert(last)
                    try #require(model == cluster.states[last], "at \(snapshot.lsn)")
                } catch EngineError.snapshotTooOld {
                }
            }
        }
        print("moments seen: \(seen.count)")
    }

    @Test("E1: whoever asks and never names an LSN, or fails, stops nothing; a promotion ends the wait")
    func given() throws {
        let seed = SeededGenerator64.announced("a meeting that fails")
        let made = try Self.follower(seed: seed)
        let (cluster, engine) = (made.cluster, made.engine)
        var random = made.random
        defer { engine.abandon() }
        #expect(throws: Unexpected.self) {
            try engine.snapshot { _ in
                #expect(throws: MeetingError.inUse) { try engine.snapshot { $0 } }
                throw Unexpected("the leader is away")
            }
        }
        try cluster.write(5)
        try Self.streamAll(cluster, to: engine, &random)
        #expect(engine.waitApplied(cluster.engine.durableLSN))
        #expect(throws: MeetingError.self) {
            try engine.snapshot { shown in
                // Somebody promotes the node while another one is asked.
                Thread.detachNewThread { try? engine.promote() }
                while engine.isFollower { usleep(1000) }
                return shown + 1 << 20
            }
        }
        #expect(engine.status.role == .leader)
        #expect(throws: MeetingError.notFollowing) { try engine.snapshot { $0 } }
        #expect(throws: MeetingError.self) { try engine.snapshot(through: engine.durableLSN + 4096, milliseconds: 0) }
    }
}
