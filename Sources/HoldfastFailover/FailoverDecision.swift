import HoldfastCore

/// What a node knows of itself when it decides.
package struct NodeFacts: Sendable, Equatable {
    package var name: String
    package var isFollower: Bool
    package var timeline: TimelineID
    /// Of this process' present lease; 0: it has none.
    package var lease: Int64
    /// Since when it sees the leader's key gone.
    package var vacantMilliseconds: Int

    package init(name: String, isFollower: Bool, timeline: TimelineID, lease: Int64, vacantMilliseconds: Int) {
        self.name = name
        self.isFollower = isFollower
        self.timeline = timeline
        self.lease = lease
        self.vacantMilliseconds = vacantMilliseconds
    }
}

/// What a node does about the leader's key, given what it sees: no I/O, no clock, so that any history can be tried.
///
/// **Why nothing acknowledged is lost.** A leader acknowledges while its own clock says that its lease cannot have
/// passed; the key goes no sooner than the lease. A follower says how far it is after it has seen the key gone, so after
/// the last acknowledgement. Each acknowledged write is on `min_followers` of the followers; of any followers −
/// min_followers + 1 one has it, and so has the furthest of them.
package enum FailoverDecision: Sendable, Equatable {
    /// The key is this node's, and it leads or is about to.
    case lead
    /// Take the key, and write.
    case takeBack
    /// Take the key, then open a new timeline.
    case takeOver
    /// Stream from this node.
    case follow(String)
    /// Say how far this follower is, now that the leader's key of this term is gone.
    case report(term: Int64)
    /// Nothing for now, and why.
    case wait(String)
    /// This node was left behind and must not go on.
    case stop(String)

    /// So long the furthest node waits for followers that are there and have not said how far they are, once enough have.
    static let patienceMilliseconds = 1000

    package init(_ view: ClusterView, _ own: NodeFacts, maximumLag: Int?) {
        if let holder = view.holder {
            if holder.lease == own.lease, own.lease != 0 {
                self = .lead
            } else if own.isFollower {
                self =
                    holder.node == own.name
                    ? .wait("the key of this node's earlier life has not lapsed yet") : .follow(holder.node)
            } else if holder.node == own.name {
                self = .wait("the key of this node's earlier life has not lapsed yet")
            } else {
                self = .stop("\(holder.node) holds the leader's key")
            }
        } else if own.isFollower {
            self = Self.vacancy(view, own, maximumLag)
        } else if let word = view.word, word.node != own.name, word.timeline >= own.timeline {
            self = .stop("\(word.node) has led timeline \(word.timeline.rawValue) since this node did")
        } else if let word = view.word, word.node != own.name, word.overtaken?.contains(own.name) == true {
            self = .stop("\(word.node) has led again since this node left it, and this node lacks what it wrote")
        } else if let word = view.word, word.timeline > own.timeline {
            self = .stop("this node has led timeline \(word.timeline.rawValue), and its directory has not")
        } else {
            self = .takeBack
        }
    }

    /// No key, and this node follows.
    private static func vacancy(_ view: ClusterView, _ own: NodeFacts, _ maximumLag: Int?) -> Self {
        guard let word = view.word else { return .wait("no node has ever held the leader's key") }
        let followers = view.members.filter { $0 != word.node }
        let live = view.nodes.filter { $0.role == .follower && followers.contains($0.node) }
        let reports = live.filter { $0.vacantTerm == word.term }
        guard let mine = reports.first(where: { $0.node == own.name }) else { return .report(term: word.term) }
        // Where nobody need have a write the furthest of all is the best that there is.
        let needed = max(1, min(followers.count, followers.count - word.minimumFollowers + 1))
        guard reports.count >= needed else {
            return .wait("\(reports.count) of \(followers.count) followers have said how far they are, \(needed) must")
        }
        if reports.count < live.count, own.vacantMilliseconds < patienceMilliseconds {
            return .wait("not all followers have said how far they are")
        }
        let best = reports.max { isBehind($0, $1, of: word) }
        guard best?.node == own.name else {
            return .wait("another follower is further")
        }
        guard mine.timeline == word.timeline else {
            return .wait(
                "the last leader led timeline \(word.timeline.rawValue), and this node has \(mine.timeline.rawValue)")
        }
        if let maximumLag, word.lsn > mine.flushed, word.lsn - mine.flushed > maximumLag {
            return .wait(
                "\(word.lsn - mine.flushed) bytes of the last leader's log are missing, more than failover.max_lag")
        }
        return .takeOver
    }

    /// Of two that are equally far the first by name is the one: all who see the same choose the same.
    ///
    /// Nobody has led a timeline above the last leader's. Who goes along to one has read of a claim, and may only wait for
    /// whoever made it: that one, whose promotion failed, is still on the last leader's and takes its claim up.
    private static func isBehind(_ a: NodeRecord, _ b: NodeRecord, of word: LeaderWord) -> Bool {
        func rank(_ node: NodeRecord) -> (TimelineID, LSN, Int) {
            (min(node.timeline, word.timeline), node.flushed, node.timeline == word.timeline ? 1 : 0)
        }
        let (first, second) = (rank(a), rank(b))
        return first == second ? b.node < a.node : first < second
    }
}
