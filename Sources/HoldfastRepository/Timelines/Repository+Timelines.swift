import HoldfastCore

/// Timeline histories, which are claims too: whoever created `<timeline>.history` owns that timeline. They never expire.
extension Repository {
    /// A history is a line for each promotion.
    package static let historyLimitBytes = 4 << 20

    /// The timelines that were claimed, ascending. Timeline 1 need not have a history.
    package func claimedTimelines() throws -> [TimelineID] {
        try store.list(layout.wal).compactMap { object in
            guard object.name.hasSuffix(".history") else { return nil }
            return TimelineID(name: object.name.dropLast(8))
        }.sorted()
    }

    /// Every timeline that was claimed or has WAL here, ascending.
    package func timelines() throws -> [TimelineID] {
        let withWAL = try store.listDirectories(layout.wal).compactMap { TimelineID(name: $0) }
        return Set(try claimedTimelines() + withWAL).sorted()
    }

    /// The history's bytes as its claimer wrote them; `nil` when nobody claimed the timeline.
    package func history(_ timeline: TimelineID) throws -> [UInt8]? {
        try store.read(layout.history(timeline), limit: Self.historyLimitBytes)
    }

    /// The number that a promotion claims next: above every claim, every timeline with WAL, and `own`.
    ///
    /// - `own`: the timelines of the node's history, its current one included. A claim above them is another node's: refused
    ///   by name, unless `forced`. One below that is not among them was passed over by whoever claimed the node's own.
    package func timelineToClaim(own: [TimelineID], forced: Bool) throws -> TimelineID {
        let claimed = try claimedTimelines()
        if !forced, let foreign = claimed.last, foreign > own.max() ?? .init(0) {
            throw RepositoryError.foreignClaim(foreign)
        }
        let highest = max(try timelines().last ?? .first, own.max() ?? .first, .first)
        guard highest.rawValue < UInt32.max else {
            throw RepositoryError.damaged(layout.relative(layout.wal), why: "timeline \(highest) is the last possible")
        }
        return TimelineID(highest.rawValue + 1)
    }

    /// Claims `timeline` by creating its history, exclusively and durably. Repeated after a crash with the same bytes
    /// (they hold a random token) it succeeds again. Throws `claimLost` when another has it.
    package func claim(_ timeline: TimelineID, history: [UInt8]) throws {
        try requirePresent()
        guard try store.create(layout.history(timeline), history) != .different else {
            throw RepositoryError.claimLost(timeline)
        }
    }

    /// The highest claim above `timeline`, which a leader on `timeline` must yield to; `nil` when there is none.
    package func claim(above timeline: TimelineID) throws -> TimelineID? {
        try claimedTimelines().last { $0 > timeline }
    }
}
