import HoldfastCore
import HoldfastWAL

/// What each timeline holds at each LSN: the tree of the cluster's states. A timeline is known by its token, since two nodes
/// that both believe they own a number are what is looked for.
struct ClusterModel {
    struct Branch {
        var timeline: TimelineID
        var parent: TimelineToken?
        /// Where it left its parent.
        var from: LSN
        var commits: [(end: LSN, state: Model)] = []
        /// A commit whose end nobody was told yet: a crash may leave it.
        var pending: Model?
        /// Its leader said that everything below is durable.
        var durable = LSN.zero
    }
    private(set) var branches: [TimelineToken: Branch] = [:]

    mutating func add(_ token: TimelineToken, _ branch: Branch) { branches[token] = branch }

    func branch(_ token: TimelineToken) throws(Violation) -> Branch {
        guard let branch = branches[token] else {
            throw Violation("a node is on a timeline with the token \(token), which nobody has claimed")
        }
        return branch
    }

    // MARK: Commits

    mutating func begin(_ token: TimelineToken, _ state: Model) { branches[token]?.pending = state }
    mutating func refuse(_ token: TimelineToken) { branches[token]?.pending = nil }

    mutating func commit(_ token: TimelineToken, end: LSN) {
        guard let state = branches[token]?.pending else { return }
        branches[token]?.commits.append((end, state))
        branches[token]?.pending = nil
    }

    mutating func madeDurable(_ token: TimelineToken, to lsn: LSN) {
        guard let known = branches[token]?.durable, known < lsn else { return }
        branches[token]?.durable = lsn
    }

    /// The timeline's leader has started again with a log that ends at `end`: what it had not made durable is gone for good.
    mutating func recovered(_ token: TimelineToken, end: LSN, digest: UInt64) throws(Violation) {
        let known = try branch(token)
        guard end >= known.durable else {
            throw Violation("a leader said that its log was durable to \(known.durable), and starts with \(end)")
        }
        if try state(at: end, on: token).digest == digest {
            branches[token]?.commits.removeAll { $0.end > end }
        } else if let pending = known.pending, pending.digest == digest {
            branches[token]?.commits.append((end, pending))
        } else {
            throw Violation("a leader starts at \(end) with a state that never was")
        }
        branches[token]?.pending = nil
    }

    /// Whether a start of the timeline's leader may have come to this state: nothing that was durable is missing.
    func mayLeave(_ digest: UInt64, on token: TimelineToken) throws(Violation) -> Bool {
        let branch = try branch(token)
        if try state(at: max(branch.durable, branch.from), on: token).digest == digest { return true }
        return branch.commits.contains { $0.end > branch.durable && $0.state.digest == digest }
    }

    // MARK: States

    /// What was committed at or below `lsn` along the history of a timeline.
    func state(at lsn: LSN, on token: TimelineToken) throws(Violation) -> Model {
        let branch = try branch(token)
        if let commit = branch.commits.last(where: { $0.end <= lsn }) { return commit.state }
        guard let parent = branch.parent else { return Model() }
        return try state(at: min(lsn, branch.from), on: parent)
    }

    /// The newest state of a timeline, durable or not.
    func newest(_ token: TimelineToken) throws(Violation) -> Model { try state(at: .max, on: token) }

    /// The end of the last commit at or below `lsn` along the history of a timeline.
    func lastCommit(at lsn: LSN, on token: TimelineToken) throws(Violation) -> LSN {
        let branch = try branch(token)
        if let commit = branch.commits.last(where: { $0.end <= lsn }) { return commit.end }
        guard let parent = branch.parent else { return .zero }
        return try lastCommit(at: min(lsn, branch.from), on: parent)
    }

    /// How far the history of `token` goes along the timeline `other`; `nil` when that is none of its ancestors, nor itself.
    func end(of other: TimelineToken, along token: TimelineToken) throws(Violation) -> LSN? {
        var (at, end) = (token, LSN.max)
        while at != other {
            let branch = try branch(at)
            guard let parent = branch.parent else { return nil }
            end = min(end, branch.from)
            at = parent
        }
        return end
    }

    /// Whether a log of the timeline `other` that ends at `lsn` is a part of the history of `token`.
    func contains(_ lsn: LSN, of other: TimelineToken, along token: TimelineToken) throws(Violation) -> Bool {
        guard let end = try end(of: other, along: token) else { return false }
        return end == .max || lsn <= LogLayout.canonical(end)
    }
}
