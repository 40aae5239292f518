import CShims
import HoldfastCore

/// The branches that lead to a timeline: what `<timeline>.history` holds. Format (UTF-8, lines end in `\n`,
/// fields are separated by tabs), ancestors first, the timeline itself last, closed by a CRC32C over all before it:
///
///     holdfast timeline history 1
///     00000001<TAB>0/0<TAB>0123456789ABCDEF<TAB>initialised
///     00000002<TAB>0/3000060<TAB>FEDCBA9876543210<TAB>promoted by node-b
///     crc32c 1A2B3C4D
///
/// A line is the timeline, the switch LSN where it left the one before it, its token, and why.
package struct TimelineHistory: Equatable, Sendable {
    package struct Entry: Equatable, Sendable {
        package var timeline: TimelineID
        /// Where it left its parent: it owns the log from here.
        package var switchLSN: LSN
        package var token: TimelineToken
        /// One printable line.
        package var reason: String

        package init(timeline: TimelineID, switchLSN: LSN, token: TimelineToken, reason: String) {
            self.timeline = timeline
            self.switchLSN = switchLSN
            self.token = token
            self.reason = printable(reason, limit: 200)
        }
    }

    /// At least one; timelines rise, switch LSNs do not fall.
    package private(set) var entries: [Entry]

    private static let title = "holdfast timeline history 1"
    private static let largestFile = 1 << 20

    /// The history of a first timeline.
    package init(first token: TimelineToken, timeline: TimelineID = .first) {
        entries = [Entry(timeline: timeline, switchLSN: .zero, token: token, reason: "initialised")]
    }

    /// The history of `entry.timeline`, which leaves this one at its switch LSN. Timelines of this history
    /// that begin behind that place are not its ancestors and must not be in it.
    package func branching(_ entry: Entry) throws(WALError) -> TimelineHistory {
        var branched = self
        branched.entries.append(entry)
        try branched.check()
        return branched
    }

    /// The branches up to `lsn`: those that begin behind it are left out.
    package func truncated(at lsn: LSN) -> TimelineHistory {
        var cut = self
        cut.entries = entries.filter { $0.switchLSN <= lsn }
        return cut
    }

    package var current: Entry { entries[entries.count - 1] }
    package var timeline: TimelineID { current.timeline }
    package func entry(_ timeline: TimelineID) -> Entry? { entries.first { $0.timeline == timeline } }

    /// The timeline that owns the byte at `lsn`.
    package func timeline(at lsn: LSN) -> TimelineID {
        (entries.last { $0.switchLSN <= lsn } ?? entries[0]).timeline
    }

    /// The timeline under whose name a segment is read along this history: the newest that begins before the segment's
    /// end. Its file begins with a copy of its parent's bytes, while the parent's own goes on where this history does not.
    package func timeline(ofFile segment: SegmentNumber) -> TimelineID {
        (entries.last { $0.switchLSN < segment.end } ?? entries[0]).timeline
    }

    /// Where `timeline` was left, `nil` for the last one.
    package func end(of timeline: TimelineID) -> LSN? {
        guard let index = entries.firstIndex(where: { $0.timeline == timeline }), index + 1 < entries.count else {
            return nil
        }
        return entries[index + 1].switchLSN
    }

    /// `true` when the position (timeline, LSN) lies on this history: at or behind the place where the timeline
    /// began, at or below the one where it was left.
    package func contains(_ timeline: TimelineID, _ lsn: LSN) -> Bool {
        guard let entry = entry(timeline), lsn >= entry.switchLSN else { return false }
        return lsn <= end(of: timeline) ?? .max
    }

    /// The last place that two histories share, as a position of this one.
    package func fork(from other: TimelineHistory) -> (timeline: TimelineID, lsn: LSN)? {
        var common: (TimelineID, LSN)?
        for (index, entry) in entries.enumerated() {
            guard index < other.entries.count, other.entries[index].timeline == entry.timeline,
                other.entries[index].token == entry.token, other.entries[index].switchLSN == entry.switchLSN
            else { break }
            common = (entry.timeline, min(end(of: entry.timeline) ?? .max, other.end(of: entry.timeline) ?? .max))
        }
        return common
    }

    /// The token that a history's bytes give to its own timeline. Throws `history` when they are another's.
    @Sendable package static func ownToken(_ timeline: TimelineID, _ bytes: [UInt8]) throws -> TimelineToken {
        let history = try TimelineHistory(decoding: bytes)
        guard history.timeline == timeline else {
            throw WALError.history("it is that of timeline \(history.timeline), not \(timeline)")
        }
        return history.current.token
    }

    // MARK: Text

    /// `00000002.history`
    package static func fileName(_ timeline: TimelineID) -> String { "\(timeline).history" }
    package static func walPath(_ timeline: TimelineID) -> String { "wal/" + fileName(timeline) }

    package func encoded() -> [UInt8] {
        var text = Self.title + "\n"
        for entry in entries {
            text += "\(entry.timeline)\t\(entry.switchLSN)\t\(entry.token)\t\(entry.reason)\n"
        }
        let bytes = Array(text.utf8)
        return bytes + Array("crc32c \(hexadecimal(UInt64(hf_crc32c(0, bytes, bytes.count)), digits: 8))\n".utf8)
    }

    /// Reads what `encoded` wrote. Throws `history` for anything else, `newerFormat` for a later version.
    package init(decoding bytes: [UInt8]) throws(WALError) {
        guard bytes.count <= Self.largestFile else { throw .history("it has \(bytes.count) bytes") }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw .history("it is not UTF-8") }
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.count >= 4, lines.removeLast().isEmpty else { throw .history("it is cut") }
        let last = lines.removeLast()
        let title = lines.removeFirst()
        if title != Self.title, title.hasPrefix("holdfast timeline history "), let version = UInt32(title.dropFirst(26))
        {
            throw .newerFormat(place: "timeline history", version: version)
        }
        guard title == Self.title else { throw .history("it does not begin with \"\(Self.title)\"") }
        let covered = bytes.count - last.utf8.count - 1
        guard last == "crc32c \(hexadecimal(UInt64(hf_crc32c(0, bytes, covered)), digits: 8))" else {
            throw .history("its checksum does not match")
        }
        entries = []
        for line in lines {
            let fields = line.split(separator: "\t", omittingEmptySubsequences: false)
            guard fields.count == 4, let timeline = TimelineID(name: fields[0]), let lsn = LSN(fields[1]),
                let token = TimelineToken(name: fields[2])
            else { throw .history("the line \"\(printable(line))\" makes no sense") }
            entries.append(Entry(timeline: timeline, switchLSN: lsn, token: token, reason: ""))
            // Printable when it was written; what is not would have been escaped again.
            entries[entries.count - 1].reason = String(fields[3])
        }
        try check()
    }

    private func check() throws(WALError) {
        guard let first = entries.first else { throw .history("it has no entries") }
        guard first.switchLSN == .zero else { throw .history("timeline \(first.timeline) has no beginning") }
        for (earlier, later) in zip(entries, entries.dropFirst())
        where later.timeline <= earlier.timeline || later.switchLSN < earlier.switchLSN {
            throw .history("timeline \(later.timeline) at \(later.switchLSN) cannot follow \(earlier.timeline)")
        }
    }
}
