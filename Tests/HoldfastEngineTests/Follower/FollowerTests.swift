import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("A follower is its leader at an earlier moment")
struct FollowerTests {
    private func requireEqual(_ engine: Engine, _ cluster: FollowedCluster) throws {
        guard try EngineModel(trees: engine.everything()) == cluster.model else {
            throw Unexpected("the follower's content is another at \(engine.publishedLSN)")
        }
        let problems = try engine.problems()
        guard problems.isEmpty else { throw Unexpected("\(problems)") }
    }

    private func requireMoment(_ engine: Engine, _ cluster: FollowedCluster) throws {
        let snapshot = try engine.makeSnapshot()
        defer { snapshot.close() }
        let at = cluster.states.keys.filter { $0 <= snapshot.lsn }.max()
        guard try EngineModel(trees: snapshot.read { try everything($0) }) == at.flatMap({ cluster.states[$0] }) else {
            throw Unexpected("the follower's content at \(snapshot.lsn) is none of the leader's")
        }
    }

    @Test("a leader that says that its log ends anywhere is no trouble for whoever asks for the lag")
    func endAnywhere() {
        let at = LSN(0x100_0028)
        var status = FollowerStatus(
            phase: .streaming, positions: FollowerPositions(received: at, flushed: at, applied: at), leader: nil,
            leaderLSN: .max, leaderClock: 0, problem: nil, faults: 0, hasReadItsLog: true)
        #expect(status.lagBytes == Int.max)
        status.leaderLSN = at + 8
        #expect(status.lagBytes == 8)
        status.leaderLSN = .zero
        #expect(status.lagBytes == 0)
    }

    @Test("E3: archive and stream take turns until the follower has caught up, and go on doing so")
    func archiveAndStream() throws {
        let seed = SeededGenerator64.announced("archive and stream")
        let cluster = try FollowedCluster(seed: seed)
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        try cluster.write(5)
        try cluster.engine.switchWAL()
        cluster.archiveAll()
        let disk = try cluster.restored(seed: seed)
        let follower = try cluster.open(disk)
        defer { follower.abandon() }
        #expect(follower.status.role == .follower)
        #expect(follower.waitApplied(cluster.engine.durableLSN))
        try requireEqual(follower, cluster)
        var turns = (archive: 0, stream: 0)
        for _ in 0..<24 {
            try cluster.write(Int.random(in: 1...4, using: &random))
            if Int.random(in: 0..<4, using: &random) == 0 { try cluster.engine.checkpoint() }
            if Int.random(in: 0..<3, using: &random) == 0 {
                try cluster.engine.switchWAL()
                cluster.archiveAll()
                turns.archive += 1
            } else {
                // The archive may have been taken first: then there is nothing to receive yet.
                try follower.streamSoon(from: cluster.engine, cluster.disk, &random)
                turns.stream += 1
            }
            guard follower.waitApplied(cluster.engine.durableLSN) else {
                throw Unexpected("at \(follower.publishedLSN) of \(cluster.engine.durableLSN): \(follower.status)")
            }
            try requireEqual(follower, cluster)
        }
        #expect(turns.archive > 0 && turns.stream > 0)
        #expect(throws: EngineError.self) { try follower.write { try $0.put("x", bytes("a"), bytes("b")) } }
    }

    @Test("E6: whoever reads while splits, frees and drops are replayed sees one of the leader's moments")
    func readers() throws {
        let seed = SeededGenerator64.announced("reads beside replay")
        let cluster = try FollowedCluster(seed: seed)
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        let follower = try cluster.open(cluster.restored(seed: seed), cachePages: 64)
        defer { follower.abandon() }
        #expect(follower.waitApplied(cluster.engine.durableLSN))
        let found = Mutex<[(lsn: LSN, model: EngineModel)]>([])
        let isOver = Atomic(false)
        let group = DispatchGroup()
        for _ in 0..<2 {
            // Not of Dispatch's pool: other tests may hold all of its threads.
            group.enter()
            Thread.detachNewThread {
                defer { group.leave() }
                while !isOver.load(ordering: .relaxed) {
                    do {
                        let snapshot = try follower.makeSnapshot()
                        defer { snapshot.close() }
                        let model = EngineModel(trees: try snapshot.read { try everything($0) })
                        found.withLock { $0.append((snapshot.lsn, model)) }
                    } catch { found.withLock { $0.append((.zero, EngineModel(trees: ["\(error)": [:]]))) } }
                    usleep(500)
                }
            }
        }
        for _ in 0..<40 {
            try cluster.write(3)
            try follower.stream(from: cluster.engine, cluster.disk, &random)
            if Int.random(in: 0..<8, using: &random) == 0 { try cluster.engine.checkpoint() }
        }
        try follower.streamSoon(from: cluster.engine, cluster.disk, &random)
        #expect(follower.waitApplied(cluster.engine.durableLSN))
        isOver.store(true, ordering: .relaxed)
        group.wait()
        let all = found.withLock { $0 }
        let wrong = all.filter { seen in
            let at = cluster.states.keys.filter { $0 <= seen.lsn }.max()
            return at.flatMap { cluster.states[$0] } != seen.model
        }
        print("snapshots read beside replay: \(all.count), of \(Set(all.map(\.lsn)).count) moments")
        #expect(wrong.isEmpty, "\(wrong.count) of \(all.count), first at \(wrong.first?.lsn ?? .zero)")
        #expect(Set(all.map(\.lsn)).count > 3)
        try requireEqual(follower, cluster)
    }

    @Test(
        "E1: power fails or the process dies at random moments of replay, stream and restartpoints; it goes on each time"
    )
    func crashes() throws {
        let seed = SeededGenerator64.announced("a follower that crashes")
        let outcome = Mutex((crashes: 0, restartpoints: UInt64(0), atRedo: Set<LSN>()))
        let failures = concurrently(Array(0..<8)) { run in
            let seed = seed &+ UInt64(run)
            var random = HoldfastTestSupport.SeededGenerator(seed: seed)
            let cluster = try FollowedCluster(seed: seed)
            try cluster.write(4)
            try cluster.engine.switchWAL()
            cluster.archiveAll()
            var disk = try cluster.restored(seed: seed)
            for _ in 0..<10 {
                disk.failPower(atCall: disk.calls + Int.random(in: 1...120, using: &random))
                do {
                    let follower = try cluster.open(disk, cachePages: 64, isTight: run % 2 == 0)
                    defer {
                        outcome.withLock {
                            $0.restartpoints += follower.status.checkpoints
                            $0.atRedo.insert(follower.status.redoPoint)
                        }
                        follower.abandon()
                    }
                    // As soon as it answers it is one of the leader's moments, though pages on the disk may be newer than its
                    // redo point.
                    try requireMoment(follower, cluster)
                    for _ in 0..<Int.random(in: 1...5, using: &random) where !disk.isPowerLost {
                        try cluster.write(Int.random(in: 1...4, using: &random))
                        if Int.random(in: 0..<3, using: &random) == 0 { try cluster.engine.checkpoint() }
                        if Int.random(in: 0..<4, using: &random) == 0 {
                            try cluster.engine.switchWAL()
                            cluster.archiveAll()
                        }
                        try follower.stream(from: cluster.engine, cluster.disk, &random)
                        usleep(UInt32.random(in: 0...150_000, using: &random))
                    }
                } catch {
                    guard disk.isPowerLost else { throw error }
                }
                outcome.withLock { $0.crashes += disk.isPowerLost ? 1 : 0 }
                let isKill = Int.random(in: 0..<3, using: &random) == 0 && !disk.isPowerLost
                disk = isKill ? disk.afterKill(seed: random.next()) : disk.restart(seed: random.next())
            }
            try cluster.engine.switchWAL()
            cluster.archiveAll()
            let follower = try cluster.open(disk)
            defer { follower.abandon() }
            guard follower.waitApplied(cluster.engine.durableLSN) else {
                throw Unexpected("at \(follower.publishedLSN) of \(cluster.engine.durableLSN): \(follower.status)")
            }
            try requireEqual(follower, cluster)
        }
        print("followers that crashed: \(outcome.withLock { "\($0)" })")
        #expect(failures == [])
        #expect(outcome.withLock { $0.crashes > 20 && $0.atRedo.count > 8 })
    }

    @Test("B9: bytes damaged on the wire are refused and counted, nothing of them is kept, and the right ones go on")
    func damagedStream() throws {
        let seed = SeededGenerator64.announced("a damaged stream")
        let cluster = try FollowedCluster(seed: seed)
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        let follower = try cluster.open(cluster.restored(seed: seed))
        defer { follower.abandon() }
        var faults = 0
        for round in 0..<40 {
            try cluster.write(2)
            // What a stream carried; a flip in a segment's zeros behind its end is never sent.
            let count = cluster.engine.durableLSN - (follower.logFollower?.positions.received ?? .zero)
            var at = Int.random(in: 0..<max(1, min(count, 60_000)), using: &random)
            var isDone = false
            do {
                try follower.streamSoon(from: cluster.engine, cluster.disk, &random) { bytes in
                    if !isDone, at < bytes.count {
                        bytes[at] ^= UInt8(1 << (round % 8))
                        isDone = true
                    }
                    at -= bytes.count
                }
                // A length that became greater waits for bytes that do not come: nothing of that record is kept either.
                let received = follower.logFollower!.positions.received
                guard !isDone || received < cluster.engine.durableLSN else {
                    throw Unexpected("a flipped bit was taken")
                }
            } catch let error as EngineError {
                guard case .log = error, isDone else { throw error }
                faults += 1
            }
        }
        #expect(follower.status.follower?.faults == faults)
        #expect(faults > 5)
        try follower.streamSoon(from: cluster.engine, cluster.disk, &random)
        #expect(follower.waitApplied(cluster.engine.durableLSN))
        try requireEqual(follower, cluster)
    }

    @Test("A7: no space while a follower receives, over ends of segments: nothing is lost, and it goes on later")
    func noSpace() throws {
        let seed = SeededGenerator64.announced("a follower without space")
        let cluster = try FollowedCluster(seed: seed)
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        let disk = try cluster.restored(seed: seed)
        let follower = try cluster.open(disk)
        try cluster.write(2)
        try follower.streamSoon(from: cluster.engine, cluster.disk, &random)
        var refused = 0
        for round in 0..<6 {
            disk.limitCapacity(disk.usedBytes + (round % 2) * 64 << 10)
            for _ in 0..<3 {
                try cluster.write(2)
                try cluster.engine.switchWAL()
                do {
                    try follower.stream(from: cluster.engine, cluster.disk, &random)
                } catch let error as EngineError {
                    guard case .writesRefused = error else { throw error }
                    refused += 1
                }
                #expect(try !follower.everything().isEmpty)
            }
            disk.limitCapacity(nil)
            for _ in 0..<2000 where follower.publishedLSN < cluster.engine.durableLSN {
                if try !follower.stream(from: cluster.engine, cluster.disk, &random) { usleep(1000) }
            }
            guard follower.waitApplied(cluster.engine.durableLSN) else { throw Unexpected("\(follower.status)") }
            try requireEqual(follower, cluster)
        }
        #expect(refused > 2)
        follower.abandon()
        // What lies in its wal/ is what lies in the leader's.
        let leaders = cluster.disk.contents(), own = disk.contents()
        let whole = own.keys.filter { path in
            SegmentName(path.dropFirst(4)).map { $0.segment.end <= cluster.engine.durableLSN } ?? false
        }
        #expect(whole.count > 3)
        for path in whole { #expect(own[path] == leaders[path], "\(path)") }
        let again = try cluster.open(disk.restart(seed: seed))
        for _ in 0..<2000 where again.publishedLSN < cluster.engine.durableLSN {
            if try !again.stream(from: cluster.engine, cluster.disk, &random) { usleep(1000) }
        }
        try requireEqual(again, cluster)
        again.abandon()
    }
}
