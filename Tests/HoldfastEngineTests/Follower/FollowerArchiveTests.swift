import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("A follower's own segments, beside the archive's")
struct FollowerArchiveTests {
    /// A follower without threads: each test says when it replays.
    private static func open(
        _ cluster: FollowedCluster, _ disk: SimulatedDisk,
        onFatal: @escaping @Sendable (any DiagnosableError) -> Void = { _ in }
    ) throws -> Engine {
        var options = quietOptions(onFatal: onFatal)
        options.archiving = true
        options.recovery = cluster.archive
        options.runsFollowerThreads = false
        let follower = try Engine(opening: disk, options: options)
        follower.replayStep(turns: 64)
        return follower
    }

    /// Hands over the leader's log from `lsn` on, to `end` at most.
    private static func receive(
        _ follower: any LogFollower, _ cluster: FollowedCluster, from lsn: LSN, to end: LSN
    ) throws {
        var at = lsn
        while at < end,
            let bytes = try logBytes(of: cluster.engine, on: cluster.disk, from: at, atMost: min(end - at, 1 << 20))
        {
            try bytes.withUnsafeBytes { try follower.receive($0, at: at) }
            at = at + bytes.count
        }
        try follower.flush()
    }

    @Test(
        "D1, E3: replay that waits for a stream at a segment's end is not led past it by the archive: no part of a segment is marked as whole"
    )
    func archiveAheadOfTheStream() throws {
        let seed = SeededGenerator64.announced("an archive ahead of a stream")
        let cluster = try FollowedCluster(seed: seed)
        let disk = try cluster.restored(seed: seed)
        let node = try Self.open(cluster, disk)
        defer { node.abandon() }
        try cluster.write(2)
        let boundary = try cluster.engine.switchWAL()
        let follower = try #require(node.logFollower)
        let request = try #require(try follower.beginStream())
        try Self.receive(follower, cluster, from: request.position, to: boundary)
        node.replayStep(turns: 8)
        #expect(node.publishedLSN == LogLayout.canonical(boundary))
        // The whole next segment gets into the archive before its first byte comes.
        try cluster.write(3)
        let end = cluster.engine.durableLSN
        try cluster.engine.switchWAL()
        cluster.archiveAll()
        node.replayStep(turns: 8)
        #expect(node.publishedLSN == LogLayout.canonical(boundary))
        try Self.receive(follower, cluster, from: LogLayout.canonical(boundary), to: boundary + (end - boundary) / 2)
        follower.endStream("the connection was lost")
        try node.promote()
        let wal = disk.contents(), leaders = cluster.disk.contents()
        let marked = disk.names(in: "wal/archive_status").compactMap {
            $0.hasSuffix(".ready") ? SegmentName($0.dropLast(6)) : nil
        }
        for name in marked where name.timeline == .first {
            #expect(wal[name.walPath] == leaders[name.walPath], "\(name) is not what the leader had")
        }
        #expect(try EngineModel(trees: node.everything()) == cluster.model)
    }

    @Test("D1: where the archive's segment takes the place of a local one, no mark is left without its segment")
    func marksGo() throws {
        let seed = SeededGenerator64.announced("a mark without its segment")
        let cluster = try FollowedCluster(seed: seed)
        let disk = try cluster.restored(seed: seed)
        let node = try Self.open(cluster, disk)
        defer { node.abandon() }
        try cluster.write(2)
        let follower = try #require(node.logFollower)
        let request = try #require(try follower.beginStream())
        try Self.receive(follower, cluster, from: request.position, to: cluster.engine.durableLSN)
        node.replayStep(turns: 8)
        follower.endStream("the connection was lost")
        // An earlier life as a leader had wanted its own of the segment archived.
        let name = SegmentName(timeline: .first, segment: SegmentNumber(containing: request.position))
        try disk.open(name.readyPath, .createOrOpen).close()
        try cluster.write(2)
        try cluster.engine.switchWAL()
        cluster.archiveAll()
        node.replayStep(turns: 64)
        #expect(node.publishedLSN >= name.segment.end)
        let segments = Set(disk.names(in: "wal"))
        for mark in disk.names(in: "wal/archive_status") where mark.hasSuffix(".ready") {
            #expect(segments.contains(String(mark.dropLast(6))), "\(mark) has no segment")
        }
    }

    @Test("D1: what the leader before had archived behind the fork says nothing of the new timeline: that is kept")
    func archivedBeforeTheFork() throws {
        let seed = SeededGenerator64.announced("a leader that archived beyond a fork")
        let cluster = try FollowedCluster(seed: seed)
        let disk = try cluster.restored(seed: seed)
        let node = try Self.open(cluster, disk)
        defer { node.abandon() }
        let follower = try #require(node.logFollower)
        let request = try #require(try follower.beginStream())
        // It has archived more than this node has, and all that is lost with it.
        follower.leaderIs(
            at: cluster.engine.durableLSN, clock: 0, archived: cluster.engine.durableLSN + 9 * SegmentNumber.bytes,
            address: "a")
        try Self.receive(follower, cluster, from: request.position, to: cluster.engine.durableLSN)
        node.replayStep(turns: 8)
        let copy = disk.afterKill(seed: seed)
        let leader = try Self.open(cluster, copy)
        defer { leader.abandon() }
        try leader.promote()
        let timeline = leader.status.timeline
        let fork = try leader.timelineHistory().current.switchLSN
        follower.endStream("the connection was lost")
        node.replayStep(turns: 8)
        #expect(node.status.timeline == timeline)
        var redo = node.controlData.redo.lsn
        for round in 0..<4 {
            try leader.write { try $0.put("new", bytes("key\(round)"), bytes("value")) }
            try leader.checkpoint()
            try leader.switchWAL()
            let request = try #require(try follower.beginStream())
            #expect(request.timeline == timeline)
            follower.leaderIs(at: leader.durableLSN, clock: 0, archived: .zero, address: "b")
            var at = request.position
            while let bytes = try logBytes(of: leader, on: copy, from: at, atMost: 1 << 20) {
                try bytes.withUnsafeBytes { try follower.receive($0, at: at) }
                at = at + bytes.count
            }
            try follower.flush()
            node.replayStep(turns: 8)
            node.keeperStep()
            follower.endStream(nil)
            #expect(node.controlData.redo.lsn > redo)
            redo = node.controlData.redo.lsn
        }
        let kept = Set(disk.names(in: "wal"))
        var number = SegmentNumber(containing: fork)
        while number.end <= leader.durableLSN {
            let name = SegmentName(timeline: timeline, segment: number)
            #expect(kept.contains("\(name)"), "\(name) is nowhere but on this node, and gone")
            number = number.next
        }
    }

    @Test(
        "E1, E2: a promotion that was cut off behind its claim is resumed at its switch, though the old leader went on")
    func oldLeaderGoesOn() throws {
        let seed = SeededGenerator64.announced("an old leader that goes on beside a promotion")
        var resumed = 0
        for call in 10...160 where resumed < 6 {
            let cluster = try FollowedCluster(seed: seed)
            try cluster.write(2)
            // So that no commit ends where the new timeline begins.
            try cluster.engine.switchWAL()
            cluster.archiveAll()
            let model = cluster.model
            let disk = try cluster.restored(seed: seed)
            let node = try Self.open(cluster, disk)
            disk.failPower(atCall: disk.calls + call)
            try? node.promote()
            node.abandon()
            guard !cluster.archive.claims.isEmpty else { continue }
            try cluster.write(3)
            try cluster.engine.switchWAL()
            cluster.archiveAll()
            let leader = try Self.open(cluster, disk.restart(seed: seed))
            defer { leader.abandon() }
            resumed += 1
            #expect(!leader.isFollower)
            #expect(try EngineModel(trees: leader.everything()) == model)
        }
        #expect(resumed > 0)
    }

    @Test("A5: a page file that cannot be synced when a backup of a follower begins stops the node for good")
    func failedSync() throws {
        let seed = SeededGenerator64.announced("a failed sync in a backup of a follower")
        let cluster = try FollowedCluster(seed: seed)
        let disk = try cluster.restored(seed: seed)
        let fatal = Flag()
        let node = try Self.open(cluster, disk) { _ in fatal.set() }
        defer { node.abandon() }
        try cluster.write(2)
        try cluster.engine.checkpoint()
        try cluster.write(1)
        try cluster.engine.switchWAL()
        cluster.archiveAll()
        node.replayStep(turns: 64)
        disk.injectFaults { $0.kind == .sync && $0.path.hasPrefix("pages/") ? .error(.inputOutput) : nil }
        #expect(throws: EngineError.self) { try node.beginBackup(label: "test", fast: true) }
        disk.injectFaults(nil)
        #expect(fatal.isSet)
        #expect(throws: EngineError.self) { try node.beginBackup(label: "again", fast: true) }
        #expect(throws: EngineError.self) { try node.promote() }
    }

    @Test("E5: a follower that starts again does not know yet what it had confirmed, and says so until it has read it")
    func confirmedBeforeRestart() throws {
        let seed = SeededGenerator64.announced("what a follower had confirmed")
        let cluster = try FollowedCluster(seed: seed)
        let disk = try cluster.restored(seed: seed)
        let node = try Self.open(cluster, disk)
        try cluster.write(4)
        let request = try #require(try node.logFollower?.beginStream())
        try Self.receive(try #require(node.logFollower), cluster, from: request.position, to: cluster.engine.durableLSN)
        let confirmed = try #require(node.logFollower?.positions.flushed)
        #expect(confirmed == cluster.engine.durableLSN)
        // Confirmed, and not replayed.
        node.abandon()
        var options = quietOptions()
        options.archiving = true
        options.recovery = cluster.archive
        options.runsFollowerThreads = false
        let again = try Engine(opening: disk.restart(seed: seed), options: options)
        defer { again.abandon() }
        #expect(try #require(again.followerStatus).positions.flushed < confirmed)
        #expect(try !#require(again.followerStatus).hasReadItsLog)
        again.replayStep(turns: 64)
        #expect(try #require(again.followerStatus).hasReadItsLog)
        #expect(try #require(again.followerStatus).positions.flushed == confirmed)
    }
}

/// Set once, on any thread.
private final class Flag: Sendable {
    private let state = Mutex(false)
    var isSet: Bool { state.withLock { $0 } }
    func set() { state.withLock { $0 = true } }
}
