import HoldfastCore

/// A verified record, as a view into its reader's buffer: valid until the reader is asked for the next one.
package struct LogRecord {
    package let start: LSN
    /// The position behind it: every byte below belongs to it or to what precedes it.
    package let end: LSN
    package let timeline: TimelineID
    package let kind: RecordKind
    package let flags: RecordFlags
    /// Below this LSN its writer knew the log to be durable.
    package let mark: LSN
    package let crc: UInt32
    package let previousCRC: UInt32
    /// Without the padding. Owned by the reader.
    package let body: UnsafeRawBufferPointer
}

/// How a log ended for a reader: the first place where no record follows, and why none does.
package struct LogEnd: Equatable, Sendable {
    /// The position behind the last record, in canonical form.
    package var position: LSN
    package var timeline: TimelineID
    /// The CRC of the last record before it; `nil` when none was read and none was given.
    package var chain: UInt32?
    package var reason: LogEndReason

    package init(position: LSN, timeline: TimelineID, chain: UInt32?, reason: LogEndReason) {
        self.position = position
        self.timeline = timeline
        self.chain = chain
        self.reason = reason
    }

    /// The segment in which the next record would begin.
    package var segment: SegmentName {
        SegmentName(timeline: timeline, segment: SegmentNumber(containing: position))
    }
    package var segmentOffset: Int { LogLayout.offset(position) }
}

package enum LogEndReason: Equatable, Sendable, CustomStringConvertible {
    case missingSegment
    /// The file ends here.
    case shortSegment
    /// The header's place holds zeros.
    case zeros
    case length(UInt32)
    case wrongLSN(LSN)
    case checksum
    /// A sound record, but not the one that follows: its chain value is another.
    case doesNotFollow
    /// No sound segment header.
    case segmentHeader
    /// A sound segment header of another cluster, timeline, token, place or chain.
    case foreignSegment(String)

    package var description: String {
        switch self {
        case .missingSegment: "the segment does not exist"
        case .shortSegment: "the segment's file ends here"
        case .zeros: "only zeros follow"
        case .length(let length): "a record of \(length) bytes cannot be here"
        case .wrongLSN(let lsn): "the record found here belongs to \(lsn)"
        case .checksum: "the record's checksum does not match"
        case .doesNotFollow: "the record found here does not follow the one before it"
        case .segmentHeader: "the segment has no sound header"
        case .foreignSegment(let what): "the segment is \(what)"
        }
    }
}
