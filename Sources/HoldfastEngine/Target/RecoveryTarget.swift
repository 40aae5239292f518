import HoldfastCore

/// Where replay of the archive is to stop.
public enum RecoveryTarget: Sendable, Equatable {
    /// The end of the archive.
    case latest
    /// As soon as the base backup is consistent.
    case immediate
    /// Microseconds since 1970: the last commit at or before this time.
    case time(microseconds: Int64)
    /// The last commit that ends at or before this position.
    case lsn(LSN)
    /// The commit of this transaction.
    case transaction(TransactionID)
    /// A named restore point.
    case name(String)
}

/// What the node does when replay has reached its target.
public enum TargetAction: String, Sendable, CaseIterable {
    /// Opens a new timeline and accepts writes.
    case promote
    /// Serves reads at the target until it is promoted or stopped.
    case pause
    /// Ends, leaving the directory at the target.
    case shutdown
}

/// Which branch of history replay follows.
public enum TargetTimeline: Sendable, Equatable {
    /// The backup's own, as far as it goes.
    case current
    /// The newest that the archive knows to descend from the backup's.
    case latest
    case number(TimelineID)
}

/// A record of the log as far as targets look at it.
package struct ReplayPoint: Sendable {
    package enum Kind: Sendable, Equatable {
        case commit(first: TransactionID, last: TransactionID)
        case restorePoint(String)
        /// Any other record that carries a time.
        case other
    }
    package var kind: Kind
    /// The end of the record, and of the commit it completes.
    package var end: LSN
    /// Microseconds since 1970; `nil` for kinds that carry none.
    package var time: Int64?

    package init(kind: Kind, end: LSN, time: Int64?) {
        self.kind = kind
        self.end = end
        self.time = time
    }
}

/// Decides, record by record, whether replay has reached its target. Pure: it knows no disk and no pages.
package struct TargetJudge: Sendable {
    package enum Verdict: Equatable, Sendable {
        case apply
        /// The record is past the target: it is not applied, and replay ends before it.
        case stopBefore
        /// The record is the target: it is applied, and replay ends behind it.
        case stopAfter
    }

    package let target: RecoveryTarget
    package let isInclusive: Bool

    package init(target: RecoveryTarget, isInclusive: Bool) {
        self.target = target
        self.isInclusive = isInclusive
    }

    /// `point` comes next in the log. Throws when the target lies inside a commit that bears a range of
    /// transactions, since a commit is applied whole or not at all.
    package func judge(_ point: ReplayPoint) throws(RecoveryTargetError) -> Verdict {
        switch target {
        case .latest, .immediate:
            return .apply
        case .time(let limit):
            guard let time = point.time else { return .apply }
            return time > limit || (time == limit && !isInclusive) ? .stopBefore : .apply
        case .lsn(let limit):
            guard case .commit = point.kind else { return point.end > limit ? .stopBefore : .apply }
            return point.end > limit || (point.end == limit && !isInclusive) ? .stopBefore : .apply
        case .transaction(let wanted):
            guard case .commit(let first, let last) = point.kind else { return .apply }
            if wanted < first { return .stopBefore }
            guard wanted <= last else { return .apply }
            if isInclusive {
                guard wanted == last else { throw .insideCommit(wanted, first: first, last: last, inclusive: true) }
                return .stopAfter
            }
            guard wanted == first else { throw .insideCommit(wanted, first: first, last: last, inclusive: false) }
            return .stopBefore
        case .name(let wanted):
            return point.kind == .restorePoint(wanted) ? .stopAfter : .apply
        }
    }

    /// Whether a log that ends at `end` without a verdict has nevertheless reached the target.
    package func isReached(atEnd end: LSN) -> Bool {
        switch target {
        case .latest: true
        case .lsn(let limit): end >= limit
        case .immediate, .time, .transaction, .name: false
        }
    }
}

/// Why a target cannot be recovered to.
public enum RecoveryTargetError: DiagnosableError, Equatable {
    case insideCommit(TransactionID, first: TransactionID, last: TransactionID, inclusive: Bool)
    /// The log ended first.
    case notReached(RecoveryTarget, end: LSN, timeline: TimelineID, lastTime: Int64?, lastTransaction: TransactionID)
    /// The target lies before the place where the backup becomes consistent.
    case beforeConsistency(RecoveryTarget, consistent: LSN)

    public var diagnosis: Diagnosis {
        switch self {
        case .insideCommit(let wanted, let first, let last, let inclusive):
            return Diagnosis(
                "transaction \(wanted) cannot be a recovery target",
                why: "it was committed together with transactions \(first) to \(last), which are one commit",
                next: inclusive
                    ? "use --target-transaction \(last), or --target-transaction \(first) --exclusive to stop before them"
                    : "use --target-transaction \(first) --exclusive, or --target-transaction \(last) to stop behind them",
                status: .dataError)
        case .notReached(let target, let end, let timeline, let lastTime, let lastTransaction):
            var reached = "the log ends at \(end) on timeline \(timeline), transaction \(lastTransaction)"
            if let lastTime { reached += ", \(Timestamp.text(microseconds: lastTime))" }
            return Diagnosis(
                "the recovery target was not reached", at: target.description, why: reached,
                next: "choose a target at or before that, or restore with the latest target", status: .dataError)
        case .beforeConsistency(let target, let consistent):
            return Diagnosis(
                "the recovery target lies before the backup is consistent", at: target.description,
                why: "this backup is whole only from \(consistent) on", next: "restore from an earlier backup",
                status: .dataError)
        }
    }
}

extension RecoveryTarget: CustomStringConvertible {
    /// As an operator would write it: `time 2026-11-23T02:15:00.000000Z`.
    public var description: String {
        switch self {
        case .latest: "latest"
        case .immediate: "immediate"
        case .time(let time): "time \(Timestamp.text(microseconds: time))"
        case .lsn(let lsn): "LSN \(lsn)"
        case .transaction(let id): "transaction \(id)"
        case .name(let name): "restore point \"\(printable(name))\""
        }
    }
}
