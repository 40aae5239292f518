import HoldfastCore

/// Where a follower finds histories and claims besides what a recovering node needs.
public protocol FollowerSource: RecoverySource {
    /// The histories of the timelines above `timeline` that anybody claimed, newest first.
    func histories(above timeline: TimelineID) throws -> [[UInt8]]
    /// Whether `error`, thrown by a call of this, says that another node has what was asked for. Else nobody could be asked.
    func isRefusal(_ error: any Error) -> Bool
    /// Throws when whoever claimed this timeline leads, or has written on it.
    func requireUnused(_ timeline: TimelineID) throws
}

/// What a stream must bring: the log from here on.
public struct StreamRequest: Sendable, Equatable {
    public var systemIdentifier: SystemIdentifier
    public var timeline: TimelineID
    public var token: TimelineToken
    public var position: LSN
    /// The CRC of the record that ends there.
    public var chain: UInt32?
    /// The same for every stream of one directory on one host, and another one's for others; empty: not known.
    public var instance = ""
}

/// The receiving side of a follower: one thread brings what a leader sends. Calls may block on the disk.
public protocol LogFollower: AnyObject, Sendable {
    /// A stream may begin: what to ask for; `nil` while the node replays the archive, or is about to be promoted.
    /// Every call that returns a request is followed by `endStream`.
    func beginStream() throws -> StreamRequest?
    /// Takes bytes of the log. Throws `EngineError`, after which the stream must end.
    func receive(_ bytes: UnsafeRawBufferPointer, at lsn: LSN) throws
    /// Makes durable what has come; on the disk when it returns.
    func flush() throws
    /// Has made durable what has come below `lsn`, where a record or a segment ends, on another thread while more is
    /// received: `positions` say when. Throws, as the next `receive` does, when what was asked for before could not be done.
    func flushSoon(through lsn: LSN) throws
    /// Calls `told`, on any thread, whenever `positions` may have moved or `flushSoon` failed; `nil`: no longer.
    func observeProgress(_ told: (@Sendable () -> Void)?)
    /// What a leader says about itself: the end of its durable log, its clock (microseconds since 1970), and below what its
    /// whole segments are archived.
    func leaderIs(at durable: LSN, clock: Int64, archived: LSN, address: String)
    /// The requested timeline was left at `lsn`; `history` is that of the one that follows.
    func timelineEnded(at lsn: LSN, history: [UInt8]) throws
    /// The stream is over, and why: `nil` when it ended in order. The archive is looked at next.
    func endStream(_ problem: String?)
    var positions: FollowerPositions { get }
    /// Waits until something may have been applied since `lsn`, or the time is over.
    func waitApplied(beyond lsn: LSN, milliseconds: Int)
    /// How the node is called, the slot that it asks for, and the leaders that it knows by itself.
    var signal: StandbySignal { get }
    var isStopping: Bool { get }
}

/// How far a follower is.
public struct FollowerPositions: Sendable, Equatable {
    public var received: LSN
    public var flushed: LSN
    public var applied: LSN
}

/// What a follower is at, for `status`.
public struct FollowerStatus: Sendable, Equatable {
    public enum Phase: String, Sendable {
        /// Replays the archive.
        case archive
        /// Receives from a leader.
        case streaming
        /// Has nothing to read, and no leader answers.
        case waiting
    }
    public var phase: Phase
    public var positions: FollowerPositions
    /// Of the leader it streams from, or did last.
    public var leader: String?
    public var leaderLSN: LSN
    /// The leader's clock when it said so, and the time of the last commit applied: microseconds since 1970.
    public var leaderClock: Int64
    public var problem: String?
    /// Streams that ended because bytes were wrong.
    public var faults: Int
    /// Whether the log that the node had at its start has been read to its end, and the archive had no more. Before that
    /// `positions` may say less than the node has, and confirmed: it must not be compared with others by them.
    public var hasReadItsLog: Bool
    /// From what it has applied to the leader's end, which is what the leader says: it may say anything.
    public var lagBytes: Int { Int(clamping: leaderLSN.rawValue - min(leaderLSN, positions.applied).rawValue) }
}
