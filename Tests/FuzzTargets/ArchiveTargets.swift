import Crypto
import HoldfastArchive
import HoldfastCore

/// The two tables beside an archive, `frames.idx` and `pages.crc`: the first byte says which, then follow its bytes,
/// as they are and with the checksum put right. Frames of an index that was accepted need no further checks by those who
/// read them, which is checked here.
package enum IndexTarget: FuzzTarget {
    package static let name = "index"

    package static func seeds() throws -> [[UInt8]] {
        let results = try [Codec.none, .gzip, .zstd].map { try example($0) }
        return results.map { [0] + $0.index.encoded() } + results.map { [1] + $0.checksums.encoded() }
            + [[1] + PageChecksums().encoded()]
    }

    /// Two page files and a small one, packed as a backup is.
    private static func example(_ codec: Codec) throws -> ArchiveResult {
        let tag = ArchiveTag(
            backupID: "20261123T021500Z-full", systemIdentifier: SystemIdentifier(rawValue: 7), timeline: .first,
            startLSN: LSN(16 << 20))
        let writer = try ArchiveWriter(
            tag: tag, options: ArchiveOptions(compression: Compression(codec), workers: 1, archiveBytes: 1 << 15),
            pageFiles: [
                PageFileMember(index: 0, bytes: 130 << 13, modified: 9),
                PageFileMember(index: 2, bytes: 1 << 13, modified: 9),
            ], source: ZeroPages(), sink: NoSink())
        try writer.writePages()
        return try writer.finish([SmallMember(path: "control", bytes: [UInt8](repeating: 1, count: 8192), modified: 9)])
    }

    private final class ZeroPages: PageSource {
        func read(file: Int, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) -> Int {
            buffer.initializeMemory(as: UInt8.self, repeating: 0)
            return buffer.count
        }
        func readSettled(_ page: PageNumber, into buffer: UnsafeMutableRawBufferPointer) -> Bool { false }
    }

    private final class NoSink: ArchiveSink {
        func begin(archive number: Int) {}
        func write(_ bytes: UnsafeRawBufferPointer) {}
        func finish(_ archive: FinishedArchive) {}
    }

    package static func run(_ input: UnsafeRawBufferPointer) {
        var input = FuzzInput(input)
        let choice = input.byte()
        var bytes = Array(input.rest)
        choice & 1 == 0 ? readIndex(bytes) : readSums(bytes)
        guard bytes.count >= 4 else { return }
        Stamp.crc(&bytes, over: 0..<bytes.count - 4, at: bytes.count - 4)
        choice & 1 == 0 ? readIndex(bytes) : readSums(bytes)
    }

    private static func readIndex(_ bytes: [UInt8]) {
        let index: FrameIndex
        do throws(ArchiveError) { index = try FrameIndex(decoding: bytes) } catch {
            _ = error.description
            return
        }
        expect(index.encoded() == bytes, "an index reads as another when it is written again")
        _ = index.pageBytes
        for frame in index.frames {
            expect(index.frameRange(of: frame.archive).count > 0, "an archive without its frame")
            expect(
                frame.bytes > 0 && frame.bytes <= FrameIndex.largestFrameBytes
                    && frame.compressedBytes <= Codec.compressedBound(frame.bytes),
                "a frame of \(frame.bytes) bytes")
            expect(index.archives.indices.contains(frame.archive - 1), "a frame of archive \(frame.archive)")
            guard frame.kind == .pages else { continue }
            expect(index.members.indices.contains(frame.member), "a frame of member \(frame.member)")
            expect(
                frame.headerBytes >= 0 && frame.pageCount * Page.bytes + frame.headerBytes == frame.bytes
                    && UInt64(frame.firstPage.rawValue) + UInt64(frame.pageCount) <= 1 << 32,
                "a frame of \(frame.pageCount) pages from \(frame.firstPage)")
        }
        for archive in index.archives { _ = index.archiveName(archive.number) }
    }

    private static func readSums(_ bytes: [UInt8]) {
        let sums: PageChecksums
        do throws(ArchiveError) { sums = try PageChecksums(decoding: bytes) } catch {
            _ = error.description
            return
        }
        expect(sums.encoded() == bytes, "checksums read as others when they are written again")
        for run in sums.runs {
            let last = PageNumber(run.first.rawValue + UInt32(run.count - 1))
            expect(sums[run.first] == sums.values[run.start], "page \(run.first) has another's checksum")
            expect(sums[last] == sums.values[run.start + run.count - 1], "page \(last) has another's checksum")
        }
        _ = (sums[PageNumber(0)], sums[PageNumber(UInt32.max)])
    }
}

/// Tar streams: as they are, and with the checksums of headers put right.
package enum TarTarget: FuzzTarget {
    package static let name = "tar"

    package static func seeds() throws -> [[UInt8]] {
        let tag = ArchiveTag(
            backupID: "20261123T021500Z-full", systemIdentifier: SystemIdentifier(rawValue: 7), timeline: .first,
            startLSN: LSN(16 << 20))
        let end = [UInt8](repeating: 0, count: 1024)
        let long = Array(repeating: "directory", count: 30).joined(separator: "/")
        var stream = TarWriter.globalHeader(tag, archive: 1)
        stream += try TarWriter.header(path: "pages", kind: .directory, size: 0, modified: 1_795_000_000)
        stream += try TarWriter.header(path: "control", kind: .file, size: 600, modified: 1_795_000_000)
        stream += [UInt8](repeating: 7, count: 600) + [UInt8](repeating: 0, count: TarWriter.padding(after: 600))
        return [
            end, stream + end, try TarWriter.header(path: long, kind: .directory, size: 0, modified: 0) + end,
            try TarWriter.header(path: "large", kind: .file, size: 1 << 40, modified: 0),
        ]
    }

    package static func run(_ input: UnsafeRawBufferPointer) {
        var bytes = Array(input)
        read(bytes)
        for at in stride(from: 0, to: bytes.count - TarWriter.blockBytes + 1, by: TarWriter.blockBytes)
        where bytes[at + 257..<at + 262].elementsEqual("ustar".utf8) {
            bytes.replaceSubrange(at + 148..<at + 156, with: repeatElement(0x20, count: 8))
            let sum = bytes[at..<at + TarWriter.blockBytes].reduce(0) { $0 + UInt64($1) }
            let digits = String(sum, radix: 8)
            let text = String(repeating: "0", count: max(0, 6 - digits.utf8.count)) + digits
            bytes.replaceSubrange(at + 148..<at + 154, with: text.utf8)
            bytes[at + 154] = 0
        }
        read(bytes)
    }

    private static func read(_ bytes: [UInt8]) {
        var reader = TarReader(bytes)
        var content = 0
        do throws(ArchiveError) {
            while let entry = try reader.next() {
                expect(MemberName.refusal(entry.path.utf8) == nil, "member \(printable(entry.path)) was let through")
                if let body = try? reader.content() {
                    expect(UInt64(body.count) == entry.size, "a content of another size")
                    content += body.count
                }
            }
            expect(reader.hasEnded && reader.remaining == 0, "it ends before its end")
        } catch { _ = error.description }
        expect(content <= bytes.count, "more content than bytes")
    }
}

/// `backup_manifest`: as it is, and with its last line's SHA-256 put right.
package enum ManifestTarget: FuzzTarget {
    package static let name = "manifest"

    package static func seeds() throws -> [[UInt8]] {
        let files = ["backup_label", "pages/00000000"].map {
            BackupManifest.File(path: $0, bytes: 224, modified: 1_795_000_000, crc: 0xD2A1_F3C4)
        }
        let range = BackupManifest.WALRange(timeline: .first, start: LSN(0x200_0028), end: LSN(0x200_0100))
        return [
            try BackupManifest(files: files, walRanges: [range]).encoded(),
            try BackupManifest(files: [], walRanges: []).encoded(),
        ]
    }

    package static func run(_ input: UnsafeRawBufferPointer) {
        let bytes = Array(input)
        read(bytes)
        guard let end = bytes.dropLast().lastIndex(of: UInt8(ascii: "\n")) else { return }
        let digest = SHA256.hash(data: bytes[...end]).map { byte in
            (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
        read(Array(bytes[...end]) + Array("\"Manifest-Checksum\": \"\(digest.joined())\"}\n".utf8))
    }

    private static func read(_ bytes: [UInt8]) {
        do throws(ArchiveError) {
            let manifest = try BackupManifest(decoding: bytes)
            for file in manifest.files {
                expect(MemberName.refusal(file.path.utf8) == nil, "\(printable(file.path)) was let through")
            }
        } catch { _ = error.description }
    }
}

/// Frames as they come out of a repository: a codec, the size that is promised, and the compressed bytes. What is
/// written stays within what is promised.
package enum CodecTarget: FuzzTarget {
    package static let name = "codec"

    package static func seeds() throws -> [[UInt8]] {
        let text = Array(repeatElement("holdfast holds fast. ".utf8, count: 40).joined())
        return try [Codec.gzip, .zstd].flatMap { codec in
            try [Array(text[..<0]), text].map { plain in
                let room = UnsafeMutableRawBufferPointer.allocate(
                    byteCount: Codec.compressedBound(plain.count), alignment: 16)
                defer { room.deallocate() }
                let count = try plain.withUnsafeBytes {
                    try Compressor(Compression(codec, level: 1)).compress($0, into: room)
                }
                var out = FuzzOutput()
                out.add(byte: UInt8(codec.rawValue))
                out.add(short: plain.count)
                out.add(room[..<count])
                return out.bytes
            }
        }
    }

    package static func run(_ input: UnsafeRawBufferPointer) {
        var input = FuzzInput(input)
        guard let codec = Codec(rawValue: UInt32(input.byte() % 3)) else { return }
        let target = UnsafeMutableRawBufferPointer.allocate(byteCount: input.short(), alignment: 1)
        defer { target.deallocate() }
        do throws(ArchiveError) { try Decompressor(codec).decompress(input.rest, into: target) } catch {
            _ = error.description
        }
    }
}
