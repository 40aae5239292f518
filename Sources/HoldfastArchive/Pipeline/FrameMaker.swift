import CShims
import Glibc
import HoldfastCore

/// A frame that is compressed and waits for its turn to be written.
struct MadeFrame: Sendable {
    var job: FramePlan.Job
    var buffer: AlignedBuffer
    var compressedBytes: Int
    var bytes: Int
    var compressedCRC: UInt32
    var crc: UInt32
    /// Of the page bytes alone, and of each page.
    var pagesCRC: UInt32
    var pageCRCs: [UInt32]
}

/// One worker's tools: reads the pages of a frame, proves each of them, compresses. One thread uses it.
final class FrameMaker {
    /// A page that was torn while its writer was at it is whole a moment later.
    private static let rereads = 5

    private let source: any PageSource
    private let compressor: Compressor
    private let pageCRC = PageCRC()
    private let isCancelled: () -> Bool
    /// Tar header right before the pages, which are aligned.
    private let input = AlignedBuffer(FrameIndex.largestFrameBytes)
    private let headerRoom = FrameIndex.largestFrameBytes - FrameIndex.pageBytesInFrame

    init(_ source: any PageSource, _ compression: Compression, isCancelled: @escaping () -> Bool) throws {
        self.source = source
        compressor = try Compressor(compression)
        self.isCancelled = isCancelled
    }

    func make(_ job: FramePlan.Job, into buffer: AlignedBuffer) throws -> MadeFrame {
        let start = headerRoom - (job.kind == .pages ? job.header.count : 0)
        guard start >= 0, job.header.count <= input.bytes.count else {
            throw ArchiveError.invalid("tar headers of \(job.header.count) bytes")
        }
        let from = job.kind == .pages ? start : 0
        job.header.withUnsafeBytes { header in
            UnsafeMutableRawBufferPointer(rebasing: input.bytes[from..<from + header.count]).copyMemory(from: header)
        }
        var pageCRCs: [UInt32] = []
        var pagesCRC: UInt32 = 0
        if job.pageBytes > 0 {
            let pages = UnsafeMutableRawBufferPointer(
                rebasing: input.bytes[headerRoom..<headerRoom + job.pageBytes])
            try read(job, into: pages)
            pageCRCs.reserveCapacity(job.pageBytes / Page.bytes)
            for index in 0..<job.pageBytes / Page.bytes {
                let place = UnsafeMutableRawBufferPointer(
                    rebasing: pages[index * Page.bytes..<(index + 1) * Page.bytes])
                let number = PageNumber(job.firstPage.rawValue + UInt32(index))
                let page = Page(place.baseAddress!)  // a slice of 8 KiB has an address
                if let fault = page.fault(expected: number) { try heal(number, of: job.file, place, fault) }
                let crc = pageCRC.ofSound(page, number: number)
                pageCRCs.append(crc)
                pagesCRC = pageCRC.append(crc, to: pagesCRC)
            }
        }
        let stream = UnsafeRawBufferPointer(rebasing: input.bytes[from..<from + job.header.count + job.pageBytes])
        let compressed = try compressor.compress(stream, into: buffer.bytes)
        return MadeFrame(
            job: job, buffer: buffer, compressedBytes: compressed, bytes: stream.count,
            compressedCRC: CRC32C.of(UnsafeRawBufferPointer(rebasing: buffer.bytes[..<compressed])),
            crc: CRC32C.combine(CRC32C.of(job.header), pagesCRC, bytesOfB: UInt64(job.pageBytes)),
            pagesCRC: pagesCRC, pageCRCs: pageCRCs)
    }

    /// What the file does not have any more, or not yet, is zeros: pages never written.
    private func read(_ job: FramePlan.Job, into pages: UnsafeMutableRawBufferPointer) throws {
        let count = try source.read(file: job.file, into: pages, at: job.fileOffset)
        precondition(count <= pages.count)
        UnsafeMutableRawBufferPointer(rebasing: pages[count...]).initializeMemory(as: UInt8.self, repeating: 0)
    }

    private func heal(
        _ number: PageNumber, of file: Int, _ place: UnsafeMutableRawBufferPointer, _ found: PageFault
    ) throws {
        var fault = found
        let page = Page(place.baseAddress!)  // as given by `make`
        for attempt in 1...Self.rereads {
            if isCancelled() { throw ArchiveError.cancelled }
            usleep(useconds_t(attempt * 500))
            let count = try source.read(file: file, into: place, at: number.fileOffset)
            UnsafeMutableRawBufferPointer(rebasing: place[count...]).initializeMemory(as: UInt8.self, repeating: 0)
            guard let still = page.fault(expected: number) else { return }
            fault = still
        }
        if try source.readSettled(number, into: place) {
            guard let still = page.fault(expected: number) else { return }
            fault = still
        }
        throw ArchiveError.damagedPage(number, path: PageNumber.filePath(file), fault: fault)
    }
}
