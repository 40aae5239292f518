import HoldfastBackup
import HoldfastCore
import HoldfastRepository
import HoldfastRepositoryTestSupport
import HoldfastTestSupport
import HoldfastWAL
import Synchronization
import Testing

@Suite("The archiver loses no segment that is ready")
struct ArchiverTests {
    private func log(segments: Int) throws -> ArchivedLog {
        let log = try ArchivedLog()
        for number in 0..<segments {
            try log.commit([UInt32(number)])
            try log.switchSegment()
        }
        return log
    }

    private func ready(_ numbers: ClosedRange<UInt64>) -> [String] { numbers.map { "\(ArchivedLog.name($0)).ready" } }
    private func done(_ numbers: ClosedRange<UInt64>) -> [String] { numbers.map { "\(ArchivedLog.name($0)).done" } }

    @Test("ready segments are pushed, marked in order, and the state says so")
    func pushes() throws {
        let log = try log(segments: 4)
        #expect(try log.status() == ready(1...4))
        let store = MemoryStore()
        let archiver = Archiver(log.disk) { try ArchivedLog.archive(store) }
        #expect(try archiver.archiveOnce() == 4)
        #expect(try log.status() == done(1...4))
        #expect(archiver.state.waiting == 0 && archiver.state.lastArchived == ArchivedLog.name(4))
        #expect(archiver.state.archivedLSN == SegmentNumber(5).start)
        let archive = try ArchivedLog.archive(store)
        for number in UInt64(1)...4 {
            let name = ArchivedLog.name(number)
            let same = try SHA256Digest(of: archive.fetchExisting(name)) == SHA256Digest(of: log.bytes(name))
            #expect(same)
        }
        #expect(try archiver.archiveOnce() == 0)
    }

    @Test("D1: archiving fails, then the leader crashes: the segment still waits, is not recycled, is pushed later")
    func failsThenCrashes() throws {
        let log = try log(segments: 3)
        let archiver = Archiver(log.disk) { throw StoreError("be opened", "/away", .away) }
        for round in 1...3 {
            #expect(throws: StoreError.self) { try archiver.archiveOnce() }
            #expect(archiver.state.failedRounds == round && archiver.state.waiting == 3)
            #expect(archiver.state.lastError?.status == .unavailable)
        }
        // The leader asks what it may recycle as it does: by the marks.
        try log.writer.recycle(below: log.writer.durableLSN) { name in
            (try? log.disk.exists(name.donePath)) == true
        }
        for number in UInt64(1)...3 { #expect(try log.disk.exists(ArchivedLog.name(number).walPath)) }
        #expect(try log.status() == ready(1...3))
        // Both processes are gone; new ones find the queue on the disk.
        let survivor = try RealDisk(root: log.directory.path)
        let store = MemoryStore()
        let later = Archiver(survivor) { try ArchivedLog.archive(store) }
        #expect(try later.archiveOnce() == 3)
        #expect(try log.status() == done(1...3))
        #expect(try ArchivedLog.archive(store).inventory(of: .first).segments == 3)
    }

    @Test("D1: crashed at every store operation: nothing is marked that is not in the archive, and the rest follows")
    func crashEverywhere() throws {
        let log = try log(segments: 2)
        var options = Archiver<RealDisk>.Options()
        options.workers = 1
        var total = 0
        for fault in [FaultyStore.Fault.crashBefore, .crashAfter] {
            var number = 0
            while true {
                let memory = MemoryStore()
                _ = try ArchivedLog.archive(memory)
                let faulty = FaultyStore(memory)
                faulty.plant(fault, at: number)
                let doomed = Archiver(log.disk, options: options) { try ArchivedLog.archive(faulty) }
                _ = try? doomed.archiveOnce()
                let reached = faulty.operations > number
                let archive = try ArchivedLog.archive(memory)
                var marks: [Bool] = []
                for number in UInt64(1)...2 {
                    let name = ArchivedLog.name(number)
                    let marked = try log.disk.exists(name.donePath)
                    marks.append(marked)
                    if marked { #expect(try archive.fetch(name) != nil, "\(fault) at \(number)") }
                }
                #expect(marks != [false, true], "marked out of order")
                let later = Archiver(log.disk, options: options) { try ArchivedLog.archive(memory) }
                try later.archiveOnce()
                #expect(try log.status() == done(1...2))
                #expect(try archive.inventory(of: .first).segments == 2)
                for number in UInt64(1)...2 {
                    let name = ArchivedLog.name(number)
                    try log.disk.rename(name.donePath, to: name.readyPath)
                }
                if !reached { break }
                number += 1
                total += 1
            }
        }
        print("archiver: crashed or failed at \(total) operations")
        #expect(total > 40)
    }

    @Test("one segment that is refused holds up the marks behind it, not the pushes, and is named")
    func refusedInTheMiddle() throws {
        let log = try log(segments: 3)
        let store = MemoryStore()
        // Another node of the same timeline has archived its own segment 2.
        let stranger = try ArchivedLog()
        try stranger.commit([1])
        try stranger.switchSegment()
        try stranger.commit([200])
        try stranger.switchSegment()
        let archive = try ArchivedLog.archive(store)
        _ = try SegmentPusher(disk: stranger.disk, archive: archive).push(ArchivedLog.name(2))
        let archiver = Archiver(log.disk) { try ArchivedLog.archive(store) }
        for _ in 0..<2 {
            do {
                try archiver.archiveOnce()
                Issue.record("other content was accepted")
            } catch RepositoryError.segmentConflict(let name, _) {
                #expect(name == ArchivedLog.name(2))
            }
        }
        #expect(try log.status() == (done(1...1) + ready(2...3)).sorted())
        #expect(archiver.state.waiting == 2 && archiver.state.oldestWaiting == ArchivedLog.name(2))
        #expect(try archive.holds(ArchivedLog.name(3)))
    }

    @Test("D2: a segment of another cluster is refused; a segment marked ready that is gone is named")
    func foreignAndVanished() throws {
        let store = MemoryStore()
        _ = try ArchivedLog.archive(store)
        let foreign = try ArchivedLog(system: SystemIdentifier(rawValue: 8))
        try foreign.commit([1])
        try foreign.switchSegment()
        let archiver = Archiver(foreign.disk) { try ArchivedLog.archive(store) }
        do {
            try archiver.archiveOnce()
            Issue.record("another cluster's was accepted")
        } catch RepositoryError.segmentConflict(let name, let why) {
            #expect(name == ArchivedLog.name(1) && why.contains("8"))
        }
        #expect(store.paths == ["main/cluster.json"])
        let log = try log(segments: 1)
        try log.disk.remove(ArchivedLog.name(1).walPath)
        #expect(throws: ArchiverError.vanished(ArchivedLog.name(1))) {
            try Archiver(log.disk) { try ArchivedLog.archive(store) }.archiveOnce()
        }
    }

    @Test("the loop survives a repository that is away and catches up when it is back")
    func loop() throws {
        let log = try log(segments: 3)
        let store = MemoryStore()
        let rounds = Rounds()
        var options = Archiver<RealDisk>.Options()
        options.pollSeconds = 0.01
        options.firstRetrySeconds = 0.01
        options.longestRetrySeconds = 0.05
        let away = AwayFlag()
        let archiver = Archiver(log.disk, options: options) {
            if away.value { throw StoreError("be opened", "/away", .away) }
            return try ArchivedLog.archive(store)
        } onRound: {
            rounds.note($0)
        }
        archiver.start()
        rounds.wait { $0.failedRounds >= 2 }
        #expect(try log.status() == ready(1...3))
        away.clear()
        rounds.wait { $0.archivedSegments == 3 }
        #expect(try log.status() == done(1...3))
        try log.commit([9])
        try log.switchSegment()
        archiver.wake()
        rounds.wait { $0.archivedSegments == 4 }
        #expect(!archiver.state.isFailing)
        archiver.stop()
        try log.commit([10])
        try log.switchSegment()
        #expect(try archiver.readySegments() == [ArchivedLog.name(5)])
    }
}

/// A flag that two threads share.
private final class AwayFlag: Sendable {
    private let flag = Mutex(true)
    var value: Bool { flag.withLock { $0 } }
    func clear() { flag.withLock { $0 = false } }
}

/// Waits for what an archiver reports.
private final class Rounds: Sendable {
    private let states = Mutex<[ArchiverState]>([])
    func note(_ state: ArchiverState) { states.withLock { $0.append(state) } }
    /// Blocks until some round was as wanted.
    func wait(_ wanted: (ArchiverState) -> Bool) {
        while !states.withLock({ $0.contains(where: wanted) }) { sleepSeconds(0.005) }
    }
}
