import HoldfastCore
import HoldfastWAL

/// The segments of an archive, one at a time in memory, for a `LogReader`. Used by one thread at a time.
final class ArchiveSegments: SegmentSource {
    private let source: any RecoverySource
    private var held: (name: SegmentName, segment: SegmentBuffer)?
    /// Why the archive failed: the reader's own error cannot carry it.
    private(set) var failure: (any Error)?

    init(_ source: any RecoverySource) { self.source = source }

    func find(_ name: SegmentName) throws(WALError) -> FoundSegment {
        if held?.name != name {
            // The reader, which asks for another one, looks at this one no longer.
            let spent = held?.segment
            held = nil
            do {
                guard let segment = try source.segment(name, reusing: spent) else { return .missing }
                held = (name, segment)
            } catch {
                failure = error
                throw .invalid(at: name.segment.start, "the archive failed")
            }
        }
        return .inMemory(held!.segment.bytes)  // Set above.
    }

    func read(
        _ name: SegmentName, at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(WALError) -> Int? {
        preconditionFailure("its segments are in memory")
    }
}
