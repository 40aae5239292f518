import HoldfastCore

/// One worker's tools for reading: fetches a frame, proves its bytes before and after decompression,
/// and every page in it. One thread uses it.
final class FrameDecoder {
    private let index: FrameIndex
    private let checksums: PageChecksums?
    private let source: any ArchiveSource
    private let decompressor: Decompressor
    private let pageCRC = PageCRC()
    private let input = AlignedBuffer(Codec.compressedBound(FrameIndex.largestFrameBytes))
    private let output = AlignedBuffer(FrameIndex.largestFrameBytes)
    private let headerRoom = FrameIndex.largestFrameBytes - FrameIndex.pageBytesInFrame
    private var zeroPages = [Bool](repeating: false, count: FrameIndex.pageBytesInFrame / Page.bytes)

    init(_ index: FrameIndex, _ checksums: PageChecksums?, _ source: any ArchiveSource) throws {
        self.index = index
        self.checksums = checksums
        self.source = source
        decompressor = try Decompressor(index.codec)
    }

    func isZero(_ page: Int) -> Bool { zeroPages[page] }

    /// The tar bytes of a members frame.
    func members(_ frame: FrameIndex.Frame) throws -> [UInt8] {
        let bytes = try decode(frame, at: 0)
        try expect(
            CRC32C.of(UnsafeRawBufferPointer(bytes)) == frame.crc, frame, "its content's checksum does not match")
        return Array(bytes)
    }

    /// The pages of a frame, each proven; valid until the next call, aligned for O_DIRECT.
    func pages(_ frame: FrameIndex.Frame) throws -> UnsafeRawBufferPointer {
        guard frame.headerBytes <= headerRoom else {
            throw ArchiveError.damaged(object: FrameIndex.objectName, why: "tar headers of \(frame.headerBytes) bytes")
        }
        let bytes = try decode(frame, at: headerRoom - frame.headerBytes)
        let header = UnsafeRawBufferPointer(rebasing: bytes[..<frame.headerBytes])
        let pages = UnsafeRawBufferPointer(rebasing: bytes[frame.headerBytes...])
        var pagesCRC: UInt32 = 0
        let firstSum = checksums.flatMap { $0.index(of: frame.firstPage) }
        for place in 0..<frame.pageCount {
            let number = PageNumber(frame.firstPage.rawValue + UInt32(place))
            let page = Page(reading: pages.baseAddress! + place * Page.bytes)  // there are pages, so an address
            if let fault = page.fault(expected: number) {
                throw ArchiveError.damagedPage(number, path: index.archiveName(frame.archive), fault: fault)
            }
            let crc = pageCRC.ofSound(page, number: number)
            zeroPages[place] = crc == pageCRC.ofZeros && page.isAllZero
            if let checksums {
                guard let firstSum, checksums.values[firstSum + place] == crc else {
                    throw ArchiveError.damaged(
                        object: index.archiveName(frame.archive),
                        why: "page \(number) is not the one that \(PageChecksums.objectName) lists")
                }
            }
            pagesCRC = pageCRC.append(crc, to: pagesCRC)
        }
        let crc = CRC32C.combine(CRC32C.of(header), pagesCRC, bytesOfB: UInt64(pages.count))
        try expect(crc == frame.crc, frame, "its content's checksum does not match")
        if frame.headerBytes > 0 { try checkHeader(Array(header), frame) }
        return pages
    }

    /// What stands behind an archive's last frame: the seek table and nothing else.
    func checkTail(of archive: Int) throws {
        let frames = index.frames[index.frameRange(of: archive)]
        guard let last = frames.last else { return }
        let expected = index.codec == .zstd ? SeekTable.bytes(of: frames) : []
        var found = [UInt8](repeating: 0, count: expected.count + 1)
        let count = try found.withUnsafeMutableBytes {
            try source.read(archive: archive, into: $0, at: last.offset + UInt64(last.compressedBytes))
        }
        guard count == expected.count, found.prefix(count).elementsEqual(expected) else {
            throw ArchiveError.damaged(
                object: index.archiveName(archive), why: "what follows its last frame is not its seek table")
        }
    }

    private func decode(_ frame: FrameIndex.Frame, at place: Int) throws -> UnsafeMutableRawBufferPointer {
        let compressed = UnsafeMutableRawBufferPointer(rebasing: input.bytes[..<frame.compressedBytes])
        let count = try source.read(archive: frame.archive, into: compressed, at: frame.offset)
        try expect(count == compressed.count, frame, "the archive ends after \(count) of its \(compressed.count) bytes")
        try expect(
            CRC32C.of(UnsafeRawBufferPointer(compressed)) == frame.compressedCRC, frame, "its checksum does not match")
        let target = UnsafeMutableRawBufferPointer(rebasing: output.bytes[place..<place + frame.bytes])
        do throws(ArchiveError) {
            try decompressor.decompress(UnsafeRawBufferPointer(compressed), into: target)
        } catch {
            let why = if case .codec(let why) = error { why } else { error.description }
            throw ArchiveError.damaged(
                object: index.archiveName(frame.archive), why: "the frame at byte \(frame.offset): \(why)")
        }
        return target
    }

    private func checkHeader(_ header: [UInt8], _ frame: FrameIndex.Frame) throws {
        var reader = TarReader(header, archive: frame.archive, streamOffset: frame.streamOffset)
        let member = index.members[frame.member]
        guard let entry = try reader.next(), entry.kind == .file, entry.path == member.path,
            entry.size == member.bytes, reader.remaining == 0
        else {
            throw ArchiveError.badMember(name: member.path, why: "its tar header is not the one that is listed")
        }
    }

    private func expect(_ holds: Bool, _ frame: FrameIndex.Frame, _ why: @autoclosure () -> String) throws {
        guard holds else {
            throw ArchiveError.damaged(
                object: index.archiveName(frame.archive), why: "the frame at byte \(frame.offset): \(why())")
        }
    }
}
