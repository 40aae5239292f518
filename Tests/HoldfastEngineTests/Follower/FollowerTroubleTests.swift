import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("What goes wrong on the way to another timeline is waited out, or done again")
struct FollowerTroubleTests {
    private typealias Random = HoldfastTestSupport.SeededGenerator
    private static let changing: Set<SimulatedDisk.Call.Kind> = [
        .rename, .remove, .syncDirectory, .write, .sync, .setSize, .allocate,
    ]

    /// Follows what the promoted node writes, until `node` shows all of it.
    private static func follow(_ node: Engine, _ fork: ForkedCluster, _ random: inout Random) throws {
        for _ in 0..<4000 where node.publishedLSN < fork.leader.durableLSN {
            if try !node.stream(from: fork.leader, fork.disk, &random) { usleep(1000) }
        }
        try fork.requireFollows(node)
    }

    /// A fork; a follower's disk with all of the log that both branches share, and the archive as it was then.
    private struct BeforeFork {
        let fork: ForkedCluster
        let disk: SimulatedDisk
        let archived: GrowingArchive.Content

        init(seed: UInt64) throws {
            var before: (SimulatedDisk, GrowingArchive.Content)?
            fork = try ForkedCluster(
                seed: seed,
                atFork: { cluster in
                    var random = Random(seed: seed)
                    let disk = try cluster.restored(seed: seed, node: "c")
                    let node = try cluster.open(disk)
                    try node.streamSoon(from: cluster.engine, cluster.disk, &random)
                    guard node.waitApplied(cluster.engine.durableLSN) else { throw Unexpected("it does not catch up") }
                    node.abandon()
                    before = (disk, cluster.archive.content)
                })
            (disk, archived) = before!  // Set above.
        }

        /// The same with the claim of the node that was promoted, and nothing of the branch that was left: a node that read
        /// of that one before it knew of the claim would be ahead of the fork.
        var claimed: GrowingArchive.Content { archived.claiming(as: fork.cluster.archive.content) }
    }

    @Test("E3: each question to the archive goes unanswered once, across a fork within a segment: it is asked again")
    func archiveFailsOnce() throws {
        let seed = SeededGenerator64.announced("an archive that fails once")
        let fork = try ForkedCluster(seed: seed)
        var random = Random(seed: seed)
        let archive = fork.cluster.archive
        /// Follows from a backup; an opening that the archive fails is repeated, as an operator would.
        func run(failing: Int?) throws -> (requests: Int, openings: Int) {
            let disk = try fork.cluster.restored(seed: seed, node: "c")
            let first = archive.requests
            if let failing { archive.fail(request: failing) }
            var openings = 1
            let node: Engine
            do { node = try fork.cluster.open(disk) } catch {
                openings = 2
                node = try fork.cluster.open(disk.restart(seed: seed))
            }
            defer { node.abandon() }
            try Self.follow(node, fork, &random)
            return (archive.requests - first, openings)
        }
        let whole = try run(failing: nil)
        var outcomes = (opened: 0, followed: 0)
        for number in 1...whole.requests {
            if try run(failing: number).openings == 1 { outcomes.followed += 1 } else { outcomes.opened += 1 }
        }
        print("requests that failed: \(outcomes.opened) at the opening, \(outcomes.followed) behind it")
        #expect(outcomes.followed > 2)
        fork.leader.abandon()
    }

    @Test(
        "A7: no space where a follower goes over to the next timeline: it waits, and goes over when there is some",
        arguments: [true, false])
    func noSpaceAtTheFork(isToldByStream: Bool) throws {
        let seed = SeededGenerator64.announced("a fork without space")
        var random = Random(seed: seed)
        let before = try BeforeFork(seed: seed)
        let fork = before.fork
        let archive = fork.cluster.archive
        var waited = 0
        for room in [0, 1 << 10, 1 << 20] {
            archive.answer(as: before.archived)
            let disk = before.disk.afterKill(seed: seed)
            let node = try fork.cluster.open(disk)
            guard node.waitApplied(fork.fork) else { throw Unexpected("it lost what it had") }
            disk.limitCapacity(disk.usedBytes + room)
            if isToldByStream {
                try node.streamSoon(from: fork.leader, fork.disk, &random)
            } else {
                archive.answer(as: before.claimed)
            }
            let isWaiting = { node.status.follower?.problem?.lowercased().contains("no space") == true }
            for _ in 0..<1000 where !isWaiting() { usleep(10_000) }
            if isWaiting() { waited += 1 }
            #expect(try !node.everything().isEmpty)
            disk.limitCapacity(nil)
            try Self.follow(node, fork, &random)
            node.abandon()
            archive.answer(as: before.claimed)
            let again = try fork.cluster.open(disk.restart(seed: seed))
            try Self.follow(again, fork, &random)
            again.abandon()
        }
        #expect(waited == 3)
        fork.leader.abandon()
    }

    @Test(
        "E1: the power fails at each I/O call with which a follower goes over to the next timeline: it goes over later",
        arguments: [true, false])
    func powerFailsAtTheFork(isRunning: Bool) throws {
        let seed = SeededGenerator64.announced("power fails at a fork")
        let before = try BeforeFork(seed: seed)
        let fork = before.fork
        let archive = fork.cluster.archive
        let timeline = fork.leader.status.timeline
        /// Goes over while it runs, or at its start.
        /// - Returns: the calls that were made before.
        func goOver(_ disk: SimulatedDisk, failingAt call: Int?) throws -> Int {
            archive.answer(as: isRunning ? before.archived : before.claimed)
            defer { archive.answer(as: before.claimed) }
            if !isRunning, let call { disk.failPower(atCall: disk.calls + call) }
            var first = disk.calls
            guard let node = try? fork.cluster.open(disk) else { return first }
            defer { node.abandon() }
            if isRunning {
                guard node.waitApplied(fork.fork) else { throw Unexpected("it lost what it had") }
                first = disk.calls
                if let call { disk.failPower(atCall: disk.calls + call) }
                archive.answer(as: before.claimed)
            }
            for _ in 0..<1000 where !disk.isPowerLost && node.status.timeline != timeline { usleep(5000) }
            return first
        }
        // Of calls of one kind on one file, which follow one another, the first counts.
        let trial = before.disk.afterKill(seed: seed)
        let seen = Mutex<(last: String, numbers: [Int])>(("", []))
        trial.observe { call in
            let what = "\(call.kind) \(call.path)"
            guard Self.changing.contains(call.kind) else { return }
            seen.withLock { seen in
                if what != seen.last { seen.numbers.append(call.number) }
                seen.last = what
            }
        }
        let first = try goOver(trial, failingAt: nil)
        trial.observe(nil)
        let calls = seen.withLock { $0.numbers.filter { $0 > first }.map { $0 - first } }
        var lost = 0
        for call in calls {
            var random = Random(seed: seed &+ UInt64(call))
            let disk = before.disk.afterKill(seed: seed &+ UInt64(call))
            _ = try goOver(disk, failingAt: call)
            if disk.isPowerLost { lost += 1 }
            let again = try fork.cluster.open(disk.restart(seed: seed &+ UInt64(call)))
            try Self.follow(again, fork, &random)
            let problems = try again.problems()
            guard problems.isEmpty else { throw Unexpected("\(problems)") }
            again.abandon()
        }
        print("power failed at \(lost) of \(calls.count) calls around a fork")
        #expect(lost > 3)
        fork.leader.abandon()
    }

    @Test(
        "E3: a stream tells of a timeline's end when the archive has the next one's segment: the node streams on from there"
    )
    func endingBehind() throws {
        let seed = SeededGenerator64.announced("a timeline's end that is told late")
        var random = Random(seed: seed)
        var opened: (disk: SimulatedDisk, archived: GrowingArchive.Content)?
        let fork = try ForkedCluster(
            seed: seed,
            before: { cluster in
                let disk = try cluster.restored(seed: seed, node: "c")
                let node = try cluster.open(disk)
                try cluster.write(2)
                try node.streamSoon(from: cluster.engine, cluster.disk, &random)
                guard node.waitApplied(cluster.engine.durableLSN) else { throw Unexpected("it does not catch up") }
                node.abandon()
                opened = (disk, cluster.archive.content)
                // The fork lies in the next segment.
                try cluster.write(2)
                try cluster.engine.switchWAL()
            })
        let (archive, before) = (fork.cluster.archive, opened!)  // Set above.
        // The claim is known, and log of neither branch is in the archive: what lies below the fork comes by a stream.
        archive.answer(as: before.archived.claiming(as: archive.content))
        let node = try fork.cluster.open(before.disk)
        defer { node.abandon() }
        let follower = try #require(node.logFollower)
        var begun: StreamRequest?
        for _ in 0..<3000 where begun == nil {
            begun = try follower.beginStream()
            usleep(1000)
        }
        let request = try #require(begun)
        #expect(request.timeline == .first && request.position < fork.fork)
        follower.leaderIs(at: fork.fork + (64 << 20), clock: 0, archived: fork.fork + (64 << 20), address: "old leader")
        #expect(node.archivedUpstream == fork.fork, "of the old leader's branch more, which is none of this node's")
        var at = request.position
        while at < fork.fork {
            let bytes = try #require(
                try logBytes(of: fork.cluster.engine, on: fork.cluster.disk, from: at, atMost: fork.fork - at))
            try bytes.withUnsafeBytes { try follower.receive($0, at: at) }
            at = at + bytes.count
        }
        // Before replay comes to the switch the next timeline's segment, which begins there, gets into the archive.
        try fork.leader.switchWAL()
        fork.cluster.archiveAll(of: fork.leader, fork.disk)
        archive.answer(as: nil)
        try follower.flush()
        guard node.waitApplied(fork.fork) else { throw Unexpected("\(node.status)") }
        // Time enough to pass the switch, for a replay that would.
        usleep(300_000)
        let history = try RecoveryPlan.history(fork.disk, fork.leader.storage.control)
        try follower.timelineEnded(at: fork.fork, history: history.encoded())
        follower.endStream(nil)
        try fork.leader.write { try $0.put("new", bytes("later"), bytes("value")) }
        try Self.follow(node, fork, &random)
        fork.leader.abandon()
    }

    @Test("D1: what a leader that is left had archived behind the fork does not count on the next one's timeline")
    func archivedBehindFork() throws {
        let seed = SeededGenerator64.announced("archived behind a fork")
        let before = try BeforeFork(seed: seed)
        let fork = before.fork
        fork.cluster.archive.answer(as: before.archived)
        let node = try fork.cluster.open(before.disk.afterKill(seed: seed))
        defer { node.abandon() }
        let follower = try #require(node.logFollower)
        var begun: StreamRequest?
        for _ in 0..<3000 where begun == nil {
            begun = try follower.beginStream()
            usleep(1000)
        }
        #expect(begun?.timeline == .first)
        // It is behind: the fork lies below what it is told.
        follower.leaderIs(at: fork.fork + (64 << 20), clock: 0, archived: fork.fork + (64 << 20), address: "old leader")
        let history = try RecoveryPlan.history(fork.disk, fork.leader.storage.control)
        try follower.timelineEnded(at: fork.fork, history: history.encoded())
        follower.endStream(nil)
        for _ in 0..<20_000 where node.status.timeline != fork.leader.status.timeline { usleep(1000) }
        #expect(node.status.timeline == fork.leader.status.timeline)
        #expect(try #require(node.archivedUpstream) <= fork.fork, "segments that only this node has would be recycled")
        fork.leader.abandon()
    }

    @Test("A7: promoted while replay waits for space: it is promoted when there is some, with everything received")
    func promotedWithoutSpace() throws {
        let seed = SeededGenerator64.announced("promoted without space")
        let cluster = try FollowedCluster(seed: seed)
        var random = Random(seed: seed)
        let disk = try cluster.restored(seed: seed)
        let node = try cluster.open(disk)
        try node.streamSoon(from: cluster.engine, cluster.disk, &random)
        guard node.waitApplied(cluster.engine.durableLSN) else { throw Unexpected("it does not catch up") }
        let isWaiting = { node.status.follower?.problem?.contains("waits for space") == true }
        // Pages find no space; segments do.
        disk.injectFaults { call in
            call.path.hasPrefix("pages/") && [.allocate, .setSize].contains(call.kind) ? .error(.noSpace) : nil
        }
        for number in 0..<60 {
            try cluster.engine.write { transaction in
                for key in 0..<10 {
                    try transaction.put("big", bytes("\(number) \(key)"), [UInt8](repeating: 1, count: 3000))
                }
            }
            try node.stream(from: cluster.engine, cluster.disk, &random)
        }
        for _ in 0..<1000 where !isWaiting() { usleep(10_000) }
        #expect(isWaiting())
        let result = Mutex<Result<Void, any Error>?>(nil)
        Thread.detachNewThread {
            let promoted = Result { try node.promote() }
            result.withLock { $0 = promoted }
        }
        let extended = Mutex(0)
        disk.observe { call in if call.kind == .allocate || call.kind == .setSize { extended.withLock { $0 += 1 } } }
        sleep(1)
        #expect(result.withLock { $0 == nil })
        #expect(extended.withLock { $0 } < 100, "it spins")
        disk.observe(nil)
        disk.injectFaults(nil)
        for _ in 0..<3000 where result.withLock({ $0 == nil }) { usleep(10_000) }
        try #require(result.withLock { $0 }).get()
        #expect(try node.everything() == cluster.engine.everything())
        node.abandon()
    }

    @Test("E1: replay that cannot go on says why, whatever the keeper and a stream report afterwards")
    func brokenStays() throws {
        let seed = SeededGenerator64.announced("replay that cannot go on")
        let cluster = try FollowedCluster(seed: seed)
        let disk = try cluster.restored(seed: seed)
        var options = quietOptions()
        options.archiving = true
        options.recovery = cluster.archive
        options.runsFollowerThreads = false
        let node = try Engine(opening: disk, options: options)
        defer { node.abandon() }
        node.replayStep(turns: 64)
        let follower = try #require(node.logFollower)
        var at = try #require(try follower.beginStream()).position
        try cluster.engine.write { try $0.put("big", bytes("k"), [UInt8](repeating: 1, count: 4 << 20)) }
        let end = cluster.engine.durableLSN
        while at < end, let some = try logBytes(of: cluster.engine, on: cluster.disk, from: at, atMost: 1 << 20) {
            try some.withUnsafeBytes { try follower.receive($0, at: at) }
            at = at + some.count
        }
        try follower.flush()
        // Redo needs pages that the files do not have yet.
        disk.injectFaults { call in
            call.path.hasPrefix("pages/") && Self.changing.contains(call.kind) ? .error(.inputOutput) : nil
        }
        node.replayStep(turns: 8)
        let why = try #require(node.status.follower?.problem)
        #expect(why.hasPrefix("replay cannot go on"), "\(why)")
        node.keeperStep()
        follower.leaderIs(at: end, clock: 0, archived: .zero, address: "leader")
        follower.endStream("the connection was lost")
        #expect(node.status.follower?.problem == why)
        #expect(try follower.beginStream() == nil)
        #expect { try node.promote() } throws: { "\($0)".contains(why) }
    }
}
