import HoldfastCore
import HoldfastWAL

/// How the log looks at a position, for somebody who wants to go on from there.
package enum LogPosition: Equatable, Sendable {
    /// A record ends here, and this is its CRC.
    case chain(UInt32)
    /// The segment that could tell is not there.
    case unknown
    /// No record ends here.
    case betweenNothing
}

extension Engine {
    /// The branches that lead to this node's timeline; of a follower those that it follows, of which the last may begin
    /// behind what it has.
    package func timelineHistory() throws -> TimelineHistory {
        try checkOpen()
        return try followedHistory ?? storage.timelineHistory()
    }

    /// Of a node that follows, or did when it was opened: its branches as of now. They change when it goes over to another
    /// timeline, and when it is promoted; before anything of the new timeline counts as durable here. So what was durable
    /// before they were asked for lies on them. `nil`: they stay as they are.
    package var followedHistory: TimelineHistory? { follower?.history }

    /// Below what the whole segments are archived, as far as a follower was told by what it follows; `nil` on a leader.
    package var archivedUpstream: LSN? { isFollower ? follower?.archivedUpstream : nil }

    /// Reads the log of one timeline of `history`.
    package func makeLogFeed(_ history: TimelineHistory, timeline: TimelineID) throws -> LogFeed {
        try checkOpen()
        return LogFeed(storage, history: history, timeline: timeline)
    }

    /// Waits until the log is durable beyond `lsn`, for so long at most; `wakeLogWaiters` ends it, and `isNeedless`,
    /// asked before the wait, prevents it.
    package func waitForDurable(beyond lsn: LSN, milliseconds: Int, unless isNeedless: () -> Bool) {
        log.waitForDurable(beyond: lsn, milliseconds: milliseconds, unless: isNeedless)
    }

    package func wakeLogWaiters() { log.wakeWaiters() }

    /// Whether a record ends at `lsn` along `history`, and which: reads the segment from its header. `lsn` must be durable.
    package func position(at lsn: LSN, along history: TimelineHistory) throws -> LogPosition {
        try checkOpen()
        let lsn = LogLayout.canonical(lsn)
        func walk(_ source: some SegmentSource, from start: LSN) throws(EngineError) -> LogPosition {
            let reader = LogReader(
                source: source, system: storage.control.system, history: history, from: start, chain: nil)
            return try onLog { () throws(WALError) in
                while reader.position < lsn {
                    guard try reader.next() != nil else { return .unknown }
                }
                guard reader.position == lsn, let chain = reader.chain else { return .betweenNothing }
                return .chain(chain)
            }
        }
        guard lsn > LogLayout.firstPosition else { return lsn == LogLayout.firstPosition ? .chain(0) : .betweenNothing }
        let before = try walk(
            storage.makeSegmentSource(), from: SegmentNumber(containing: LSN(lsn.rawValue - 1)).start)
        guard before == .unknown, LogLayout.offset(lsn) == 0, lsn < durableLSN else { return before }
        return try first(storage.makeSegmentSource(), of: lsn, along: history)
    }

    /// What the first record of a segment says of the one before it.
    private func first(
        _ source: some SegmentSource, of lsn: LSN, along history: TimelineHistory
    ) throws(EngineError) -> LogPosition {
        let reader = LogReader(source: source, system: storage.control.system, history: history, from: lsn, chain: nil)
        return try onLog { () throws(WALError) in try reader.next().map { .chain($0.previousCRC) } ?? .unknown }
    }
}
