import HoldfastCore
import HoldfastWAL

/// The segments of an archive, one at a time in memory, for a `LogReader`. Used by one thread at a time.
final class ArchiveSegments: SegmentSource {
    private let source: any RecoverySource
    private var held: (name: SegmentName, bytes: [UInt8])?
    /// Why the archive failed: the reader's own error cannot carry it.
    private(set) var failure: (any Error)?

    init(_ source: any RecoverySource) { self.source = source }

    func read(
        _ name: SegmentName, at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(WALError) -> Int? {
        if held?.name != name {
            held = nil
            do {
                guard let bytes = try source.segment(name) else { return nil }
                held = (name, bytes)
            } catch {
                failure = error
                throw .invalid(at: name.segment.start, "the archive failed")
            }
        }
        let bytes = held!.bytes  // Set above.
        let count = max(0, min(buffer.count, bytes.count - offset))
        bytes.withUnsafeBytes { all in
            if count > 0 { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: all[offset..<offset + count])) }
        }
        return count
    }
}
