import HoldfastArchive
import HoldfastCore
import HoldfastEngine
import HoldfastRepository

/// What an operator asks of a restore.
package struct RestoreRequest: Sendable {
    /// The data directory to make; absolute.
    package var data: String
    /// A backup's id; `nil`: the newest from which the target can be reached.
    package var backup: String?
    package var target = RecoveryTarget.latest
    package var isInclusive = true
    package var timeline = TargetTimeline.latest
    package var action = TargetAction.promote
    /// A copy that neither claims a timeline in the repository nor pushes to it.
    package var isCopy = false
    /// Go on although the cluster's leader is alive: it stops accepting writes when the new timeline is claimed.
    package var takesOver = false
    /// The node follows a leader instead of opening a timeline.
    package var follower: FollowerOrder?
    /// Threads that read, decompress, check and write.
    package var workers = 2
    /// The command that an operator repeats when this one was interrupted.
    package var command = "holdfast restore"
    package var progress: (@Sendable (ArchiveProgress) -> Void)?
    package var cancellation: CancellationFlag?

    package init(data: String) { self.data = data }
}

/// How a restored node will follow.
package struct FollowerOrder: Sendable, Equatable {
    /// `HOST:PORT` or `unix:PATH`, tried in turn.
    package var leaders: [String]
    /// How the node names itself.
    package var node: String
    /// The replication slot that it asks for.
    package var slot: String?
    /// Its content is compared with the leader's before it serves any.
    package var isToBeVerified = false

    package init(leaders: [String], node: String, slot: String?) {
        self.leaders = leaders
        self.node = node
        self.slot = slot
    }
}

/// What a finished restore says. The directory is whole and durable; `serve` replays.
package struct RestoreResult: Sendable {
    package var backup: BackupRecord
    package var target: RecoveryTarget
    package var timeline: TimelineID
    package var data: String
    package var bytes: UInt64
    package var pages: UInt64
    /// Replay begins here.
    package var startLSN: LSN
}
