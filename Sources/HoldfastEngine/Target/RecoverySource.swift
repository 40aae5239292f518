import HoldfastCore

/// Where a recovering node finds the log that it does not hold, and claims the timeline that it opens.
/// Calls block; each throws a `DiagnosableError` when the archive fails, which is never taken for its end.
public protocol RecoverySource: Sendable {
    /// The plain bytes of a segment, checked from end to end; `nil` when the archive does not hold it.
    /// - Parameter spent: one that was handed out before and is not looked at any more: its memory is used again.
    func segment(_ name: SegmentName, reusing spent: SegmentBuffer?) throws -> SegmentBuffer?

    /// Whether the archive holds a segment of this timeline behind `name`: then a missing one is a gap, and no end.
    func holdsLater(than name: SegmentName) throws -> Bool

    /// A timeline's history as its claimer wrote it; `nil` when nobody claimed the timeline.
    func history(_ timeline: TimelineID) throws -> [UInt8]?

    /// Replay follows these timelines, each up to the place where the next one begins: what to read ahead.
    func willReplay(_ timelines: [(timeline: TimelineID, from: LSN)])

    /// The number above every claim. Refused by name when there is a claim that `own` lacks, unless `isForced`.
    func timelineToClaim(own: [TimelineID], isForced: Bool) throws -> TimelineID

    /// Claims a timeline by creating its history exclusively and durably; with the same bytes again it succeeds again.
    func claim(_ timeline: TimelineID, history: [UInt8]) throws

    /// Replay has ended: what was read ahead is dropped, the restore's hold given back.
    func replayEnded()
}
