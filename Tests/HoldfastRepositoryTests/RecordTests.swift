import CShims
import HoldfastCore
import HoldfastRepositoryTestSupport
import HoldfastTestSupport
import Testing

@testable import HoldfastRepository

@Suite("Records are read strictly and within bounds")
struct RecordTests {
    @Test("a backup's record stands in JSON as documented")
    func golden() throws {
        let repository = try Repository.openOrCreate(
            MemoryStore(), cluster: "main", systemIdentifier: SystemIdentifier(rawValue: 7),
            environment: FakeMachine("m").environment)
        let record = try BackupFixture.take(repository)
        let text = String(decoding: try RecordCoding.encode(record), as: UTF8.self)
        for line in [
            "\"id\" : \"20261123T021500Z-full\"", "\"type\" : \"full\"", "\"system_identifier\" : \"7\"",
            "\"timeline\" : 1", "\"start_lsn\" : \"0/1000100\"", "\"stop_lsn\" : \"0/2000000\"",
            "\"started_at\" : \"2026-11-23T02:15:00.000000Z\"", "\"format_version\" : 1", "\"pages\" : 100",
            "\"path\" : \"backups/20261123T021500Z-full/base-00000001-0000000001000100-0001.tar.zst\"",
            "\"first\" : \"000000010000000000000001\"", "\"timeline_token\" : \"000000000000ABCD\"",
        ] { #expect(text.contains(line), "\(line) in \(text)") }
        #expect(try RecordCoding.decode(BackupRecord.self, Array(text.utf8), at: "x") == record)
    }

    @Test("a newer format is refused by name before anything else is read")
    func newer() throws {
        let store = MemoryStore()
        _ = try store.create(
            RepositoryLayout(cluster: "main").clusterRecord, Array("{\"format_version\": 2, \"new\": []}".utf8))
        #expect(throws: RepositoryError.newerFormat("main/cluster.json", version: 2)) {
            try Repository.open(store, cluster: "main")
        }
    }

    @Test("S9: hostile JSON is an error, whatever its lengths, depth and numbers")
    func hostile() throws {
        let deep = String(repeating: "[", count: 100_000)
        let inputs = [
            "", "{", "null", "[]", "\"x\"", "{\"format_version\":0}", "{\"format_version\":-1}",
            "{\"format_version\":9223372036854775808}", "{\"format_version\":1e400}", "{\"format_version\":1.5}",
            "{\"format_version\":1}", "{\"format_version\":1,\"cluster\":7,\"system_identifier\":\"7\"}",
            "{\"format_version\":1,\"cluster\":\"m\",\"system_identifier\":7}",
            "{\"format_version\":1,\"cluster\":\"m\",\"system_identifier\":\"-1\"}",
            "{\"format_version\":1,\"cluster\":\"m\",\"system_identifier\":\"18446744073709551615\"}", deep,
            "{\"format_version\":1,\"cluster\":" + deep, "\u{0}", "{\"format_version\":1,\"cluster\":\"\u{0}",
        ]
        for input in inputs {
            #expect(throws: RepositoryError.self, "\(input.prefix(60))") {
                try RecordCoding.decode(ClusterRecord.self, Array(input.utf8), at: "cluster.json")
            }
        }
        let long = [UInt8](repeating: 0x20, count: RecordCoding.limitBytes + 1)
        #expect(throws: RepositoryError.self) {
            try RecordCoding.decode(ClusterRecord.self, long, at: "cluster.json")
        }
    }

    @Test("S9: a backup's record that points outside its directory, or contradicts itself, is damaged")
    func contradictions() throws {
        let repository = try Repository.openOrCreate(
            MemoryStore(), cluster: "main", systemIdentifier: SystemIdentifier(rawValue: 7),
            environment: FakeMachine("m").environment)
        let record = try BackupFixture.take(repository)
        #expect(record.fault(expected: record.id, in: repository.layout) == nil)
        let edits: [(inout BackupRecord) -> Void] = [
            { $0.archives[0].path = "../other/backups/x" }, { $0.archives[0].path = "/etc/passwd" },
            { $0.manifest.path = "backups/20200101T000000Z-full/backup_manifest" },
            { $0.frameIndex.path = "backups/\($0.id)/../x" }, { $0.stopLSN = $0.startLSN }, { $0.archives = [] },
            { $0.cluster = "other" }, { $0.parent = $0.id }, { $0.type = .incremental },
            { $0.id = BackupID(time: $0.id.time.advanced(bySeconds: 1), kind: .full) },
        ]
        for (number, edit) in edits.enumerated() {
            var edited = record
            edit(&edited)
            #expect(edited.fault(expected: record.id, in: repository.layout) != nil, "edit \(number)")
        }
    }

    private func summary() -> SegmentSummary {
        SegmentSummary(
            segment: SegmentName(timeline: TimelineID(2), segment: SegmentNumber(0x305)),
            systemIdentifier: SystemIdentifier(rawValue: 7), token: TimelineToken(rawValue: 0x1122_3344_5566_7788),
            bytes: SegmentNumber.bytes, sha256: SHA256Digest(of: [1, 2, 3]), crc32c: 0x0403_0201,
            records: .init(first: LSN(0x3_0500_0040), end: LSN(0x3_0600_0000)),
            commits: .init(
                count: 3, firstTransaction: TransactionID(10), lastTransaction: TransactionID(14),
                firstTime: Timestamp(microseconds: 1_000_000), lastTime: Timestamp(microseconds: 2_000_000),
                firstEnd: LSN(0x3_0500_0100), lastEnd: LSN(0x3_0500_0200)),
            pageRuns: [.init(first: PageNumber(0), count: 2), .init(first: PageNumber(9), count: 1)],
            restorePoints: [
                .init(name: "before-upgrade", lsn: LSN(0x3_0500_0180), time: Timestamp(microseconds: 1_500_000))
            ])
    }

    @Test("a summary's bytes are as its table says")
    func goldenSummary() throws {
        let bytes = summary().encoded()
        #expect(bytes.count == 168 + 2 * 8 + 18 + 14)
        #expect(Array(bytes[0..<12]) == Array("HOLDFSUM".utf8) + [2, 0, 0, 0])
        #expect(bytes[16] == 7 && Array(bytes[24..<32]) == [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11])
        #expect(Array(bytes[32..<44]) == [5, 3, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0])
        #expect(Array(bytes[48..<80]) == SHA256Digest(of: [1, 2, 3]).bytes)
        #expect(Array(bytes[80..<88]) == [1, 2, 3, 4, 0, 0, 0, 0])
        #expect(bytes[104] == 3 && bytes[112] == 10 && bytes[120] == 14)
        #expect(Array(bytes[168..<184]) == [0, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0])
        #expect(
            SHA256Digest(of: bytes).description == "7d80649507edc802dd8a5e38f516c93edec86e75ffb55385b279e8e211038317")
        #expect(try SegmentSummary(decoding: bytes, at: "x") == summary())
    }

    @Test("S9: a summary's lengths are believed only as far as its bytes go")
    func hostileSummary() throws {
        var generator = SeededGenerator(seed: SeededGenerator.announcedSeed("summary"))
        let good = summary().encoded()
        for value in [0, UInt32.max, 1 << 31, UInt32.max - 1, 1_000] {
            for offset in [44, 160, 164, 168, 172] {
                var bytes = good
                withUnsafeBytes(of: value.littleEndian) { bytes.replaceSubrange(offset..<offset + 4, with: $0) }
                // With a CRC that fits, so that the lengths are what is judged.
                _ = try? SegmentSummary(decoding: resealed(bytes), at: "x")
                if value != 0, offset != 44, offset != 168 {
                    #expect(throws: RepositoryError.self, "\(value) at \(offset)") {
                        try SegmentSummary(decoding: resealed(bytes), at: "x")
                    }
                }
            }
        }
        for _ in 0..<4_000 {
            var bytes = good
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                bytes[Int.random(in: 16..<bytes.count, using: &generator)] = UInt8.random(
                    in: 0...255, using: &generator)
            }
            if Bool.random(using: &generator) { bytes.removeLast(Int.random(in: 0..<60, using: &generator)) }
            _ = try? SegmentSummary(decoding: resealed(bytes), at: "x")
        }
    }

    private func resealed(_ bytes: [UInt8]) -> [UInt8] {
        var bytes = bytes
        let crc = bytes.withUnsafeBytes { hf_crc32c(0, $0.baseAddress! + 16, $0.count - 16) }
        withUnsafeBytes(of: crc.littleEndian) { bytes.replaceSubrange(12..<16, with: $0) }
        return bytes
    }
}
