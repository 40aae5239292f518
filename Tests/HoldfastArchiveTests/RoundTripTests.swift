import CShims
import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

@testable import HoldfastArchive

@Suite("What was packed comes back, through us and through stock tools")
struct RoundTripTests {
    static let variants: [(Codec, Int)] = [(.zstd, 1), (.zstd, -3), (.gzip, 0), (.gzip, 1), (.gzip, 6), (.none, 1)]

    @Test("every codec gives back every page and small file, in one archive or several", arguments: variants)
    func roundTrip(codec: Codec, level: Int) throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("round trip \(codec) \(level)"))
        let pages = MemoryPages(
            [(0, 300, 0), (1, 128, 5), (2, 0, 0), (7, Int.random(in: 1...200, using: &random), 0)], random: &random)
        for archiveBytes in [16 << 30, 1 << 20] as [UInt64] {
            let archives = MemoryArchives()
            let result = try pack(pages, into: archives, codec: codec, level: level, archiveBytes: archiveBytes)
            #expect(archives.finished == result.archives)
            #expect(result.archives.count == (archiveBytes == 1 << 20 ? 3 : 1))
            #expect(result.archives.map { Int($0.bytes) } == archives.archives.map(\.count))
            let index = try FrameIndex(decoding: result.index.encoded())
            #expect(index == result.index)
            let checksums = try PageChecksums(decoding: result.checksums.encoded())
            #expect(checksums == result.checksums)
            for file in pages.files {
                let content = pages.promised(file.index)
                #expect(result.files.first { $0.path == PageNumber.filePath(file.index) }?.crc == CRC32C.of(content))
            }
            for direct in [true, false] {
                let target = try TemporaryDirectory()
                let small = try ArchiveReader(
                    index, checksums: checksums, source: archives, options: .init(usesDirectIO: direct)
                ).restore(into: target.path)
                #expect(small == testMembers)
                for file in pages.files {
                    let path = target.path + "/" + PageNumber.filePath(file.index)
                    #expect(try contents(path) == pages.promised(file.index))
                }
            }
        }
    }

    @Test("tar, zstd and gzip read every archive without a word of complaint", arguments: variants)
    func stockTools(codec: Codec, level: Int) throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("stock tools \(codec) \(level)"))
        let pages = MemoryPages([(0, 290, 0), (1, 40, 0)], random: &random)
        let place = try TemporaryDirectory()
        try pages.write(below: place.path + "/data")
        let sink = DirectorySink(directory: place.path, tag: testTag, codec: codec)
        let source = try FilePageSource(root: place.path + "/data", files: pages.files)
        let writer = try ArchiveWriter(
            tag: testTag,
            options: ArchiveOptions(compression: Compression(codec, level: level), archiveBytes: 1 << 20),
            pageFiles: pages.files, source: source, sink: sink)
        try writer.writePages()
        let result = try writer.finish(testMembers)
        #expect(result.archives.count == 2)
        try FileManager.default.createDirectory(atPath: place.path + "/out", withIntermediateDirectories: false)
        for archive in result.archives {
            let path = place.path + "/" + testTag.archiveName(archive.number, codec: codec)
            let sum = try run("sha256sum", [path])
            #expect(sum.output.hasPrefix(archive.sha256.map { BackupManifest.hex(byte: $0) }.joined()))
            switch codec {
            case .zstd: #expect(try run("zstd", ["-q", "-t", path]).status == 0)
            case .gzip: #expect(try run("gzip", ["-t", path]) == (0, ""))
            case .none: break
            }
            let flag = codec == .zstd ? ["--zstd"] : codec == .gzip ? ["-z"] : []
            let untar = try run("tar", flag + ["-xf", path, "-C", place.path + "/out"])
            #expect(untar == (0, ""))
        }
        for file in pages.files {
            let path = PageNumber.filePath(file.index)
            #expect(try contents(place.path + "/out/" + path) == pages.promised(file.index))
        }
        for member in testMembers { #expect(try contents(place.path + "/out/" + member.path) == member.bytes) }
        #expect(FileManager.default.fileExists(atPath: place.path + "/out/wal"))
        // And back through our own files.
        let reader = try ArchiveReader(
            result.index, checksums: result.checksums,
            source: try DirectorySource(directory: place.path, index: result.index))
        try reader.verify()
    }

    @Test("what we write carries the start LSN, timeline, system identifier and backup id in its name and header")
    func tagged() throws {
        #expect(testTag.archiveName(1, codec: .zstd) == "base-00000001-00000016B374D848-0001.tar.zst")
        #expect(testTag.archiveName(12345, codec: .gzip) == "base-00000001-00000016B374D848-12345.tar.gz")
        var tar = TarReader(
            TarWriter.globalHeader(testTag, archive: 3) + [UInt8](repeating: 0, count: TarWriter.endOfArchiveBytes))
        #expect(try tar.next() == nil)
        #expect(
            tar.globals == [
                "HOLDFAST.format": "1", "HOLDFAST.backup_id": "20261123T021500Z-full",
                "HOLDFAST.system_identifier": "7421337000000042", "HOLDFAST.timeline": "00000001",
                "HOLDFAST.start_lsn": "16/B374D848", "HOLDFAST.archive": "3",
            ])
    }

    @Test("the bytes of frames.idx and pages.crc are those of their tables")
    func golden() throws {
        var checksums = PageChecksums()
        checksums.append(first: PageNumber(5), [0x0102_0304, 0x0506_0708])
        checksums.append(first: PageNumber(9), [0x090A_0B0C])
        let sums = checksums.encoded()
        #expect(
            sums.dropLast(4) == Array("HFPAGECR".utf8)[...] + [
                1, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0,
                4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9,
            ])
        var index = FrameIndex(
            tag: ArchiveTag(
                backupID: "b", systemIdentifier: SystemIdentifier(rawValue: 0x0102), timeline: TimelineID(3),
                startLSN: LSN(0x0405)), codec: .none)
        index.archives = [
            FinishedArchive(number: 1, bytes: 1024, streamBytes: 1024, sha256: [UInt8](repeating: 7, count: 32))
        ]
        index.members = [
            .init(kind: .directory, archive: 1, path: "wal", bytes: 0, crc: 0, modified: 9)
        ]
        index.frames = [
            .init(
                archive: 1, kind: .members, offset: 0, compressedBytes: 1024, bytes: 1024, streamOffset: 0,
                compressedCRC: 0x0A0B, crc: 0x0C0D, member: 0, firstPage: PageNumber(0), headerBytes: 0)
        ]
        var expected = Array("HFFRAMES".utf8) + [1, 0, 0, 0, 0, 0, 0, 0]
        expected += [2, 1, 0, 0, 0, 0, 0, 0, 5, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0x62]
        expected += [1, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0] + [UInt8](repeating: 7, count: 32)
        expected += [1, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 3, 0]
        expected += Array("wal".utf8) + [1, 0, 0, 0, 0, 0, 0, 0]
        expected += [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        expected += [0x0B, 0x0A, 0, 0, 0x0D, 0x0C, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        #expect(Array(index.encoded().dropLast(4)) == expected)
        #expect(try FrameIndex(decoding: index.encoded()) == index)
    }

    @Test("a newer format is refused by name")
    func newerFormat() throws {
        for (bytes, object) in [
            (PageChecksums().encoded(), "pages.crc"), (FrameIndex(tag: testTag, codec: .zstd).encoded(), "frames.idx"),
        ] {
            var newer = bytes
            newer[8] = 2
            let error = #expect(throws: ArchiveError.self) {
                if object == "pages.crc" { _ = try PageChecksums(decoding: newer) }
                if object == "frames.idx" { _ = try FrameIndex(decoding: newer) }
            }
            #expect(error == .newerFormat(object: object, version: 2, supported: 1))
        }
    }

    @Test("CRCs of parts combine to the CRC of the whole, and a page's checksum yields its plain CRC")
    func crc() throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("crc"))
        let bytes = (0..<50_000).map { _ in UInt8.random(in: 0...255, using: &random) }
        for _ in 0..<200 {
            let cut = Int.random(in: 0...bytes.count, using: &random)
            let (a, b) = (Array(bytes[..<cut]), Array(bytes[cut...]))
            let whole = CRC32C.combine(CRC32C.of(a), CRC32C.of(b), bytesOfB: UInt64(b.count))
            #expect(whole == CRC32C.of(bytes))
            let shift = CRC32C.Shift(bytes: UInt64(b.count))
            #expect(shift(CRC32C.of(a)) ^ CRC32C.of(b) == whole)
        }
        var file = MemoryPages.file(3, pages: 40, random: &random)
        let tool = PageCRC()
        file.withUnsafeMutableBytes { buffer in
            for place in 0..<40 {
                let bytes = UnsafeRawBufferPointer(rebasing: buffer[place * 8192..<(place + 1) * 8192])
                let number = PageNumber(3 * PageNumber.pagesPerFile + UInt32(place))
                let page = Page(reading: bytes.baseAddress!)
                #expect(page.fault(expected: number) == nil)
                #expect(tool.ofSound(page, number: number) == CRC32C.of(bytes))
            }
        }
    }
}
