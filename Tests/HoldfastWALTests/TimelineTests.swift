import HoldfastCore
import HoldfastTestSupport
import Testing

@testable import HoldfastWAL

@Suite("Timelines: branches of one log, each position on exactly one")
struct TimelineTests {
    private let second = TimelineToken(rawValue: 0xB2)

    private func branched(at lsn: LSN) throws -> TimelineHistory {
        try testHistory.branching(
            .init(timeline: TimelineID(2), switchLSN: lsn, token: second, reason: "promoted by node-b"))
    }

    @Test("the text of a history is final, and read back as it was")
    func golden() throws {
        let history = try branched(at: LSN(0x300_0060))
        let text = String(decoding: history.encoded(), as: UTF8.self)
        #expect(
            text == """
                holdfast timeline history 1
                00000001\t0/0\tA1A2A3A4A5A6A7A8\tinitialised
                00000002\t0/3000060\t00000000000000B2\tpromoted by node-b
                crc32c F45A2BC3

                """)
        #expect(try TimelineHistory(decoding: history.encoded()) == history)
    }

    @Test("a history with any byte changed or cut is refused")
    func damagedHistory() throws {
        let bytes = try branched(at: LSN(0x300_0060)).encoded()
        for at in bytes.indices {
            var changed = bytes
            changed[at] ^= 1
            #expect(throws: WALError.self) { try TimelineHistory(decoding: changed) }
            #expect(throws: WALError.self) { try TimelineHistory(decoding: Array(bytes[..<at])) }
        }
    }

    @Test("positions are pairs: on a history only between where their timeline began and where it was left")
    func pairs() throws {
        let history = try branched(at: LSN(100))
        #expect(history.contains(.first, LSN(100)) && history.contains(TimelineID(2), LSN(100)))
        #expect(!history.contains(.first, LSN(101)) && !history.contains(TimelineID(2), LSN(99)))
        #expect(!history.contains(TimelineID(3), LSN(100)))
        #expect(history.timeline(at: LSN(99)) == .first && history.timeline(at: LSN(100)) == TimelineID(2))
        let other = try testHistory.branching(
            .init(timeline: TimelineID(3), switchLSN: LSN(80), token: TimelineToken(rawValue: 3), reason: "x"))
        let fork = try #require(history.fork(from: other))
        #expect(fork.timeline == .first && fork.lsn == LSN(80))
        #expect(throws: WALError.self) {
            try history.branching(.init(timeline: TimelineID(2), switchLSN: LSN(200), token: second, reason: ""))
        }
    }

    @Test("a timeline begun inside a segment continues its parent's records there, and reads as one log")
    func branch() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        try writer.appendCommit(1)
        let fork = try writer.appendCommit(2).end
        try writer.flush(through: fork)
        let forked = try read(disk)
        // The old leader goes on for a while on its own timeline.
        try writer.appendCommit(66)
        try writer.flush(through: writer.appendedLSN)

        let history = try branched(at: fork)
        let logs = EndOfLog(disk: disk, system: testSystem)
        try logs.branch(history)
        let identity = LogIdentity(system: testSystem, timeline: TimelineID(2), token: second)
        let survivor = disk.restart(seed: 9)
        let promoted = try makeWriter(survivor, forked.start, identity: identity)
        _ = try promoted.append(
            .timelineSwitch(
                switchLSN: fork, previous: .first, timeline: TimelineID(2), token: second, time: 9))
        try promoted.appendCommit(3)
        try promoted.flush(through: promoted.appendedLSN)
        let reading = try readAll(DiskSegmentSource(disk: survivor), history: history)
        #expect(reading.commits == [1, 2, 3])
        #expect(reading.end.timeline == TimelineID(2))
        // On the old timeline's own history the other branch is read.
        #expect(try read(survivor).commits == [1, 2, 66])
        // With the parent's file gone the new timeline's has it all.
        survivor.lose(segmentPath(1))
        #expect(try readAll(DiskSegmentSource(disk: survivor), history: history).commits == [1, 2, 3])
    }

    /// A log with a commit in its first segment, at whose end it will be left, and one in the second.
    private func logBeyondFork() throws -> (disk: SimulatedDisk, fork: LSN) {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        let fork = try writer.appendCommit(1).end
        try writer.flush(through: try writer.switchSegment())
        try writer.appendCommit(2)
        try writer.flush(through: writer.appendedLSN)
        return (disk, fork)
    }

    @Test("segments of a timeline beyond its switch point are removed")
    func beyondSwitch() throws {
        let (disk, fork) = try logBeyondFork()
        try EndOfLog(disk: disk, system: testSystem).removeBeyondSwitch(.first, at: fork)
        #expect(try disk.list("wal").compactMap { SegmentName($0)?.segment } == [SegmentNumber(1)])
    }

    @Test("E4: segments beyond the switch point are removed while an archiver marks them")
    func beyondSwitchBesideArchiver() throws {
        let (disk, fork) = try logBeyondFork()
        let marked = SegmentName(timeline: .first, segment: SegmentNumber(2))
        try disk.open(marked.readyPath, .create).close()
        disk.interleave { call in
            guard call.kind == .remove, call.path == marked.readyPath else { return }
            try? disk.rename(marked.readyPath, to: marked.donePath)
        }
        try EndOfLog(disk: disk, system: testSystem).removeBeyondSwitch(.first, at: fork)
        #expect(try disk.list("wal").compactMap { SegmentName($0)?.segment } == [SegmentNumber(1)])
        #expect(try !disk.list("wal/archive_status").contains { $0.hasPrefix(marked.description) })
    }
}
