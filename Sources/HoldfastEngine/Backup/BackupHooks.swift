import HoldfastCore

/// A running backup, as the engine knows it.
public struct BackupToken: Hashable, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// What a backup begins with.
public struct BackupStart: Sendable {
    public var token: BackupToken
    /// Replay begins here: the redo point of the backup's checkpoint, or of a follower's last restartpoint.
    public var startLSN: LSN
    public var timeline: TimelineID
    public var checkpointLSN: LSN
    public var systemIdentifier: SystemIdentifier
    public var timelineToken: TimelineToken
    /// Microseconds since 1970.
    public var startTime: Int64
}

/// What a backup ends with.
public struct BackupStop: Sendable {
    /// Replay must reach here before the copy is consistent.
    public var stopLSN: LSN
    /// Of a follower's backup: the CRC of the record that ends at `stopLSN`. A leader's ends with a record of its own.
    public var stopChain: UInt32?
    public var timeline: TimelineID
    public var stopTime: Int64
    /// The bytes of `backup_label`.
    public var label: [UInt8]
}

/// A file of a backup: page files only.
public struct BackupFile: Sendable, Equatable {
    /// Relative to the data directory.
    public var path: String
    public var bytes: UInt64
}
