/// The number of a 16 MiB piece of the log: an LSN divided by the segment size.
public struct SegmentNumber: RawRepresentable, Comparable, Hashable, Sendable, CustomStringConvertible {
    /// Bytes of a segment file, its header included.
    #if PlantedFaults
        // The simulator's builds: small, so that a run crosses many and a recovery reads little.
        public static let bytes = 256 << 10
    #else
        public static let bytes = 16 << 20
    #endif

    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    public var description: String { String(rawValue) }

    /// The segment that holds the byte at `lsn`.
    public init(containing lsn: LSN) { rawValue = lsn.rawValue / UInt64(Self.bytes) }
    public var start: LSN { LSN(rawValue * UInt64(Self.bytes)) }
    /// Where the next one begins. The last one has no such place, and ends at the last LSN.
    public var end: LSN {
        rawValue >= UInt64.max / UInt64(Self.bytes) ? .max : LSN((rawValue + 1) * UInt64(Self.bytes))
    }
    public var next: SegmentNumber { SegmentNumber(rawValue + 1) }
}

/// The name of a segment file: timeline, then segment number, 24 hex digits as PostgreSQL writes them
/// (`TTTTTTTTXXXXXXXXYYYYYYYY`, where `Y` counts the 256 segments of 4 GiB).
public struct SegmentName: Hashable, Sendable, Comparable, CustomStringConvertible {
    public let timeline: TimelineID
    public let segment: SegmentNumber

    public init(timeline: TimelineID, segment: SegmentNumber) {
        self.timeline = timeline
        self.segment = segment
    }

    public var description: String {
        timeline.description + hexadecimal(segment.rawValue / 256, digits: 8)
            + hexadecimal(segment.rawValue % 256, digits: 8)
    }

    /// Reads exactly 24 hex digits whose last eight are at most `000000FF`.
    public init?(_ text: some StringProtocol) {
        let text = String(text)
        guard text.utf8.count == 24, let timeline = TimelineID(name: text.prefix(8)),
            let high = parseHexadecimal(text.dropFirst(8).prefix(8), atMost: 8),
            let low = parseHexadecimal(text.suffix(8), atMost: 8), low < 256,
            // The last one's end would be no LSN.
            high < UInt32.max || low < 255
        else { return nil }
        self.init(timeline: timeline, segment: SegmentNumber(high * 256 + low))
    }

    public static func < (a: Self, b: Self) -> Bool { (a.timeline, a.segment) < (b.timeline, b.segment) }
}
