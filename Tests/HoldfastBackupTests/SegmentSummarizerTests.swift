import HoldfastBackup
import HoldfastCore
import HoldfastRepository
import HoldfastWAL
import Testing

@Suite("A summary says what a segment holds, and only of a whole one")
struct SegmentSummarizerTests {
    private func summarize(_ log: ArchivedLog, _ number: UInt64, earlier: Bool = true) throws -> SegmentSummary {
        let name = ArchivedLog.name(number)
        return try SegmentSummarizer(name, try log.bytes(name), history: nil).summarize { other in
            earlier ? try log.bytes(other) : nil
        }
    }

    @Test("pages, commits, times and restore points of one segment")
    func contents() throws {
        let log = try ArchivedLog()
        let first = try log.commit([5, 6, 7, 100])
        let point = try log.restorePoint("before-upgrade")
        let last = try log.commit([8, 2])
        try log.switchSegment()
        let summary = try summarize(log, 1)
        #expect(summary.pageRuns.map { [$0.first.rawValue, $0.count] } == [[2, 1], [5, 4], [100, 1]])
        #expect(summary.restorePoints.map(\.name) == ["before-upgrade"])
        #expect(summary.restorePoints.map(\.lsn) == [point])
        let commits = try #require(summary.commits)
        #expect(commits.count == 2 && commits.firstTransaction == TransactionID(1))
        #expect(commits.lastTransaction == TransactionID(2) && commits.firstEnd == first && commits.lastEnd == last)
        #expect(commits.firstTime < commits.lastTime)
        #expect(summary.records?.end == SegmentNumber(1).end)
        #expect(summary.systemIdentifier == ArchivedLog.system && summary.token == TimelineToken(rawValue: 0xFEED))
        #expect(summary.sha256 == SHA256Digest(of: try log.bytes(ArchivedLog.name(1))))
        // A summary read back is the summary.
        #expect(try SegmentSummary(decoding: summary.encoded(), at: "x") == summary)
    }

    @Test("a commit over several segments belongs, with all its pages, to the one in which it ends")
    func commitOverSegments() throws {
        let log = try ArchivedLog()
        try log.commit([1])
        // About 34 MB: it begins in segment 1 and ends in segment 3.
        let end = try log.commit(1000..<5800)
        try #require(SegmentNumber(containing: end) == SegmentNumber(3))
        try log.commit([9])
        try log.switchSegment()
        let first = try summarize(log, 1)
        #expect(first.pageRuns.map { [$0.first.rawValue, $0.count] } == [[1, 1]])
        #expect(first.commits?.count == 1)
        let second = try summarize(log, 2)
        #expect(second.pageRuns.isEmpty && second.commits == nil)
        let third = try summarize(log, 3)
        #expect(third.pageRuns.map { [$0.first.rawValue, $0.count] } == [[9, 1], [1000, 4800]])
        #expect(third.commits?.count == 2 && third.commits?.firstEnd == end)
        // Without the segments before it, it claims too much and never too little.
        let alone = try summarize(log, 3, earlier: false)
        #expect(alone.pageRuns == [.init(first: PageNumber(0), count: UInt32.max)])
        #expect(alone.commits == third.commits)
        #expect(try SegmentSummary(decoding: alone.encoded(), at: "x") == alone)
    }

    @Test("a segment that is cut, damaged, unfinished or another one is refused")
    func damaged() throws {
        let log = try ArchivedLog()
        for page in UInt32(1)...40 { try log.commit([page]) }
        try log.switchSegment()
        try log.commit([1])
        try log.writer.flush(through: log.writer.appendedLSN)
        let name = ArchivedLog.name(1)
        let whole = try log.bytes(name)
        var flips: [[UInt8]] = []
        for offset in [0, 20, 40, 62, 64, 100, 40_000, 200_000, 300_000, SegmentNumber.bytes - 1] {
            var bytes = whole
            bytes[offset] ^= 1
            flips.append(bytes)
        }
        for (number, bytes) in (flips + [Array(whole.dropLast(1)), whole + [0], []]).enumerated() {
            #expect(throws: (any Error).self, "variant \(number)") {
                _ = try SegmentSummarizer(name, bytes, history: nil).summarize { _ in nil }
            }
        }
        #expect(throws: ArchiverError.self) {
            _ = try SegmentSummarizer(ArchivedLog.name(9), whole, history: nil).summarize { _ in nil }
        }
        // The segment being written is not whole yet.
        let current = ArchivedLog.name(2)
        #expect(throws: ArchiverError.self) {
            _ = try SegmentSummarizer(current, try log.bytes(current), history: nil).summarize { _ in nil }
        }
        let foreign = TimelineHistory(first: TimelineToken(rawValue: 1)).encoded()
        #expect(throws: ArchiverError.self) { _ = try SegmentSummarizer(name, whole, history: foreign) }
    }
}
