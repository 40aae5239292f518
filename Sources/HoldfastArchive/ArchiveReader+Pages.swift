import HoldfastCore

extension ArchiveReader {
    /// Reads single pages of the backup: the frames that hold any of them, each proven, and no others. One thread.
    ///
    /// - Parameter ranges: page numbers, ascending, none twice.
    /// - Parameter body: given each page that the backup holds, ascending; pages that it does not hold are passed over.
    package func pages(_ ranges: [Range<UInt64>], _ body: (PageNumber, UnsafeRawBufferPointer) throws -> Void) throws {
        let decoder = try FrameDecoder(index, checksums, source)
        let frames = index.frames.filter { $0.pageCount > 0 }.sorted { $0.firstPage < $1.firstPage }
        var next = 0
        for frame in frames {
            let held = UInt64(frame.firstPage.rawValue)..<UInt64(frame.firstPage.rawValue) + UInt64(frame.pageCount)
            while next < ranges.count, ranges[next].upperBound <= held.lowerBound { next += 1 }
            guard next < ranges.count else { return }
            guard ranges[next].overlaps(held) else { continue }
            let bytes = try decoder.pages(frame)
            for range in ranges[next...] {
                guard range.lowerBound < held.upperBound else { break }
                let wanted = range.clamped(to: held)
                let from = Int(wanted.lowerBound - held.lowerBound) * Page.bytes
                try body(
                    PageNumber(UInt32(wanted.lowerBound)),
                    UnsafeRawBufferPointer(rebasing: bytes[from..<from + wanted.count * Page.bytes]))
            }
        }
    }
}
