import HoldfastCore
import HoldfastRepository

/// `<segment>.summary`: as it is, and with its checksum put right.
package enum SummaryTarget: FuzzTarget {
    package static let name = "summary"

    package static func seeds() -> [[UInt8]] {
        let name = SegmentName(timeline: .first, segment: SegmentNumber(1))
        let time = Timestamp(microseconds: 1_795_000_000_000_000)
        let empty = SegmentSummary(
            segment: name, systemIdentifier: SystemIdentifier(rawValue: 7), token: TimelineToken(rawValue: 1),
            bytes: SegmentNumber.bytes, sha256: SHA256Digest(of: [1]), crc32c: 5, records: nil, commits: nil,
            pageRuns: [], restorePoints: [])
        var full = empty
        full.records = .init(first: name.segment.start + 64, end: name.segment.end)
        full.commits = .init(
            count: 2, firstTransaction: TransactionID(1), lastTransaction: TransactionID(9), firstTime: time,
            lastTime: time, firstEnd: name.segment.start + 128, lastEnd: name.segment.start + 4096)
        full.pageRuns = SegmentSummary.runs(ofSorted: [0, 1, 2, 9, UInt32.max])
        full.restorePoints = [.init(name: "before", lsn: name.segment.start + 512, time: time)]
        return [empty.encoded(), full.encoded()]
    }

    package static func run(_ input: UnsafeRawBufferPointer) {
        var bytes = Array(input)
        read(bytes)
        guard bytes.count >= 16 else { return }
        Stamp.crc(&bytes, over: 16..<bytes.count, at: 12)
        read(bytes)
    }

    private static func read(_ bytes: [UInt8]) {
        guard let summary = try? SegmentSummary(decoding: bytes, at: "fuzz.summary") else { return }
        let again = try? SegmentSummary(decoding: summary.encoded(), at: "fuzz.summary")
        expect(again == summary, "a summary reads as another when it is written again")
        expect(summary.pageRuns.count * 8 <= bytes.count, "more runs than bytes")
        expect(summary.segment.segment.end > summary.segment.segment.start, "a segment without an end")
        _ = (summary.segment.description, summary.commits?.firstTime.description)
    }
}

/// The repository's JSON: each record's type tries the bytes, whatever they are.
package enum RecordTarget: FuzzTarget {
    package static let name = "record"

    private static let layout = RepositoryLayout(cluster: "main")

    package static func seeds() throws -> [[UInt8]] {
        let time = Timestamp(microseconds: 1_795_000_000_000_000), id = BackupID(time: time, kind: .full)
        let file = BackupRecord.StoredFile(
            path: "backups/\(id)/pages.crc", bytes: 5, sha256: SHA256Digest(of: Array("pages".utf8)))
        let segment = SegmentName(timeline: .first, segment: SegmentNumber(1))
        let backup = BackupRecord(
            holdfastVersion: "0.1.0", id: id, parent: nil, label: "nightly", cluster: "main",
            systemIdentifier: SystemIdentifier(rawValue: 7), timeline: .first,
            timelineToken: TimelineToken(rawValue: 9),
            startLSN: LSN(0x100_0100), stopLSN: LSN(0x200_0000), startedAt: time, finishedAt: time, pages: 100,
            bytes: 819_200, codec: "zstd", archives: [file], manifest: file, frameIndex: file, pageChecksums: file,
            wal: .init(first: segment, last: segment))
        return [
            try RecordCoding.encode(try backup.sealed()),
            try RecordCoding.encode(TombstoneRecord(id: id, sweptAt: time, sweptBy: "a")),
            try RecordCoding.encode(RemovalRecord(id: id, removedAt: time, reason: "b")),
            try RecordCoding.encode(ClusterRecord(cluster: "main", systemIdentifier: SystemIdentifier(rawValue: 7))),
            try RecordCoding.encode(CutRecord(lsn: LSN(7))),
        ]
    }

    package static func run(_ input: UnsafeRawBufferPointer) {
        let bytes = Array(input)
        if let record = read(BackupRecord.self, bytes) {
            _ = try? record.opened(at: "backup.json")
            _ = record.fault(expected: record.id, in: layout)
        }
        _ = (read(TombstoneRecord.self, bytes), read(RemovalRecord.self, bytes), read(ClusterRecord.self, bytes))
        _ = (read(CutRecord.self, bytes), read(LeaseRecord.self, bytes), read(BackupAnnouncement.self, bytes))
    }

    private static func read<R: RepositoryRecord>(_ type: R.Type, _ bytes: [UInt8]) -> R? {
        let record: R
        do { record = try RecordCoding.decode(type, bytes, at: "fuzz.json") } catch {
            _ = "\(error)"
            return nil
        }
        let again = try? RecordCoding.decode(type, RecordCoding.encode(record), at: "fuzz.json")
        expect(again == record, "a \(type) reads as another when it is written again")
        return record
    }
}
