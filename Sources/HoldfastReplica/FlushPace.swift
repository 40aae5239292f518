import HoldfastCore
import HoldfastEngine

/// Decides when what a stream has brought is made durable.
///
/// What the leader has last is synced at once, by the thread that receives: somebody may wait for it. While the leader has
/// more, another thread syncs, and the larger its pieces are the faster the whole is: whole segments, of which each is
/// written once, as long as the leader has the rest of one; then pieces of a MiB.
struct FlushPace {
    enum Step: Equatable {
        case none
        /// Before the next message is taken.
        case atOnce
        /// Meanwhile, up to there.
        case soon(LSN)
    }

    /// A sync of more is not waited for.
    static let smallBytes = 256 << 10
    static let pieceBytes = 1 << 20
    /// A stream so slow that no segment is whole in time is made durable, and confirmed, all the same.
    static let longest = Duration.milliseconds(500)

    /// Everything below is durable, or was asked for.
    private(set) var asked: LSN
    private var askedAt: ContinuousClock.Instant

    init(flushed: LSN, at time: ContinuousClock.Instant = .now) {
        asked = flushed
        askedAt = time
    }

    /// Whether something has come that nobody was asked to sync.
    func isPending(_ now: FollowerPositions) -> Bool { now.received > asked }

    /// Everything that has come is to be synced.
    mutating func all(_ now: FollowerPositions, at time: ContinuousClock.Instant = .now) -> LSN {
        ask(max(asked, now.received), time)
    }

    private mutating func ask(_ lsn: LSN, _ time: ContinuousClock.Instant) -> LSN {
        asked = lsn
        askedAt = time
        return lsn
    }

    /// After a message.
    /// - Parameters:
    ///   - leader: where its durable log ends, as it said with the message.
    ///   - isMoreHere: a part of the next message has come already.
    mutating func step(
        _ now: FollowerPositions, leader: LSN, isMoreHere: Bool, at time: ContinuousClock.Instant = .now
    ) -> Step {
        guard isPending(now) else { return .none }
        let isIdle = now.flushed >= asked
        let segment = SegmentNumber(containing: now.received)
        if leader <= now.received {
            let isSmall = now.received - now.flushed <= Self.smallBytes
            let all = all(now, at: time)
            return isIdle && isSmall && !isMoreHere ? .atOnce : .soon(all)
        }
        if leader < segment.end {
            return now.received - asked >= Self.pieceBytes ? .soon(all(now, at: time)) : .none
        }
        if segment.start > asked { return .soon(ask(segment.start, time)) }
        return time - askedAt >= Self.longest ? .soon(all(now, at: time)) : .none
    }
}
