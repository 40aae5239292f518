import HoldfastCore

/// Where a reader finds segments.
package protocol SegmentSource {
    /// Asked by a `LogReader` before it reads a segment.
    func find(_ name: SegmentName) throws(WALError) -> FoundSegment

    /// Reads bytes of a segment from `offset`, until the buffer is full or the segment ends; returns the count.
    /// `nil` when there is no such segment. A read error throws: it is never taken for an end of the log.
    func read(
        _ name: SegmentName, at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(WALError) -> Int?
}

package enum FoundSegment {
    case missing
    /// All of its bytes: valid until another segment is asked for.
    case inMemory(UnsafeRawBufferPointer)
    /// To be had by `read`, which says whether it is there at all.
    case byReading
}

extension SegmentSource {
    package func find(_ name: SegmentName) throws(WALError) -> FoundSegment { .byReading }
}

/// The segments in a data directory's `wal/`. Keeps the file read last open. Used by one thread at a time.
package final class DiskSegmentSource<D: Disk>: SegmentSource {
    private let disk: D
    private var open: (name: SegmentName, file: D.File)?

    package init(disk: D) { self.disk = disk }
    deinit { open?.file.close() }

    package func read(
        _ name: SegmentName, at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(WALError) -> Int? {
        if open?.name != name {
            open?.file.close()
            open = nil
            do throws(DiskError) {
                open = (name, try disk.open(name.walPath, .read))
            } catch {
                if error.code == .noEntry { return nil }
                throw .disk(error)
            }
        }
        let file = open!.file
        if planted(.readErrorTakenForEnd) { return try? file.read(into: buffer, at: UInt64(offset)) }
        return try onDisk { () throws(DiskError) in try file.read(into: buffer, at: UInt64(offset)) }
    }

    /// Forgets the open file, so that a segment which took its name since is found.
    package func forget() {
        open?.file.close()
        open = nil
    }
}

/// Segments in arrays, read as files are: for tools and tests.
package struct MemorySegmentSource: SegmentSource {
    package var segments: [SegmentName: [UInt8]]
    package init(_ segments: [SegmentName: [UInt8]]) { self.segments = segments }

    package func read(
        _ name: SegmentName, at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(WALError) -> Int? {
        guard let bytes = segments[name] else { return nil }
        let count = max(0, min(buffer.count, bytes.count - offset))
        if count > 0 { buffer.copyBytes(from: bytes[offset..<offset + count]) }
        return count
    }
}
