import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Testing

@testable import HoldfastEngine

/// Sends the log of one node to another as a server does: from its files, along the history as it is when each piece is
/// read.
private struct Sender {
    let upstream: Engine
    /// Pieces that came over an end of a timeline.
    private(set) var switches = 0

    init(_ upstream: Engine) { self.upstream = upstream }

    /// Sends what is there.
    /// - Returns: whether a stream could begin.
    mutating func run(
        to follower: Engine, _ random: inout HoldfastTestSupport.SeededGenerator, meanwhile: () throws -> Void = {}
    ) throws -> Bool {
        guard let log = follower.logFollower, let request = try log.beginStream() else { return false }
        var problem: String?
        defer { log.endStream(problem) }
        var position = request.position
        guard position <= upstream.durableLSN else { return false }
        let history = try upstream.timelineHistory()
        guard history.entry(request.timeline)?.token == request.token,
            position <= history.end(of: request.timeline) ?? .max
        else {
            problem = "diverged"
            return false
        }
        let feed = try upstream.makeLogFeed(history, timeline: request.timeline)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 300_000, alignment: 16)
        defer { buffer.deallocate() }
        while true {
            let durable = upstream.durableLSN
            if let history = upstream.followedHistory, !feed.follow(history, from: position) { return false }
            log.leaderIs(
                at: durable, clock: 0, archived: upstream.archivedUpstream ?? durable, address: "upstream")
            if position == feed.end {
                switches += 1
                try log.timelineEnded(at: position, history: upstream.timelineHistory().encoded())
                return true
            }
            let wanted = Int.random(in: 1...buffer.count, using: &random)
            let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted])
            guard let count = try feed.read(from: position, limit: durable, into: piece) else {
                problem = "gone"
                return false
            }
            if count == 0 { break }
            try log.receive(UnsafeRawBufferPointer(rebasing: piece[..<count]), at: position)
            position = position + count
            try meanwhile()
        }
        try log.flush()
        return true
    }
}

@Suite("A follower feeds followers: what it has on its disk, along the timelines that it follows")
struct FollowerCascadeTests {
    private func follow(
        _ upstream: Engine, to lsn: LSN, _ follower: Engine, _ random: inout HoldfastTestSupport.SeededGenerator
    ) throws {
        var sender = Sender(upstream)
        for _ in 0..<4000 where follower.publishedLSN < lsn || follower.status.timeline != upstream.status.timeline {
            if try !sender.run(to: follower, &random) { usleep(2000) }
        }
        guard follower.waitApplied(lsn) else {
            throw Unexpected("at \(follower.publishedLSN) of \(lsn): \(follower.status), upstream \(upstream.status)")
        }
    }

    private func soon(_ what: String, _ isTrue: () throws -> Bool) throws {
        for _ in 0..<20_000 {
            if try isTrue() { return }
            usleep(2000)
        }
        throw Unexpected("never: \(what)")
    }

    private func requireEqual(_ one: Engine, _ other: EngineModel) throws {
        guard try EngineModel(trees: one.everything()) == other else { throw Unexpected("other content") }
        let problems = try one.problems()
        guard problems.isEmpty else { throw Unexpected("\(problems)") }
    }

    @Test(
        "E1: the node in the middle crashes at random moments: what it has sent on it still has, and its follower goes on"
    )
    func crashes() throws {
        let seed = SeededGenerator64.announced("a cascade that crashes")
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        let cluster = try FollowedCluster(seed: seed)
        var disk = try cluster.restored(seed: seed)
        let last = try cluster.open(cluster.restored(seed: seed &+ 1, node: "c"))
        defer { last.abandon() }
        var losses = 0
        for round in 0..<12 {
            let middle = try cluster.open(disk)
            // Behind a restart of its upstream the last one may be ahead of what that has read of its own log so far.
            for _ in 0..<3 {
                try cluster.write(Int.random(in: 1...3, using: &random))
                if Int.random(in: 0..<3, using: &random) == 0 { try cluster.engine.checkpoint() }
                do {
                    try middle.streamSoon(from: cluster.engine, cluster.disk, &random)
                    if round % 2 == 0 { disk.failPower(atCall: disk.calls + Int.random(in: 1...20, using: &random)) }
                    var sender = Sender(middle)
                    _ = try sender.run(to: last, &random)
                    if Int.random(in: 0..<2, using: &random) == 0 {
                        try cluster.write()
                        try middle.stream(from: cluster.engine, cluster.disk, &random)
                    }
                } catch {
                    guard disk.isPowerLost else { throw error }
                    break
                }
            }
            losses += disk.isPowerLost ? 1 : 0
            middle.abandon()
            disk = disk.isPowerLost ? disk.restart(seed: random.next()) : disk.afterKill(seed: random.next())
            disk.failPower(atCall: nil)
            // Nothing that was sent on may be lost by the one that sent it.
            let again = try cluster.open(disk)
            let reached = last.logFollower?.positions.flushed ?? .zero
            guard again.waitApplied(reached) else {
                throw Unexpected("it has \(again.publishedLSN), and has sent on \(reached)")
            }
            try follow(again, to: again.durableLSN, last, &random)
            again.abandon()
            disk = disk.afterKill(seed: random.next())
        }
        print("losses of power in the middle: \(losses)")
        #expect(losses > 0)
        let middle = try cluster.open(disk)
        defer { middle.abandon() }
        try middle.streamSoon(from: cluster.engine, cluster.disk, &random)
        #expect(middle.waitApplied(cluster.engine.durableLSN))
        try follow(middle, to: cluster.engine.durableLSN, last, &random)
        try requireEqual(last, cluster.model)
    }

    @Test("E4: the middle is promoted while it sends: the old timeline ends at the fork, and the new one follows")
    func promotion() throws {
        let seed = SeededGenerator64.announced("a promotion in the middle")
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        let cluster = try FollowedCluster(seed: seed)
        try cluster.write(4)
        let middle = try cluster.open(cluster.restored(seed: seed))
        let last = try cluster.open(cluster.restored(seed: seed &+ 1, node: "c"))
        defer {
            last.abandon()
            middle.abandon()
        }
        try middle.streamSoon(from: cluster.engine, cluster.disk, &random)
        let fork = cluster.engine.durableLSN
        #expect(middle.waitApplied(fork))
        // The old leader goes on where nobody follows.
        try cluster.write(3)
        // The first attempts may come while the last one reads the archive, which has part of it.
        var sender = Sender(middle)
        var isPromoted = false
        for _ in 0..<4000 where !isPromoted {
            let hasRun = try sender.run(to: last, &random) {
                if !isPromoted {
                    isPromoted = true
                    try middle.promote()
                    try middle.write { try $0.put("new", bytes("a"), bytes("b")) }
                }
            }
            if !hasRun { usleep(2000) }
            if hasRun, !isPromoted, last.publishedLSN >= fork {
                isPromoted = true
                try middle.promote()
                try middle.write { try $0.put("new", bytes("a"), bytes("b")) }
            }
        }
        try follow(middle, to: middle.durableLSN, last, &random)
        #expect(last.status.timeline == middle.status.timeline && middle.status.timeline > .first)
        #expect(try EngineModel(trees: last.everything()) == EngineModel(trees: middle.everything()))
        #expect(try last.problems().isEmpty)
    }

    @Test("E3: the middle goes over to a timeline that another follower opened, and its own follower with it")
    func upstreamPromoted() throws {
        let seed = SeededGenerator64.announced("a promotion beside the middle")
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        let cluster = try FollowedCluster(seed: seed)
        try cluster.write(4)
        let otherDisk = try cluster.restored(seed: seed &+ 2, node: "d")
        let other = try cluster.open(otherDisk)
        let middle = try cluster.open(cluster.restored(seed: seed))
        let last = try cluster.open(cluster.restored(seed: seed &+ 1, node: "c"))
        defer { for engine in [last, middle, other] { engine.abandon() } }
        for engine in [other, middle] {
            try engine.streamSoon(from: cluster.engine, cluster.disk, &random)
            #expect(engine.waitApplied(cluster.engine.durableLSN))
        }
        try follow(middle, to: cluster.engine.durableLSN, last, &random)
        try other.promote()
        try other.write { try $0.put("new", bytes("a"), bytes("b")) }
        // With the archive away all that the last one learns comes from the middle.
        cluster.archive.setAway(true)
        try follow(other, to: other.durableLSN, middle, &random)
        try follow(middle, to: other.durableLSN, last, &random)
        #expect(last.status.timeline == other.status.timeline && other.status.timeline > .first)
        #expect(try EngineModel(trees: last.everything()) == EngineModel(trees: other.everything()))
        #expect(try last.problems().isEmpty)
    }

    @Test("A8: a slot on a follower keeps its segments beyond restartpoints, until more than it may is kept")
    func slots() throws {
        let seed = SeededGenerator64.announced("a follower's slot")
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        let cluster = try FollowedCluster(seed: seed)
        let disk = try cluster.restored(seed: seed)
        var options = quietOptions()
        options.archiving = true
        options.recovery = cluster.archive
        options.slotWALBytes = 100 << 20
        let middle = try Engine(opening: disk, options: options)
        defer { middle.abandon() }
        try middle.streamSoon(from: cluster.engine, cluster.disk, &random)
        _ = try middle.createSlot("c")
        let kept = middle.durableLSN
        try middle.beginSlot("c", node: "c", timeline: .first, at: kept)
        middle.slots.advance("c", timeline: .first, to: kept)
        try middle.persistSlot("c")
        func segments() -> [SegmentNumber] {
            ((try? disk.list("wal")) ?? []).compactMap { SegmentName($0)?.segment }.sorted()
        }
        // Each round ends a segment, and the leader's checkpoints let go what lies below.
        func round() throws {
            try cluster.write(2)
            try cluster.engine.switchWAL()
            for _ in 0..<2 {
                try cluster.write()
                try cluster.engine.checkpoint()
            }
            try soon("a stream") { try middle.stream(from: cluster.engine, cluster.disk, &random) }
            guard middle.waitApplied(cluster.engine.durableLSN) else { throw Unexpected("\(middle.status)") }
            let redo = cluster.engine.status.redoPoint
            try soon("a restartpoint") { middle.status.redoPoint >= redo }
        }
        for _ in 0..<3 { try round() }
        let first = SegmentNumber(containing: kept)
        #expect(segments().contains(first) && middle.status.redoPoint > first.next.end, "\(segments())")
        // More than the slot may keep.
        for _ in 0..<6 { try round() }
        #expect(middle.slots["c"]?.invalidReason != nil)
        try soon("segment \(first) goes") { !segments().contains(first) }
    }
}
