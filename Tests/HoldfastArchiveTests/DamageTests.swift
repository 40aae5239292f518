import CShims
import Foundation
import Glibc
import HoldfastCore
import HoldfastTestSupport
import Testing

@testable import HoldfastArchive

@Suite("Damage to an archive or to its books never passes")
struct DamageTests {
    private func backup(_ codec: Codec, _ random: inout SeededGenerator) throws -> (
        MemoryPages, ArchiveResult, [[UInt8]]
    ) {
        let pages = MemoryPages([(0, 150, 0), (1, 20, 0)], random: &random)
        let archives = MemoryArchives()
        let result = try pack(pages, into: archives, codec: codec, archiveBytes: 1 << 20)
        return (pages, result, archives.archives)
    }

    @Test("C3: an archive cut, grown, exchanged or with a bit flipped anywhere is refused", arguments: Codec.allCases)
    func archives(codec: Codec) throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("damaged archives \(codec)"))
        let (_, result, whole) = try backup(codec, &random)
        func check(_ archives: [[UInt8]], _ comment: Comment) {
            let error = #expect(throws: (any Error).self, comment) {
                try ArchiveReader(result.index, checksums: result.checksums, source: MemoryArchives(archives: archives))
                    .verify()
            }
            if let error = error as? ArchiveError {
                #expect(error.diagnosis.status == .dataError)
            }
        }
        try ArchiveReader(result.index, checksums: result.checksums, source: MemoryArchives(archives: whole)).verify()
        for (number, archive) in whole.enumerated() {
            var places = (0..<40).map { _ in Int.random(in: 0..<archive.count, using: &random) }
            places += result.index.frames.filter { $0.archive == number + 1 }.flatMap {
                // The fifth byte is a gzip member's time: nothing but the frame's own CRC covers it.
                [Int($0.offset), Int($0.offset) + 4, Int($0.offset) + $0.compressedBytes - 1]
            }
            places += [archive.count - 1]
            for place in places {
                var damaged = whole
                damaged[number][place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                check(damaged, "bit at \(place) of archive \(number + 1)")
                damaged[number] = Array(archive[..<place])
                check(damaged, "cut at \(place) of archive \(number + 1)")
            }
            var grown = whole
            grown[number].append(0)
            check(grown, "one byte more")
        }
        check(whole.reversed(), "exchanged")
    }

    /// An uncompressed backup of one page file, one of whose pages `change` has changed. The checksum of the frame as it
    /// is stored fits; that of its content does if asked for.
    private func changedPage(
        contentFits: Bool, _ change: (Page) -> Void
    ) throws -> (number: PageNumber, index: FrameIndex, checksums: PageChecksums, archives: MemoryArchives) {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("a changed page in an archive"))
        let sink = MemoryArchives()
        let result = try pack(MemoryPages([(0, 60, 0)], random: &random), into: sink, codec: .none)
        var archives = sink.archives
        var index = result.index
        let place = try #require(index.frames.firstIndex { $0.kind == .pages })
        let frame = index.frames[place]
        let start = Int(frame.offset), end = start + frame.compressedBytes
        var number = frame.firstPage
        archives[0].withUnsafeMutableBytes { archive in
            var page = Page(archive.baseAddress! + start + frame.headerBytes)
            while page.isAllZero {
                page = Page(page.base + Page.bytes)
                number = PageNumber(number.rawValue + 1)
            }
            change(page)
        }
        // Stored as they are: the bytes of the frame are those of the stream.
        let crc = CRC32C.of(Array(archives[0][start..<end]))
        index.frames[place].compressedCRC = crc
        if contentFits { index.frames[place].crc = crc }
        return (number, index, result.checksums, MemoryArchives(archives: archives))
    }

    @Test("B5: a page that is bad in the archive is named and not restored, although its frame's checksum fits")
    func badPage() throws {
        // The content's checksum is made of those that the pages bear: what a backup that copied a bad page would say.
        let changed = try changedPage(contentFits: false) {
            $0.base.storeBytes(of: 0xEE, toByteOffset: 5000, as: UInt8.self)
        }
        for checksums in [changed.checksums, nil] {
            let target = try TemporaryDirectory()
            let reader = try ArchiveReader(changed.index, checksums: checksums, source: changed.archives)
            let error = #expect(throws: ArchiveError.self) { try reader.restore(into: target.path) }
            guard case .damagedPage(changed.number, _, .checksum) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
    }

    @Test("B5: a sound page that is not the one which the backup's table lists is refused")
    func otherPage() throws {
        let changed = try changedPage(contentFits: true) { page in
            page.lsn = LSN(page.lsn.rawValue &- 1)
            page.stampChecksum()
        }
        try ArchiveReader(changed.index, checksums: nil, source: changed.archives).verify()
        let error = #expect(throws: ArchiveError.self) {
            try ArchiveReader(changed.index, checksums: changed.checksums, source: changed.archives).verify()
        }
        #expect(error?.description.contains(PageChecksums.objectName) == true, "\(String(describing: error))")
    }

    @Test(
        "S9: an index or page table cut, flipped, or with absurd numbers under a right checksum is refused or harmless")
    func books() throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("damaged books"))
        let (_, result, _) = try backup(.zstd, &random)
        let index = result.index.encoded(), sums = result.checksums.encoded()
        for _ in 0..<300 {
            var bytes = index
            bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            #expect(throws: ArchiveError.self) { try FrameIndex(decoding: bytes) }
            bytes = sums
            bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            #expect(throws: ArchiveError.self) { try PageChecksums(decoding: bytes) }
            #expect(throws: ArchiveError.self) {
                try FrameIndex(decoding: Array(index[..<Int.random(in: 0..<index.count, using: &random)]))
            }
            #expect(throws: ArchiveError.self) {
                try PageChecksums(decoding: Array(sums[..<Int.random(in: 0..<sums.count, using: &random)]))
            }
        }
        let absurd: [UInt64] = [0, 1, 1 << 31, 1 << 32 - 1, 1 << 32, 1 << 63, .max, UInt64(bitPattern: -4096)]
        for place in 12..<index.count - 12 {
            for value in absurd {
                for width in [4, 8] {
                    var bytes = index
                    withUnsafeBytes(of: value.littleEndian) {
                        bytes.replaceSubrange(place..<place + width, with: $0.prefix(width))
                    }
                    reseal(&bytes)
                    // Where it is accepted, it promises no more than the true one did.
                    if let accepted = try? FrameIndex(decoding: bytes) {
                        #expect(accepted.frames.map(\.bytes) == result.index.frames.map(\.bytes))
                        #expect(accepted.frames.map(\.offset) == result.index.frames.map(\.offset))
                        #expect(accepted.members.map(\.path).count == result.index.members.count)
                        #expect(accepted.pageBytes == result.index.pageBytes)
                    }
                }
            }
        }
        for place in 12..<40 {
            for value in absurd {
                var bytes = sums
                withUnsafeBytes(of: UInt32(truncatingIfNeeded: value).littleEndian) {
                    bytes.replaceSubrange(place..<place + 4, with: $0)
                }
                reseal(&bytes)
                if let accepted = try? PageChecksums(decoding: bytes) {
                    #expect(accepted.count == result.checksums.count)
                }
            }
        }
    }

    @Test("S9: an index that promises a frame larger than any may be is refused, although all its sums fit")
    func overlongFrame() throws {
        var random = SeededGenerator(seed: 1)
        let large = SmallMember(path: "large", bytes: [UInt8](repeating: 7, count: 4 << 20), modified: 0)
        let result = try pack(
            MemoryPages([(0, 2, 0)], random: &random), into: MemoryArchives(), codec: .none, members: [large])
        var index = result.index
        _ = try FrameIndex(decoding: index.encoded())
        // Two frames that follow one another, as one: no more bytes than before, in a larger piece.
        let first = try #require(
            index.frames.indices.dropLast().first {
                index.frames[$0].kind == .members && index.frames[$0 + 1].kind == .members
                    && index.frames[$0].bytes + index.frames[$0 + 1].bytes > FrameIndex.largestFrameBytes
            })
        let second = index.frames.remove(at: first + 1)
        index.frames[first].bytes += second.bytes
        index.frames[first].compressedBytes += second.compressedBytes
        #expect(throws: ArchiveError.self) { try FrameIndex(decoding: index.encoded()) }
    }

    private func reseal(_ bytes: inout [UInt8]) {
        let crc = CRC32C.of(Array(bytes.dropLast(4)))
        withUnsafeBytes(of: crc.littleEndian) { bytes.replaceSubrange(bytes.count - 4..<bytes.count, with: $0) }
    }

    @Test(
        "S1: an index whose member paths lead elsewhere is refused by name",
        arguments: ["../../evil", "/etc/x", "pages/../x", "a\\b", "wal"])
    func paths(path: String) throws {
        var random = SeededGenerator(seed: 1)
        var index = try backup(.none, &random).1.index
        index.members[0].path = path
        let error = #expect(throws: ArchiveError.self) { try FrameIndex(decoding: index.encoded()) }
        guard case .badMember(path, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test("S8: 16 MiB behind 1 KiB stops at what is promised, and nothing is written beyond", arguments: Codec.allCases)
    func bomb(codec: Codec) throws {
        let large = [UInt8](repeating: 0, count: 16 << 20)
        var packed = [UInt8](repeating: 0, count: Codec.compressedBound(large.count))
        let count = try large.withUnsafeBytes { source in
            try packed.withUnsafeMutableBytes { try Compressor(Compression(codec)).compress(source, into: $0) }
        }
        for promised in [0, 1, 8192, large.count - 1, large.count + 1] {
            var target = [UInt8](repeating: 0xEE, count: promised + 4096)
            #expect(throws: ArchiveError.self, "\(promised) of \(large.count)") {
                try packed[..<count].withUnsafeBytes { source in
                    try target.withUnsafeMutableBytes {
                        try Decompressor(codec).decompress(
                            source, into: UnsafeMutableRawBufferPointer(rebasing: $0[..<promised]))
                    }
                }
            }
            #expect(target[promised...].allSatisfy { $0 == 0xEE })
        }
    }

    @Test("S2: a link planted where a page file or its directory belongs is not followed")
    func links() throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("planted links"))
        let (_, result, archives) = try backup(.zstd, &random)
        let outside = try TemporaryDirectory()
        for planted in ["pages", "pages/00000000", "pages/00000001"] {
            let target = try TemporaryDirectory()
            if planted != "pages" {
                try FileManager.default.createDirectory(
                    atPath: target.path + "/pages", withIntermediateDirectories: false)
            }
            let victim = planted == "pages" ? outside.path : outside.path + "/victim"
            #expect(symlink(victim, target.path + "/" + planted) == 0)
            let reader = try ArchiveReader(
                result.index, checksums: result.checksums, source: MemoryArchives(archives: archives))
            #expect(throws: ArchiveError.self) { try reader.restore(into: target.path) }
            #expect(try FileManager.default.contentsOfDirectory(atPath: outside.path) == [])
        }
    }

    @Test("a file that is there already is left alone unless replacing was asked for; modes are 0600 and 0700")
    func existing() throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("existing files"))
        let (pages, result, archives) = try backup(.gzip, &random)
        let target = try TemporaryDirectory()
        let path = target.path + "/pages/00000001"
        try FileManager.default.createDirectory(atPath: target.path + "/pages", withIntermediateDirectories: false)
        try Data([1, 2, 3]).write(to: URL(fileURLWithPath: path))
        let source = MemoryArchives(archives: archives)
        #expect(throws: ArchiveError.self) {
            try ArchiveReader(result.index, checksums: nil, source: source).restore(into: target.path)
        }
        #expect(try contents(path) == [1, 2, 3])
        let small = try ArchiveReader(
            result.index, checksums: nil, source: source, options: .init(replacesExisting: true)
        ).restore(into: target.path)
        #expect(small == testMembers)
        #expect(try contents(path) == pages.promised(1))
        var status = stat()
        #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
        #expect(stat(target.path + "/wal", &status) == 0 && status.st_mode & 0o777 == 0o700)
    }
}
