import HoldfastCore
import HoldfastTestSupport
import Testing

@testable import HoldfastWAL

@Suite("The bytes on disk are final")
struct GoldenTests {
    private func hexadecimalText(_ bytes: some Sequence<UInt8>) -> String {
        bytes.map { hexadecimal(UInt64($0), digits: 2) }.joined()
    }

    @Test("a segment with every kind of record has exactly these bytes")
    func segment() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        let first = try writer.appendCommit(7)
        _ = try writer.append(
            .checkpoint(redo: first.start, redoTimeline: .first, lastTransaction: TransactionID(7), time: 8000))
        _ = try writer.append(.restorePoint(name: "before-2.0", time: 9000))
        _ = try writer.append(.backupEnd(start: first.start, startTimeline: .first, token: 0xBEEF, time: 9001))
        _ = try writer.append(.endOfRecovery(recoveredTo: first.end, time: 9002))
        _ = try writer.append(
            .timelineSwitch(
                switchLSN: first.end, previous: .first, timeline: TimelineID(2), token: testToken, time: 9003))
        try writer.flush(through: writer.appendedLSN)
        _ = try writer.switchSegment()
        try writer.flush(through: writer.appendedLSN)
        let bytes = disk.contents()[segmentPath(1)]!
        let reading = try read(disk)
        var lines: [String] = []
        for (start, end) in zip(reading.starts, reading.ends) {
            let from = LogLayout.offset(start)
            // Of the filler only the header: its body is zero, as its checksum says.
            let count: Int = min(end - start, 96)
            lines.append(hexadecimalText(bytes[from..<from + count]))
        }
        #expect(hexadecimalText(bytes[..<64]) == goldenHeader)
        #expect(lines == goldenRecords)
    }

    @Test("records are shown as a line and as JSON")
    func dump() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        try writer.appendCommit(7)
        _ = try writer.append(.restorePoint(name: "a\"b\u{1B}", time: 9000))
        try writer.flush(through: writer.appendedLSN)
        let reader = LogReader(
            source: DiskSegmentSource(disk: disk), system: testSystem, history: testHistory,
            from: LogLayout.firstPosition, chain: 0)
        let commit = RecordDump(try #require(try reader.next()))
        #expect(commit.line == goldenDumpLine)
        #expect(commit.json == goldenDumpJSON)
        let point = RecordDump(try #require(try reader.next()))
        #expect(!point.line.unicodeScalars.contains("\u{1B}"))
        #expect(point.json.contains(#""name":"a\"b\u001B""#))
    }
}
