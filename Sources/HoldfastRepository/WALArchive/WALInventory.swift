import HoldfastArchive
import HoldfastCore

/// A segment in the archive's listing: both of its objects are there.
package struct ArchivedSegment: Sendable, Equatable {
    package let name: SegmentName
    /// As stored.
    package let bytes: UInt64
    package let modified: Timestamp
}

/// What the archive holds of one timeline.
package struct TimelineWAL: Sendable, Equatable {
    package let timeline: TimelineID
    /// Contiguous stretches, ascending; between two of them segments are missing.
    package let ranges: [ClosedRange<SegmentNumber>]
    package let segments: Int
    /// As stored.
    package let bytes: UInt64

    package var first: SegmentName? { ranges.first.map { SegmentName(timeline: timeline, segment: $0.lowerBound) } }
    package var last: SegmentName? { ranges.last.map { SegmentName(timeline: timeline, segment: $0.upperBound) } }

    /// What is missing between first and last, both ends included.
    package var gaps: [ClosedRange<SegmentNumber>] {
        zip(ranges, ranges.dropFirst()).map { earlier, later in
            earlier.upperBound.next...SegmentNumber(later.lowerBound.rawValue - 1)
        }
    }

    package func contains(_ segment: SegmentNumber) -> Bool { ranges.contains { $0.contains(segment) } }
}

extension WALArchive {
    /// The segments of a timeline that have both object and summary, ascending.
    package func segments(of timeline: TimelineID) throws -> [ArchivedSegment] {
        var summarized: Set<SegmentName> = []
        var found: [SegmentName: ArchivedSegment] = [:]
        for object in try store.list(layout.wal(timeline)) {
            let name = object.name
            guard let segment = SegmentName(name.prefix(24)), segment.timeline == timeline else { continue }
            let suffix = name.dropFirst(24)
            if suffix == ".summary" {
                summarized.insert(segment)
            } else if Codec.allCases.contains(where: { $0.fileExtension == suffix }) {
                found[segment] = ArchivedSegment(name: segment, bytes: object.bytes, modified: object.modified)
            }
        }
        return found.values.filter { summarized.contains($0.name) }.sorted { $0.name < $1.name }
    }

    /// What is there of each timeline, ascending. Nothing is read but listings.
    package func inventory() throws -> [TimelineWAL] {
        try repository.timelines().map { try inventory(of: $0) }
    }

    package func inventory(of timeline: TimelineID) throws -> TimelineWAL {
        let segments = try segments(of: timeline)
        var ranges: [ClosedRange<SegmentNumber>] = []
        for segment in segments {
            let number = segment.name.segment
            if let last = ranges.last, last.upperBound.next == number {
                ranges[ranges.count - 1] = last.lowerBound...number
            } else {
                ranges.append(number...number)
            }
        }
        return TimelineWAL(
            timeline: timeline, ranges: ranges, segments: segments.count,
            bytes: segments.reduce(0) { $0 + $1.bytes })
    }
}
