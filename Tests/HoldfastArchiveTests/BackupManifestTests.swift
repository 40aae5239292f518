import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

@testable import HoldfastArchive

@Suite("backup_manifest is PostgreSQL's")
struct BackupManifestTests {
    @Test("the text is byte for byte as PostgreSQL writes it")
    func golden() throws {
        let manifest = BackupManifest(
            files: [
                .init(path: "backup_label", bytes: 9, modified: 1_795_486_500, crc: 0xE306_9283),
                .init(path: "pages/00000000", bytes: 8192, modified: 951_782_400, crc: 1),
            ], walRanges: [.init(timeline: TimelineID(2), start: LSN("0/2000028")!, end: LSN("16/B374D848")!)])
        let text = String(decoding: try manifest.encoded(), as: UTF8.self)
        #expect(
            text == """
                { "PostgreSQL-Backup-Manifest-Version": 1,
                "Files": [
                { "Path": "backup_label", "Size": 9, "Last-Modified": "2026-11-24 02:15:00 GMT", \
                "Checksum-Algorithm": "CRC32C", "Checksum": "839206e3" },
                { "Path": "pages/00000000", "Size": 8192, "Last-Modified": "2000-02-29 00:00:00 GMT", \
                "Checksum-Algorithm": "CRC32C", "Checksum": "01000000" }
                ],
                "WAL-Ranges": [
                { "Timeline": 2, "Start-LSN": "0/2000028", "End-LSN": "16/B374D848" }
                ],
                "Manifest-Checksum": "\(text.suffix(67).prefix(64))"}

                """)
        #expect(try BackupManifest(decoding: Array(text.utf8)) == manifest)
        let empty = BackupManifest(files: [], walRanges: [])
        #expect(try BackupManifest(decoding: empty.encoded()) == empty)
    }

    @Test("times from 1970 to 9999 come back, leap days and all")
    func times() {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("times"))
        for _ in 0..<5000 {
            let seconds = Int64.random(in: 0...253_402_300_799, using: &random)
            #expect(BackupManifest.parse(time: BackupManifest.format(seconds: seconds)) == seconds)
        }
        #expect(BackupManifest.parse(time: "2026-02-29 00:00:00 GMT") == nil)
        #expect(BackupManifest.parse(time: "2026-02-28 24:00:00 GMT") == nil)
    }

    @Test("C3: pg_verifybackup accepts what was restored, and names what is extra, missing, changed, cut or grown")
    func postgreSQL() throws {
        let tool = "/usr/lib/postgresql/15/bin/pg_verifybackup"
        try #require(FileManager.default.isExecutableFile(atPath: tool), "postgresql-15 is needed: \(tool)")
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("pg_verifybackup"))
        let pages = MemoryPages([(0, 200, 3), (1, 30, 0)], random: &random)
        let archives = MemoryArchives()
        let result = try pack(pages, into: archives, codec: .zstd)
        let target = try TemporaryDirectory()
        let root = target.path
        let small = try ArchiveReader(result.index, checksums: result.checksums, source: archives).restore(into: root)
        func write(_ path: String, _ bytes: [UInt8]) throws {
            try Data(bytes).write(to: URL(fileURLWithPath: root + "/" + path))
        }
        for member in small { try write(member.path, member.bytes) }
        let manifest = BackupManifest(
            files: result.files,
            walRanges: [.init(timeline: TimelineID(1), start: testTag.startLSN, end: testTag.startLSN + 100)])
        try write("backup_manifest", try manifest.encoded())
        let whole = try run(tool, ["-n", root])
        #expect(whole.status == 0, "\(whole.output)")

        let label = small[1]
        func refused(_ path: String, _ change: () throws -> Void, undo: () throws -> Void) throws {
            try change()
            let outcome = try run(tool, ["-n", root])
            #expect(outcome.status != 0 && outcome.output.contains(path), "\(outcome.output)")
            try undo()
        }
        let restore = { try write(label.path, label.bytes) }
        try refused(label.path, { try write(label.path, label.bytes.dropLast()) }, undo: restore)
        try refused(label.path, { try write(label.path, label.bytes + [0]) }, undo: restore)
        try refused(label.path, { try write(label.path, label.bytes.reversed()) }, undo: restore)
        try refused(label.path, { try FileManager.default.removeItem(atPath: root + "/backup_label") }, undo: restore)
        try refused("extra", { try write("extra", [1]) }) {
            try FileManager.default.removeItem(atPath: root + "/extra")
        }
        #expect(try run(tool, ["-n", root]).status == 0)
    }

    @Test("C3: a manifest cut, or with any bit flipped, is refused")
    func damage() throws {
        let manifest = BackupManifest(
            files: (0..<5).map { .init(path: "pages/0000000\($0)", bytes: 8192, modified: 1_795_486_500, crc: 77) },
            walRanges: [.init(timeline: TimelineID(1), start: LSN(0x200_0028), end: LSN(0x300_0028))])
        let bytes = try manifest.encoded()
        for place in bytes.indices {
            for bit in 0..<8 {
                var damaged = bytes
                damaged[place] ^= 1 << UInt8(bit)
                #expect(throws: ArchiveError.self) { try BackupManifest(decoding: damaged) }
            }
            #expect(throws: ArchiveError.self) { try BackupManifest(decoding: Array(bytes[..<place])) }
        }
    }

    @Test("S1: a manifest that names a path outside, or a path twice, is neither written nor read")
    func paths() throws {
        for path in ["../x", "/x", "a\"b", "a\nb", "", "a\\b"] {
            let manifest = BackupManifest(files: [.init(path: path, bytes: 0, modified: 0, crc: 0)], walRanges: [])
            #expect(throws: ArchiveError.self) { try manifest.encoded() }
        }
        let file = BackupManifest.File(path: "a", bytes: 0, modified: 0, crc: 0)
        let twice = try BackupManifest(files: [file, file], walRanges: []).encoded()
        #expect(throws: ArchiveError.badMember(name: "a", why: "the manifest lists it twice")) {
            try BackupManifest(decoding: twice)
        }
    }
}
