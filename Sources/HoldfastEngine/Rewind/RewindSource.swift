import HoldfastCore
import HoldfastWAL

/// Where a rewind takes pages from: a leader, or a backup in the archive. Calls block, in this order, on one thread:
/// `identify`, `begin`, `read`, `end`. A throw at any place leaves the directory as one whose rewind must be repeated.
package protocol RewindSource: AnyObject {
    /// For messages: the leader's address, or the backup's id.
    var name: String { get }

    /// Whose pages these are, and along which history.
    func identify() throws -> RewindPeer

    /// Pages are read from here on.
    /// - Returns: where replay must begin for them at the latest; `nil` when they are not older than `fork`.
    func begin(fork: LSN) throws -> ControlData.Position?

    /// Hands over every page of the runs once, each consistent in itself; zeros for one that was never allocated.
    /// Pieces are whole pages of one page file, at most `PageRun.mostPages` of them.
    func read(_ runs: [PageRun], _ body: (PageNumber, UnsafeRawBufferPointer) throws -> Void) throws

    /// No more pages are read.
    /// - Returns: from where on what was read is one moment: no page of it is newer.
    func end() throws -> ControlData.Position
}

/// Who is followed after a rewind.
package struct RewindPeer: Sendable {
    package var system: SystemIdentifier
    /// Its timeline's.
    package var history: TimelineHistory
    /// The end of its durable log, as far as it says.
    package var durable: LSN?

    package init(system: SystemIdentifier, history: TimelineHistory, durable: LSN?) {
        self.system = system
        self.history = history
        self.durable = durable
    }
}

/// Pages one behind the other in one page file.
package struct PageRun: Equatable, Sendable {
    /// 1 MiB: what a leader hands over at once.
    package static let mostPages = 128

    package var first: PageNumber
    package var count: Int

    package init(first: PageNumber, count: Int) {
        self.first = first
        self.count = count
    }
}

/// What a finished rewind says. The directory is whole and durable as a follower's; `serve` replays.
package struct RewindResult: Sendable {
    /// The last place that both histories share.
    package var fork: ControlData.Position
    package var ownTimeline: TimelineID
    /// The end of the log that was thrown away; the fork when nothing was.
    package var ownEnd: LSN
    package var newTimeline: TimelineID
    /// Replay begins here.
    package var redo: ControlData.Position
    /// The directory is consistent from here on.
    package var consistent: ControlData.Position
    package var lost = LostTransactions()
    package var pages = 0
    /// Where the list of what was thrown away and its log are; `nil` when nothing was.
    package var saved: String?
    package var isRepeated = false
}

/// The transactions that only the abandoned branch has.
package struct LostTransactions: Equatable, Sendable {
    package var count = 0
    /// LSN of the first and the last commit.
    package var first: LSN?
    package var last: LSN?

    package init() {}
}
