import Crypto
import HoldfastCore

/// Puts made frames behind one another: hands their bytes to the sink and keeps the books (frame
/// table, page checksums, SHA-256). Frames come in order, from one thread at a time.
///
/// `@unchecked Sendable`: whoever calls `write` holds the pipeline's `isWriting`, which its lock hands over.
final class ArchiveAssembler: @unchecked Sendable {
    private let sink: any ArchiveSink
    private let progress: (@Sendable (ArchiveProgress) -> Void)?
    private(set) var index: FrameIndex
    private(set) var checksums = PageChecksums()
    private var sha = SHA256()
    private var archiveBytes: UInt64 = 0
    private var streamBytes: UInt64 = 0
    private var firstFrameOfArchive = 0
    private var done = ArchiveProgress(bytes: 0, totalBytes: 0, archiveBytes: 0)

    init(_ plan: FramePlan, tag: ArchiveTag, options: ArchiveOptions, sink: any ArchiveSink) {
        self.sink = sink
        progress = options.progress
        index = FrameIndex(tag: tag, codec: options.compression.codec)
        index.members = plan.members
        done.totalBytes = index.pageBytes
        checksums.reserve(Int(done.totalBytes / UInt64(Page.bytes)))
        index.frames.reserveCapacity(Int(done.totalBytes / UInt64(FrameIndex.pageBytesInFrame)) + 16)
    }

    func write(_ frame: MadeFrame) throws {
        let job = frame.job
        if job.isFirst {
            try sink.begin(archive: job.archive)
            sha = SHA256()
            archiveBytes = 0
            streamBytes = 0
            firstFrameOfArchive = index.frames.count
        }
        index.frames.append(
            FrameIndex.Frame(
                archive: job.archive, kind: job.kind, offset: archiveBytes, compressedBytes: frame.compressedBytes,
                bytes: frame.bytes, streamOffset: streamBytes, compressedCRC: frame.compressedCRC, crc: frame.crc,
                member: job.member, firstPage: job.firstPage,
                headerBytes: job.kind == .pages ? job.header.count : 0))
        if job.kind == .pages {
            index.members[job.member].crc = CRC32C.combine(
                index.members[job.member].crc, frame.pagesCRC, bytesOfB: UInt64(job.pageBytes))
            checksums.append(first: job.firstPage, frame.pageCRCs)
        }
        try put(UnsafeRawBufferPointer(rebasing: frame.buffer.bytes[..<frame.compressedBytes]))
        streamBytes += UInt64(frame.bytes)
        done.bytes += UInt64(job.pageBytes)
        if job.isLast { try endArchive(job.archive) }
        progress?(done)
    }

    func addMember(_ member: SmallMember, archive: Int) {
        index.members.append(
            .init(
                kind: .smallFile, archive: archive, path: member.path, bytes: UInt64(member.bytes.count),
                crc: CRC32C.of(member.bytes), modified: member.modified))
    }

    private func put(_ bytes: UnsafeRawBufferPointer) throws {
        try sink.write(bytes)
        sha.update(bufferPointer: bytes)
        archiveBytes += UInt64(bytes.count)
        done.archiveBytes += UInt64(bytes.count)
    }

    private func endArchive(_ number: Int) throws {
        if index.codec == .zstd {
            try SeekTable.bytes(of: index.frames[firstFrameOfArchive...]).withUnsafeBytes { try put($0) }
        }
        let finished = FinishedArchive(
            number: number, bytes: archiveBytes, streamBytes: streamBytes, sha256: Array(sha.finalize()))
        index.archives.append(finished)
        try sink.finish(finished)
    }
}
