import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("A backup of a follower is its leader at the backup's stop")
struct FollowerBackupTests {
    private typealias Random = HoldfastTestSupport.SeededGenerator

    /// Streams until the follower shows everything that its leader has.
    private static func catchUp(
        _ follower: Engine, _ leader: Engine, _ disk: SimulatedDisk, _ random: inout Random
    ) throws {
        for _ in 0..<5000 where follower.publishedLSN < leader.durableLSN && follower.isFollower {
            if try !follower.stream(from: leader, disk, &random) { usleep(1000) }
            follower.logFollower?.waitApplied(beyond: follower.publishedLSN, milliseconds: 1)
        }
        guard follower.waitApplied(leader.durableLSN) else {
            throw Unexpected("at \(follower.publishedLSN) of \(leader.durableLSN): \(follower.status)")
        }
    }

    /// Copies the page files as a taker does; `between` runs before the first piece and between any two.
    private static func copy(
        _ engine: Engine, _ start: BackupStart, between: () throws -> Void = {}
    ) throws -> [(path: String, bytes: [UInt8])] {
        let piece = 4
        return try engine.backupFiles(start.token).enumerated().map { index, file in
            let count = Int(file.bytes) / Page.bytes
            var bytes = [UInt8](repeating: 0, count: Int(file.bytes))
            for at in stride(from: 0, to: count, by: piece) {
                try between()
                let taken = min(piece, count - at)
                try bytes.withUnsafeMutableBytes {
                    try engine.readPages(
                        from: PageNumber(UInt32(index) * PageNumber.pagesPerFile + UInt32(at)), count: taken,
                        into: .init(rebasing: $0[at * Page.bytes..<(at + taken) * Page.bytes]))
                }
            }
            return (file.path, bytes)
        }
    }

    /// The LSNs of the pages of a copy, which are sound.
    private static func pageLSNs(_ copy: BackupCopy) -> [LSN] {
        copy.pages.flatMap { _, bytes in
            bytes.withUnsafeBytes { all in
                stride(from: 0, to: all.count, by: Page.bytes).map { Page(reading: all.baseAddress! + $0).lsn }
            }
        }
    }

    /// Restores the backup to its stop and to the end of the archive, and looks at both.
    private static func requireRestores(
        _ copy: BackupCopy, _ cluster: FollowedCluster, seed: UInt64, states: [LSN: EngineModel], last: EngineModel
    ) throws {
        let label = try BackupLabel(decoding: copy.stop.label)
        guard label.start == copy.start.startLSN, label.stop == copy.stop.stopLSN, copy.stop.stopChain != nil else {
            throw Unexpected("a label of another backup: \(label)")
        }
        let atStop = states.keys.filter { $0 <= copy.stop.stopLSN }.max().flatMap { states[$0] }
        for (target, expected) in [(RecoveryTarget.immediate, atStop), (.latest, last)] {
            let node = try cluster.open(cluster.restored(seed: seed, from: copy, target: target))
            defer { node.abandon() }
            guard node.publishedLSN >= copy.stop.stopLSN else { throw Unexpected("it ends at \(node.publishedLSN)") }
            guard try EngineModel(trees: node.everything()) == expected else {
                throw Unexpected("other content at \(target), \(node.publishedLSN); the stop is \(copy.stop.stopLSN)")
            }
            let problems = try node.problems()
            guard problems.isEmpty else { throw Unexpected("\(problems)") }
        }
    }

    /// Everything that the leader logged gets into the archive.
    private static func archive(_ cluster: FollowedCluster) throws {
        try cluster.engine.switchWAL()
        cluster.archiveAll()
    }

    @Test("C1: a follower copied while it replays writes, growth and drops: restored, it is the leader at the stop")
    func whileItReplays() throws {
        let seed = SeededGenerator64.announced("a follower copied while it replays")
        let outcome = Mutex((pages: 0, newer: 0, restartpoints: 0))
        let failures = concurrently(Array(0..<4)) { run in
            let seed = seed &+ UInt64(run)
            var random = Random(seed: seed)
            let cluster = try FollowedCluster(seed: seed)
            // With little memory replay writes pages all the time, as new as it can.
            let follower = try cluster.open(cluster.restored(seed: seed), cachePages: 64, isTight: run % 2 == 0)
            defer { follower.abandon() }
            for _ in 0..<3 {
                try cluster.write(Int.random(in: 0...6, using: &random))
                if Bool.random(using: &random) { try cluster.engine.checkpoint() }
                try Self.catchUp(follower, cluster.engine, cluster.disk, &random)
                let start = try follower.beginBackup(label: "copy", fast: true)
                let pages = try Self.copy(follower, start) {
                    try cluster.write(Int.random(in: 0...2, using: &random))
                    if Int.random(in: 0..<12, using: &random) == 0 { try cluster.engine.checkpoint() }
                    if Int.random(in: 0..<16, using: &random) == 0 { try Self.archive(cluster) }
                    try follower.stream(from: cluster.engine, cluster.disk, &random)
                    if Int.random(in: 0..<4, using: &random) == 0 {
                        try Self.catchUp(follower, cluster.engine, cluster.disk, &random)
                        // Pages as new as they may be come to the disk.
                        try (follower.follower as? Follower<SimulatedDisk>)?.raiseMark()
                        _ = try follower.cache.writeOutSome(atMost: 256)
                    }
                }
                let stop = try follower.endBackup(start.token)
                let copy = BackupCopy(start: start, stop: stop, pages: pages)
                let lsns = Self.pageLSNs(copy)
                guard let newest = lsns.max(), newest <= stop.stopLSN else {
                    throw Unexpected("a page of \(lsns.max() ?? .zero), and the stop is \(stop.stopLSN)")
                }
                outcome.withLock {
                    $0.pages += lsns.count
                    $0.newer += lsns.count { $0 > start.startLSN }
                    $0.restartpoints += follower.status.redoPoint > start.startLSN ? 1 : 0
                }
                try cluster.write(3)
                try Self.archive(cluster)
                try Self.requireRestores(copy, cluster, seed: seed, states: cluster.states, last: cluster.model)
            }
        }
        print("followers copied while they replayed: \(outcome.withLock { "\($0)" })")
        #expect(failures == [])
        #expect(outcome.withLock { $0.newer > 20 && $0.restartpoints > 2 })
    }

    @Test("C1: nobody writes: the backup ends in a segment that the leader's timed switch completes")
    func idle() throws {
        let seed = SeededGenerator64.announced("a follower of an idle leader")
        for isCheckpointLast in [false, true] {
            let cluster = try FollowedCluster(seed: seed)
            var random = Random(seed: seed)
            let follower = try cluster.open(cluster.restored(seed: seed))
            defer { follower.abandon() }
            try cluster.write(3)
            try cluster.engine.switchWALIfCommitted()
            if isCheckpointLast { try cluster.engine.checkpoint() }
            try cluster.engine.witness()
            try Self.catchUp(follower, cluster.engine, cluster.disk, &random)
            let end = cluster.engine.appendedLSN
            let start = try follower.beginBackup(label: "idle", fast: false)
            let pages = try Self.copy(follower, start)
            let stop = try follower.endBackup(start.token)
            #expect(start.startLSN < stop.stopLSN)
            // What `archive.timeout` does, again and again: it never makes a segment of nothing.
            for _ in 0..<3 { try cluster.engine.switchWALIfCommitted() }
            #expect(try cluster.engine.switchWALIfCommitted() == nil)
            cluster.archiveAll()
            let last = SegmentName(
                timeline: .first, segment: SegmentNumber(containing: LSN(stop.stopLSN.rawValue - 1)))
            #expect(cluster.archive.names.contains(last), "\(last), checkpoint last: \(isCheckpointLast)")
            #expect(isCheckpointLast == (start.startLSN > cluster.states.keys.max()!) && stop.stopLSN <= end)
            try Self.requireRestores(
                BackupCopy(start: start, stop: stop, pages: pages), cluster, seed: seed, states: cluster.states,
                last: cluster.model)
        }
    }

    @Test("E1: power fails at random calls of a follower's backup: it follows on; a backup that ended is whole")
    func powerFails() throws {
        let seed = SeededGenerator64.announced("power fails while a follower is copied")
        let outcome = Mutex((ended: 0, crashed: 0))
        let failures = concurrently(Array(0..<4)) { run in
            let seed = seed &+ UInt64(run)
            var random = Random(seed: seed)
            let cluster = try FollowedCluster(seed: seed)
            var disk = try cluster.restored(seed: seed)
            for _ in 0..<6 {
                let follower = try cluster.open(disk, cachePages: 64, isTight: run % 2 == 0)
                try cluster.write(3)
                if Bool.random(using: &random) { try cluster.engine.checkpoint() }
                try cluster.write(2)
                var ended: BackupCopy?
                do {
                    try Self.catchUp(follower, cluster.engine, cluster.disk, &random)
                    disk.failPower(atCall: disk.calls + Int.random(in: 1...240, using: &random))
                    let start = try follower.beginBackup(label: "copy", fast: true)
                    let pages = try Self.copy(follower, start) {
                        try cluster.write(1)
                        try follower.stream(from: cluster.engine, cluster.disk, &random)
                    }
                    ended = BackupCopy(start: start, stop: try follower.endBackup(start.token), pages: pages)
                } catch {
                    guard disk.isPowerLost else { throw error }
                }
                follower.abandon()
                outcome.withLock {
                    $0.ended += ended == nil ? 0 : 1
                    $0.crashed += ended == nil ? 1 : 0
                }
                try Self.archive(cluster)
                if let ended {
                    try Self.requireRestores(ended, cluster, seed: seed, states: cluster.states, last: cluster.model)
                }
                disk = disk.restart(seed: random.next())
            }
            let follower = try cluster.open(disk)
            defer { follower.abandon() }
            #expect(follower.status.runningBackups == 0 && follower.backupsKeepFrom == nil)
            try Self.catchUp(follower, cluster.engine, cluster.disk, &random)
            guard try EngineModel(trees: follower.everything()) == cluster.model else {
                throw Unexpected("other content")
            }
        }
        print("backups of followers whose power failed: \(outcome.withLock { "\($0)" })")
        #expect(failures == [])
        #expect(outcome.withLock { $0.crashed > 3 && $0.ended > 3 })
    }

    @Test("C9: what a follower's backup needs is kept in wal/ until it is over, though the archive has it")
    func keeps() throws {
        let seed = SeededGenerator64.announced("a follower keeps what a backup needs")
        let cluster = try FollowedCluster(seed: seed)
        var random = Random(seed: seed)
        let disk = try cluster.restored(seed: seed)
        let follower = try cluster.open(disk)
        defer { follower.abandon() }
        func goOn() throws {
            try cluster.write(2)
            try cluster.engine.checkpoint()
            let redo = cluster.engine.status.redoPoint
            try cluster.engine.switchWAL()
            try cluster.write(1)
            // Streamed before the archive has it, so that it lies in the follower's wal/.
            try Self.catchUp(follower, cluster.engine, cluster.disk, &random)
            cluster.archiveAll()
            for _ in 0..<500 where follower.status.redoPoint < redo { usleep(10_000) }
            #expect(follower.status.redoPoint >= redo)
        }
        for _ in 0..<2 { try goOn() }
        let start = try follower.beginBackup(label: "copy", fast: true)
        let first = SegmentName(timeline: .first, segment: SegmentNumber(containing: start.startLSN))
        for _ in 0..<4 { try goOn() }
        #expect(try disk.exists(first.walPath))
        _ = try follower.endBackup(start.token)
        // Both slots of the control file must have left it.
        for _ in 0..<3 { try goOn() }
        #expect(try !disk.exists(first.walPath))
    }

    @Test("C6: a promotion meanwhile ends the backup and keeps nothing for it; the promoted node has the next")
    func promotedMeanwhile() throws {
        let seed = SeededGenerator64.announced("promoted while it is copied")
        let cluster = try FollowedCluster(seed: seed)
        var random = Random(seed: seed)
        let disk = try cluster.restored(seed: seed)
        let follower = try cluster.open(disk)
        try cluster.write(4)
        try Self.catchUp(follower, cluster.engine, cluster.disk, &random)
        let start = try follower.beginBackup(label: "copy", fast: true)
        #expect(follower.status.runningBackups == 1 && follower.backupsKeepFrom == start.startLSN)
        try follower.promote()
        func isOver(_ body: () throws -> Void) -> Bool {
            do { try body() } catch EngineError.backupOver(let why) { return why.contains("promoted") } catch {}
            return false
        }
        #expect(isOver { _ = try follower.backupFiles(start.token) })
        #expect(isOver { _ = try follower.endBackup(start.token) })
        #expect(follower.status.runningBackups == 0 && follower.backupsKeepFrom == nil)
        follower.abandonBackup(start.token)
        let again = try follower.beginBackup(label: "again", fast: true)
        #expect(try follower.endBackup(again.token).timeline == follower.status.timeline)
        follower.abandon()
    }

    @Test("C6: a promotion waits for the restartpoint of a backup that begins, and its timeline stays")
    func promotedAtOnce() throws {
        let seed = SeededGenerator64.announced("a promotion beside a backup that begins")
        let cluster = try FollowedCluster(seed: seed)
        var random = Random(seed: seed)
        let disk = try cluster.restored(seed: seed)
        let follower = try cluster.open(disk)
        let taker = Mutex<pthread_t?>(nil)
        let promotion = Mutex<Result<Void, any Error>?>(nil)
        disk.observe { call in
            guard call.kind == .sync, call.path.hasPrefix("pages/"),
                taker.withLock({ taker in
                    guard taker == pthread_self() else { return false }
                    taker = nil
                    return true
                })
            else { return }
            Thread.detachNewThread {
                let result = Result { try follower.promote() }
                promotion.withLock { $0 = result }
            }
            // Time enough for a promotion that does not wait.
            for _ in 0..<150 where promotion.withLock({ $0 == nil }) { usleep(10_000) }
        }
        // Backups begin one upon another, so that the keeper, who looks ten times a second, is seldom first.
        let isOver = Mutex(false)
        let (takerBegan, takerEnded) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        Thread.detachNewThread {
            taker.withLock { $0 = pthread_self() }
            takerBegan.signal()
            while follower.isFollower, !isOver.withLock({ $0 }) {
                let start = try? follower.beginBackup(label: "copy", fast: true)
                if let start { follower.abandonBackup(start.token) }
                usleep(100)
            }
            takerEnded.signal()
        }
        defer {
            isOver.withLock { $0 = true }
            takerEnded.wait()
        }
        takerBegan.wait()
        for _ in 0..<100 where promotion.withLock({ $0 == nil }) && follower.isFollower {
            try cluster.write(3)
            try cluster.engine.checkpoint()
            try cluster.write(1)
            do {
                try Self.catchUp(follower, cluster.engine, cluster.disk, &random)
            } catch {
                // What is promoted streams no further.
                guard taker.withLock({ $0 == nil }) else { throw error }
            }
            guard taker.withLock({ $0 == nil }) else { continue }
            for _ in 0..<3000 where promotion.withLock({ $0 == nil }) { usleep(10_000) }
        }
        try #require(promotion.withLock { $0 }).get()
        disk.observe(nil)
        #expect(follower.controlData.timeline == follower.status.timeline && follower.status.timeline > .first)
        try follower.write { try $0.put("after", bytes("a"), bytes("b")) }
        follower.abandon()
        var options = quietOptions()
        options.archiving = true
        let leader = try Engine(opening: disk.restart(seed: seed), options: options)
        #expect(try leader.everything()["after"] != nil)
        leader.abandon()
    }

    @Test("C1: a backup that begins at a checkpoint just replayed has every page that lacks nothing below it")
    func justReplayed() throws {
        let seed = SeededGenerator64.announced("a backup at a checkpoint just replayed")
        let cluster = try FollowedCluster(seed: seed)
        var random = Random(seed: seed)
        let disk = try cluster.restored(seed: seed)
        let follower = try cluster.open(disk)
        defer { follower.abandon() }
        try Self.catchUp(follower, cluster.engine, cluster.disk, &random)
        // The keeper, which is woken by what was replayed, is slow: the backup does not begin without its restartpoint.
        let taker = pthread_self()
        disk.observe { call in
            if call.kind == .write, call.path == ControlData.path, pthread_self() != taker { usleep(200_000) }
        }
        for _ in 0..<4 {
            try cluster.write(4)
            try cluster.engine.checkpoint()
            let redo = cluster.engine.status.redoPoint
            try cluster.write(1)
            try Self.catchUp(follower, cluster.engine, cluster.disk, &random)
            let start = try follower.beginBackup(label: "copy", fast: true)
            #expect(start.startLSN == redo)
            let pages = try Self.copy(follower, start)
            let stop = try follower.endBackup(start.token)
            try Self.archive(cluster)
            try Self.requireRestores(
                BackupCopy(start: start, stop: stop, pages: pages), cluster, seed: seed, states: cluster.states,
                last: cluster.model)
        }
    }

    @Test("C6: a follower that goes over to another timeline fails its backup; the next begins at a checkpoint there")
    func otherTimeline() throws {
        let seed = SeededGenerator64.announced("a follower that changes its timeline while it is copied")
        let cluster = try FollowedCluster(seed: seed)
        var random = Random(seed: seed)
        try cluster.write(4)
        let disk = try cluster.restored(seed: seed)
        let leader = try cluster.open(disk)
        let follower = try cluster.open(cluster.restored(seed: seed &+ 1, node: "c"), cachePages: 64)
        defer { follower.abandon() }
        for node in [leader, follower] { try Self.catchUp(node, cluster.engine, cluster.disk, &random) }
        let start = try follower.beginBackup(label: "copy", fast: true)
        try leader.promote()
        var states: [LSN: EngineModel] = [:]
        var model = cluster.model
        func write(_ count: Int) throws {
            for _ in 0..<count {
                try leader.write { try model.change($0, &random, keys: 300) }
                states[leader.publishedLSN] = model
            }
        }
        try write(3)
        // It looks for claims once a second.
        for _ in 0..<500 where follower.status.timeline != leader.status.timeline { usleep(10_000) }
        try Self.catchUp(follower, leader, disk, &random)
        #expect(follower.status.timeline == leader.status.timeline)
        func isOver(_ body: () throws -> Void) -> Bool {
            do { try body() } catch EngineError.backupOver(let why) { return why.contains("timeline") } catch {}
            return false
        }
        #expect(isOver { _ = try follower.endBackup(start.token) })
        follower.abandonBackup(start.token)
        // No checkpoint of the new timeline was replayed yet.
        #expect(isOver { _ = try follower.beginBackup(label: "early", fast: true) })
        #expect(follower.backupsKeepFrom == nil)
        try leader.checkpoint()
        try write(1)
        try Self.catchUp(follower, leader, disk, &random)
        let again = try follower.beginBackup(label: "copy", fast: true)
        #expect(again.timeline == leader.status.timeline)
        let pages = try Self.copy(follower, again) {
            try write(1)
            try follower.stream(from: leader, disk, &random)
        }
        let stop = try follower.endBackup(again.token)
        try write(2)
        try leader.switchWAL()
        cluster.archiveAll(of: leader, disk)
        try Self.requireRestores(
            BackupCopy(start: again, stop: stop, pages: pages), cluster, seed: seed, states: states, last: model)
        leader.abandon()
    }
}
