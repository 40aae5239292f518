import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("A follower makes durable what has come while more comes, and confirms nothing before")
struct FollowerFlushTests {
    /// Holds the first sync of a segment that comes when it is closed, until it is opened.
    private final class SyncGate: Sendable {
        let entered = DispatchSemaphore(value: 0)
        private let mayGo = DispatchSemaphore(value: 0)
        private let isClosed = Atomic(false)

        func close() { isClosed.store(true, ordering: .sequentiallyConsistent) }
        func open() { mayGo.signal() }
        func pass(_ call: SimulatedDisk.Call) {
            guard call.kind == .sync, call.path.hasPrefix("wal/"), SegmentName(call.path.dropFirst(4)) != nil,
                isClosed.exchange(false, ordering: .sequentiallyConsistent)
            else { return }
            entered.signal()
            // A test that fails before it opens the gate ends all the same.
            _ = mayGo.wait(timeout: .now() + 120)
        }
    }

    private func begin(_ follower: Engine) throws -> (any LogFollower, StreamRequest) {
        let log = try #require(follower.logFollower)
        for _ in 0..<20_000 {
            if let request = try log.beginStream() { return (log, request) }
            usleep(1000)
        }
        throw Unexpected("no stream may begin: \(follower.status)")
    }

    /// Hands on what the leader has behind `at`, in pieces.
    private func send(
        _ cluster: FollowedCluster, to log: any LogFollower, from at: inout LSN, pieces: Int = 100_000,
        _ each: () throws -> Void = {}
    ) throws {
        while let bytes = try logBytes(of: cluster.engine, on: cluster.disk, from: at, atMost: pieces) {
            try bytes.withUnsafeBytes { try log.receive($0, at: at) }
            at = at + bytes.count
            try each()
        }
    }

    @Test("E2: while a sync is under way more is received; nothing is durable, sent on or shown before it has ended")
    func heldSync() throws {
        let seed = SeededGenerator64.announced("a sync that is held")
        let cluster = try FollowedCluster(seed: seed)
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        let disk = try cluster.restored(seed: seed)
        let follower = try cluster.open(disk)
        defer { follower.abandon() }
        try follower.streamSoon(from: cluster.engine, cluster.disk, &random)
        #expect(follower.waitApplied(cluster.engine.durableLSN))
        let gate = SyncGate()
        disk.observe { gate.pass($0) }
        let (log, request) = try begin(follower)
        defer { log.endStream(nil) }
        // Before the stream ends, which waits for a sync.
        defer { gate.open() }
        let progress = Atomic(0)
        log.observeProgress { progress.add(1, ordering: .relaxed) }
        defer { log.observeProgress(nil) }
        let before = log.positions.flushed
        var at = request.position
        try cluster.write(2)
        try send(cluster, to: log, from: &at)
        let first = log.positions.received
        #expect(first > before)
        gate.close()
        try log.flushSoon(through: first)
        #expect(gate.entered.wait(timeout: .now() + 100) == .success)
        // It is written by now, and not synced.
        try cluster.write(2)
        try send(cluster, to: log, from: &at)
        let second = log.positions.received
        #expect(second > first)
        for _ in 0..<50 {
            #expect(log.positions.flushed == before && log.positions.applied == before)
            #expect(follower.durableLSN == before && follower.publishedLSN == before)
            usleep(2000)
        }
        let told = progress.load(ordering: .relaxed)
        gate.open()
        for _ in 0..<20_000 where log.positions.flushed < first || progress.load(ordering: .relaxed) == told {
            usleep(1000)
        }
        // What was asked for, and no more of what came meanwhile.
        #expect(log.positions.flushed == first && progress.load(ordering: .relaxed) > told)
        try log.flush()
        #expect(log.positions.flushed == second)
        #expect(follower.waitApplied(second))
        #expect(try EngineModel(trees: follower.everything()) == cluster.model)
    }

    @Test("E1: the power fails while others sync what is received: everything that was ever called flushed is there")
    func lostWrites() throws {
        let seed = SeededGenerator64.announced("power that fails beside a sync")
        let outcome = Mutex((losses: 0, whole: 0))
        let failures = concurrently(Array(0..<20)) { run in
            let seed = seed &+ UInt64(run)
            var random = HoldfastTestSupport.SeededGenerator(seed: seed)
            let cluster = try FollowedCluster(seed: seed)
            let disk = try cluster.restored(seed: seed)
            let follower = try cluster.open(disk)
            try follower.streamSoon(from: cluster.engine, cluster.disk, &random)
            // Some runs have whole segments of it, which are made of their bytes at once.
            let isBulk = run % 4 == 0
            try cluster.write(3)
            if isBulk {
                for _ in 0..<2 {
                    try cluster.engine.switchWAL()
                    try cluster.write()
                }
            }
            let (log, request) = try begin(follower)
            var at = request.position
            log.leaderIs(at: cluster.engine.durableLSN, clock: 0, archived: .zero, address: "leader")
            disk.failPower(atCall: disk.calls + Int.random(in: 1...(isBulk ? 60 : 12), using: &random))
            var flushed = log.positions.flushed
            do {
                var asked = flushed
                for _ in 0..<6 where !disk.isPowerLost {
                    try send(cluster, to: log, from: &at, pieces: isBulk ? 1 << 20 : 40_000) {
                        let received = log.positions.received
                        let whole = SegmentNumber(containing: received).start
                        if isBulk, whole > asked {
                            asked = whole
                            try log.flushSoon(through: whole)
                        } else if !isBulk, Int.random(in: 0..<2, using: &random) == 0 {
                            try log.flushSoon(through: received)
                        }
                        flushed = max(flushed, log.positions.flushed)
                    }
                    try log.flush()
                    flushed = max(flushed, log.positions.flushed)
                    try cluster.write(2)
                }
            } catch {
                guard disk.isPowerLost else { throw error }
            }
            for _ in 0..<50 where !disk.isPowerLost {
                flushed = max(flushed, log.positions.flushed)
                usleep(1000)
            }
            flushed = max(flushed, log.positions.flushed)
            log.endStream(nil)
            flushed = max(flushed, log.positions.flushed)
            follower.abandon()
            outcome.withLock { outcome in
                outcome.losses += disk.isPowerLost ? 1 : 0
                outcome.whole += isBulk && flushed.rawValue - request.position.rawValue > 16 << 20 ? 1 : 0
            }
            let again = try cluster.open(disk.restart(seed: random.next()))
            defer { again.abandon() }
            guard again.waitApplied(flushed) else {
                throw Unexpected("flushed was \(flushed), and after the loss of power it has \(again.publishedLSN)")
            }
            for _ in 0..<2000 where again.publishedLSN < cluster.engine.durableLSN {
                if try !again.stream(from: cluster.engine, cluster.disk, &random) { usleep(1000) }
            }
            guard again.waitApplied(cluster.engine.durableLSN),
                try EngineModel(trees: again.everything()) == cluster.model
            else { throw Unexpected("it does not go on: \(again.status)") }
        }
        print("losses of power beside a sync: \(outcome.withLock { "\($0)" })")
        #expect(failures == [])
        #expect(outcome.withLock { $0.losses > 6 && $0.whole > 0 })
    }
}
