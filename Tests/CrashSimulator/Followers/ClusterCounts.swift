/// What seeds of clusters have counted.
public struct ClusterCounts: RunTally, Equatable {
    public init() {}
    public var seeds = 0
    public var steps = 0
    public var transactions = 0
    /// Connections that were lost, at whatever byte.
    public var lostConnections = 0
    public var crashes = 0
    public var promotions = 0
    /// Promotions that were refused: another was first, or the archive away.
    public var refusedPromotions = 0
    public var rewinds = 0
    public var newCopies = 0
    public var backups = 0
    /// Nodes whose log lies past a fork, and that were refused for it.
    public var diverged = 0
    /// Calls at which a copy of a node was crashed, recovered and checked.
    public var crashPoints = 0
    /// What a node was at, with which call on which kind of file, when it or its copy crashed.
    public var distinctCrashPoints: Set<String> = []

    public static func += (a: inout ClusterCounts, b: ClusterCounts) {
        a.seeds += b.seeds
        a.steps += b.steps
        a.transactions += b.transactions
        a.lostConnections += b.lostConnections
        a.crashes += b.crashes
        a.promotions += b.promotions
        a.refusedPromotions += b.refusedPromotions
        a.rewinds += b.rewinds
        a.newCopies += b.newCopies
        a.backups += b.backups
        a.diverged += b.diverged
        a.crashPoints += b.crashPoints
        a.distinctCrashPoints.formUnion(b.distinctCrashPoints)
    }
}
