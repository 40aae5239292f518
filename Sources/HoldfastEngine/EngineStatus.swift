import HoldfastCore

/// What an engine is at: for `status`, `INFO` and metrics.
public struct EngineStatus: Sendable {
    public var role: NodeRole
    public var systemIdentifier: SystemIdentifier
    public var timeline: TimelineID
    public var timelineToken: TimelineToken
    public var publishedLSN: LSN
    public var durableLSN: LSN
    public var appendedLSN: LSN
    /// Where the last complete checkpoint's redo begins.
    public var redoPoint: LSN
    public var lastTransaction: TransactionID
    /// Microseconds since 1970 of the last commit; 0: none yet.
    public var lastCommitTime: Int64
    /// Microseconds since 1970 of the last complete checkpoint.
    public var lastCheckpointTime: Int64
    public var checkpoints: UInt64
    /// A checkpoint is under way.
    public var isCheckpointing: Bool
    /// Why writes are refused now; `nil` when they are accepted.
    public var writeRefusal: String?
    /// What background work could not do and tries again, in an operator's words.
    public var warnings: [String]
    public var cacheBytesUsed: Int
    public var cacheBytes: Int
    public var dirtyBytes: Int
    public var versionBytesUsed: Int
    public var versionBytes: Int
    public var liveSnapshots: Int
    public var cacheHits: UInt64
    public var cacheMisses: UInt64
    public var isArchiving: Bool
    /// Segments that wait for the archiver.
    public var segmentsToArchive: Int
    public var runningBackups: Int
    /// 8 KiB pages that the page files have space for.
    public var allocatedPages: UInt64
    /// Of a follower.
    public var follower: FollowerStatus?
}

public enum NodeRole: String, Sendable {
    case leader
    case follower
    /// Replaying after a restore, or paused at its target.
    case recovering
}
