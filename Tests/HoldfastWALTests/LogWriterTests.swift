import Foundation
import HoldfastCore
import HoldfastTestSupport
import Synchronization
import Testing

@testable import HoldfastWAL

@Suite("The writer makes records durable in order, and says exactly how far")
struct LogWriterTests {
    @Test("what was appended and flushed is read back, in order, with every kind of record")
    func readsBack() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        let first = try writer.appendCommit(1)
        _ = try writer.append(.restorePoint(name: "before", time: 5))
        _ = try writer.append(
            .checkpoint(redo: first.start, redoTimeline: .first, lastTransaction: TransactionID(1), time: 6))
        _ = try writer.append(.backupEnd(start: first.start, startTimeline: .first, token: 9, time: 7))
        try writer.flush(through: writer.appendedLSN)
        let reading = try read(disk)
        #expect(reading.kinds == [.commit, .restorePoint, .checkpoint, .backupEnd])
        #expect(reading.commits == [1])
        #expect(reading.end.position == writer.durableLSN)
        #expect(reading.end.reason == .zeros)
        #expect(reading.starts[0] == LogLayout.firstPosition + LogLayout.segmentHeaderBytes)
    }

    @Test("a commit larger than a segment is split, held back and put together again")
    func largeCommit() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        try writer.appendCommit(1)
        let large = try writer.appendCommit(2, pages: 2200, fill: 8000)
        try writer.appendCommit(3)
        try writer.flush(through: writer.appendedLSN)
        #expect(SegmentNumber(containing: large.end) > SegmentNumber(containing: large.start))
        let reading = try read(disk)
        #expect(reading.commits == [1, 2, 3])
        #expect(reading.commitEnds[1] == large.end)
    }

    @Test("a log filled with commits of every size to a segment's end is read without a gap")
    func segmentEnds() throws {
        for slack in stride(from: 0, through: 160, by: 8) {
            let disk = try makeDisk()
            let writer = try makeWriter(disk)
            // Close to the end: a filler brings the position to `slack` bytes before it.
            try writer.fillSegment(leaving: slack)
            try writer.appendCommit(1, fill: 64)
            let second = try writer.appendCommit(2, fill: 64)
            try writer.flush(through: second.end)
            let reading = try read(disk)
            #expect(reading.commits == [1, 2], "slack \(slack)")
            #expect(reading.end.position == writer.durableLSN)
        }
    }

    @Test("marks never say more than was durable when the batch was handed over; the durable mark follows them")
    func marks() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        let first = try writer.appendCommit(1)
        let second = try writer.appendCommit(2)
        try writer.flush(through: second.end)
        #expect(writer.durableMark == LogLayout.firstPosition)
        let third = try writer.appendCommit(3)
        try writer.flush(through: third.end)
        #expect(writer.durableMark == second.end)
        let reading = try read(disk)
        #expect(reading.marks == [LogLayout.firstPosition, LogLayout.firstPosition, second.end])
        #expect(first.end < second.end)
    }

    @Test("a witness begins a 4 KiB block, and its mark covers what was flushed before it")
    func witness() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        #expect(writer.needsWitness)
        for number in 1...40 {
            let done = try writer.appendCommit(number, fill: number * 24)
            try writer.flush(through: done.end)
            let witness = try writer.appendWitness()
            try writer.flush(through: witness)
            #expect(!writer.needsWitness)
            #expect(writer.durableMark >= done.end)
        }
        let reading = try read(disk)
        let starts = zip(reading.kinds, reading.starts).filter { $0.0 == .witness }.map(\.1)
        #expect(starts.count == 40)
        #expect(starts.allSatisfy { $0.rawValue % 4096 == 0 })
    }

    @Test("a switch closes the segment with a filler; the next begins with the chain's value")
    func switches() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        #expect(try writer.switchSegment() == LogLayout.firstPosition)
        try writer.appendCommit(1)
        let next = try writer.switchSegment()
        #expect(next == SegmentNumber(2).start)
        #expect(try writer.switchSegment() == next)
        try writer.flush(through: next)
        #expect(writer.durableLSN == next)
        try writer.appendCommit(2)
        try writer.flush(through: writer.appendedLSN)
        let reading = try read(disk)
        #expect(reading.kinds == [.commit, .segmentSwitch, .filler, .commit])
        // From the segment's start, without knowing the chain: the header says it.
        let later = try read(disk, from: next, chain: nil)
        #expect(later.commits == [2])
    }

    @Test("a filler is zero and under its checksum, also in a recycled segment")
    func recycledFiller() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        try writer.appendCommit(1, pages: 100, fill: 8000)
        let second = try writer.switchSegment()
        try writer.appendCommit(2)
        try writer.flush(through: writer.appendedLSN)
        try writer.recycle(below: second) { _ in true }
        #expect(try disk.list("wal").compactMap { SegmentName($0)?.segment.rawValue } == [2, 3])
        let third = try writer.switchSegment()
        try writer.appendCommit(3)
        let fourth = try writer.switchSegment()
        try writer.flush(through: fourth)
        let bytes = disk.contents()[segmentPath(3)]!
        let end = LogLayout.offset(try read(disk, from: third, chain: nil).ends[1])
        #expect(bytes[(end + 32)...].allSatisfy { $0 == 0 })
        #expect(try read(disk, from: second, chain: nil).commits == [2, 3])
    }

    @Test("A2: a segment that has its name is whole after a power loss, before anything was written to it")
    func wholeUnderItsName() throws {
        for seed in 1...8 as ClosedRange<UInt64> {
            let disk = try makeDisk(seed: seed)
            let writer = try makeWriter(disk)
            try writer.prepareAhead()
            let after = disk.restart(seed: seed)
            let names = try after.list("wal").compactMap { SegmentName($0) }
            #expect(names.map(\.segment.rawValue) == [1, 2], "seed \(seed)")
            for name in names {
                let size = try after.open(name.walPath, .read).size()
                #expect(size == UInt64(SegmentNumber.bytes), "\(name), seed \(seed)")
            }
        }
    }

    @Test("time never runs backwards, whatever the clock says")
    func time() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(
            disk, LogStart(position: LogLayout.firstPosition, chain: 0, durableMark: .zero, lastTime: 500))
        let id = TransactionID(1)
        #expect(try writer.append(commit: commit(1), first: id, last: id, time: 100).time == 500)
        #expect(try writer.append(.restorePoint(name: "x", time: 700)).time == 700)
        #expect(try writer.append(commit: commit(1), first: id, last: id, time: 600).time == 700)
    }

    @Test("the chain's value at a redo point is known once it was flushed, wherever it was taken")
    func redoPoint() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        #expect(writer.chain(at: writer.takeRedoPoint()) == 0)
        try writer.appendCommit(1)
        let point = writer.takeRedoPoint()
        #expect(writer.chain(at: point) == nil)
        try writer.appendCommit(2)
        try writer.flush(through: writer.appendedLSN)
        let chain = try #require(writer.chain(at: point))
        #expect(try read(disk, from: point, chain: chain).commits == [2])
        #expect(try read(disk, from: point, chain: chain &+ 1).end.reason == .doesNotFollow)
        let atEnd = writer.takeRedoPoint()
        try writer.appendCommit(3)
        let chainAtEnd = try #require(writer.chain(at: atEnd))
        #expect(try read(disk, from: atEnd, chain: chainAtEnd).commits == [])
        try writer.flush(through: writer.appendedLSN)
        #expect(try read(disk, from: atEnd, chain: chainAtEnd).commits == [3])
    }

    @Test("many threads flush side by side and each finds its record durable")
    func groupFlush() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        let appending = Mutex(0)
        let failures = Mutex(0)
        let threads = 8, rounds = 50
        DispatchQueue.concurrentPerform(iterations: threads) { _ in
            for _ in 0..<rounds {
                do {
                    let end = try appending.withLock { number in
                        number += 1
                        return try writer.appendCommit(number).end
                    }
                    try writer.flush(through: end)
                    if writer.durableLSN < end { failures.withLock { $0 += 1 } }
                } catch {
                    failures.withLock { $0 += 1 }
                }
            }
        }
        #expect(failures.withLock { $0 } == 0)
        #expect(try read(disk).commits == Array(1...UInt64(threads * rounds)))
    }

    @Test("a complete segment is marked ready, durably, also when a crash came before the mark")
    func ready() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk, archiving: true)
        try writer.appendCommit(1)
        try writer.flush(through: try writer.switchSegment())
        let name = SegmentName(timeline: .first, segment: SegmentNumber(1))
        #expect(try disk.restart(seed: 1).exists(name.readyPath))
        try writer.recycle(below: SegmentNumber(2).start) { _ in false }
        #expect(try disk.exists(name.walPath))

        disk.lose(name.readyPath)
        let reading = try read(disk)
        try EndOfLog(disk: disk, system: testSystem).clearBehind(reading.end)
        _ = try makeWriter(disk, reading.start, archiving: true)
        #expect(try disk.restart(seed: 2).exists(name.readyPath))
    }

    @Test("A7: no room for a segment is met in reserve, before anything changed, and heals by itself")
    func noSpace() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        try writer.appendCommit(1)
        try writer.flush(through: writer.appendedLSN)
        disk.limitCapacity(17 << 20)
        let before = writer.appendedLSN
        do throws(WALError) {
            try writer.reserve(bytes: 32 << 20)
            Issue.record("there was room")
        } catch {
            #expect(error.isNoSpace)
        }
        #expect(writer.appendedLSN == before)
        // What fits goes on, and a commit that has room is never refused later.
        try writer.reserve(bytes: 1000)
        try writer.appendCommit(2)
        try writer.flush(through: writer.appendedLSN)
        disk.limitCapacity(nil)
        try writer.reserve(bytes: 32 << 20)
        try writer.appendCommit(3, pages: 3000, fill: 8000)
        try writer.flush(through: writer.appendedLSN)
        #expect(try read(disk).commits == [1, 2, 3])
        #expect(!writer.isPoisoned)
    }

    @Test("A7: a segment for which there was no room leaves nothing behind that takes room")
    func noSpaceLeavesNothing() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        try writer.appendCommit(1)
        try writer.flush(through: writer.appendedLSN)
        let names = try disk.list("wal")
        disk.limitCapacity(20 << 20)
        for _ in 0..<3 { #expect(throws: WALError.self) { try writer.reserve(bytes: 32 << 20) } }
        #expect(try disk.list("wal") == names)
    }

    @Test("A5: a failed sync of the log poisons the writer for good; nothing is acknowledged on a retry")
    func failedSync() throws {
        for path in [segmentPath(1), "wal", "wal/archive_status"] {
            let disk = try makeDisk()
            let fatal = FatalLog()
            let writer = try makeWriter(disk, archiving: true, fatal: fatal)
            try writer.appendCommit(1)
            try writer.flush(through: writer.appendedLSN)
            let failed = Mutex(false)
            disk.injectFaults { call in
                guard call.path == path, call.kind == .sync || call.kind == .syncDirectory else { return nil }
                return failed.withLock { done in
                    defer { done = true }
                    return done ? nil : .error(.inputOutput)
                }
            }
            #expect(throws: WALError.self) {
                try writer.appendCommit(2)
                _ = try writer.switchSegment()
                try writer.flush(through: writer.appendedLSN)
                try writer.prepareAhead()
            }
            #expect(fatal.count == 1, "\(path)")
            let durable = writer.durableLSN
            #expect(throws: WALError.self) { try writer.appendCommit(3) }
            if writer.appendedLSN > durable {
                #expect(throws: WALError.self) { try writer.flush(through: writer.appendedLSN) }
            }
            #expect(writer.durableLSN == durable)
            // What was acknowledged is there, though the power fails as well.
            disk.injectFaults(nil)
            #expect(try read(disk.restart(seed: 4)).commits.first == 1)
        }
    }

    @Test("A8: a write that fails half way is reported, never taken as whole")
    func shortWrite() throws {
        let disk = try makeDisk()
        let fatal = FatalLog()
        let writer = try makeWriter(disk, fatal: fatal)
        try writer.appendCommit(1)
        try writer.flush(through: writer.appendedLSN)
        let second = try writer.appendCommit(2, pages: 4, fill: 4000)
        disk.injectFaults { $0.kind == .write ? .half(.inputOutput) : nil }
        #expect(throws: WALError.self) { try writer.flush(through: second.end) }
        #expect(fatal.count == 1)
        #expect(writer.durableLSN < second.end)
        disk.injectFaults(nil)
        for seed in 1...10 as ClosedRange<UInt64> {
            let after = disk.restart(seed: seed)
            let reading = try read(after)
            #expect(reading.commits == [1])
            #expect(try judge(after, reading.end) == .end)
        }
    }
}

extension LogWriter {
    /// Fillers that leave `slack` bytes of the current segment.
    func fillSegment(leaving slack: Int) throws(WALError) {
        let segment = SegmentNumber(containing: appendedLSN)
        while true {
            let at = LogLayout.offset(LogLayout.firstRecord(atOrAfter: appendedLSN))
            // A rest too short for a header went with the last filler.
            if SegmentNumber(containing: appendedLSN) > segment { return }
            let gap = SegmentNumber.bytes - slack - at
            if gap == 0 { return }
            let bytes = gap > LogLayout.maximumRecordBytes ? LogLayout.maximumRecordBytes / 2 : gap
            _ = try put(.filler, [], bodyBytes: bytes - LogLayout.recordHeaderBytes) { body in
                body.initializeMemory(as: UInt8.self, repeating: 0, count: bytes - LogLayout.recordHeaderBytes)
            }
        }
    }
}
