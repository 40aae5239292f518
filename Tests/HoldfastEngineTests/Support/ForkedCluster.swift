import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL

@testable import HoldfastEngine

/// Two branches: one node promoted in the middle of a segment, and the old leader that wrote and archived on.
struct ForkedCluster {
    let cluster: FollowedCluster
    let leader: Engine
    let disk: SimulatedDisk
    let fork: LSN

    /// - Parameters:
    ///   - before: what is done with the cluster before it forks.
    ///   - atFork: what is done where both branches part, when the leader's log ends there.
    init(
        seed: UInt64, before: (FollowedCluster) throws -> Void = { _ in },
        atFork: (FollowedCluster) throws -> Void = { _ in }
    ) throws {
        cluster = try FollowedCluster(seed: seed)
        try before(cluster)
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        try cluster.write(4)
        try atFork(cluster)
        disk = try cluster.restored(seed: seed)
        leader = try cluster.open(disk)
        try leader.streamSoon(from: cluster.engine, cluster.disk, &random)
        guard leader.waitApplied(cluster.engine.durableLSN) else { throw Unexpected("it does not catch up") }
        fork = leader.publishedLSN
        try leader.promote()
        // What the old leader commits from here on is nobody's, though it gets into the archive.
        try cluster.write(5)
        try cluster.engine.switchWAL()
        cluster.archiveAll()
        try cluster.write(5)
        try cluster.engine.switchWAL()
        cluster.archiveAll()
        for n in 0..<5 { try leader.write { try $0.put("new", bytes("key\(n)"), bytes("value")) } }
    }

    func requireFollows(_ node: Engine) throws {
        guard node.waitApplied(leader.durableLSN) else {
            throw Unexpected("at \(node.publishedLSN) of \(leader.durableLSN): \(node.status)")
        }
        guard node.status.timeline == leader.status.timeline,
            try EngineModel(trees: node.everything()) == EngineModel(trees: leader.everything())
        else { throw Unexpected("other content, on timeline \(node.status.timeline)") }
    }
}
