import HoldfastCore
import HoldfastEngine
import HoldfastRepository

/// Where a target lies in the archive, as far as the segments' summaries tell without replaying anything: which
/// backups are consistent early enough for it, and whether the archive reaches it.
struct TargetReach {
    private let target: RecoveryTarget
    private let isInclusive: Bool
    private let follows: Bool
    /// Backups whose stop is at or below this can reach the target.
    private var latestStop = LSN.max
    /// Above it and up to this they may, which only replay can tell.
    private var latestPossibleStop: LSN?
    /// Where replay ends at the latest; `nil`: wherever the archive ends.
    private var position: LSN?

    init(_ request: RestoreRequest, _ coverage: WALCoverage) throws {
        target = request.target
        isInclusive = request.isInclusive
        follows = request.follower != nil
        switch target {
        case .latest, .immediate, .time: break
        case .lsn(let lsn):
            latestStop = lsn
            position = lsn
        case .transaction(let id): try find(id, coverage)
        case .name(let name): try find(name, coverage)
        }
    }

    private mutating func find(_ id: TransactionID, _ coverage: WALCoverage) throws {
        var newest: TransactionID?
        var found: SegmentSummary.Commits?
        var foundEnd = LSN.max
        let damage = try coverage.summaries { summary in
            guard let commits = summary.commits else { return true }
            newest = newest ?? commits.lastTransaction
            if commits.firstTransaction <= id {
                if id <= commits.lastTransaction {
                    found = commits
                    foundEnd = coverage.history.end(of: summary.segment.timeline) ?? .max
                }
                return false
            }
            return true
        }
        guard let newest, id <= newest else {
            try Self.requireWhole(coverage, damage, target)
            throw RestoreError.unknownTarget(
                target, why: newest.map { "its last transaction is \($0)" } ?? "it holds no transaction")
        }
        guard let found else {
            if let damage { throw damage }
            throw RestoreError.unknownTarget(target, why: "it was committed before the first backup")
        }
        // No commit of this segment ends before the first one.
        latestStop = found.firstEnd
        latestPossibleStop = found.lastEnd
        position = min(found.lastEnd, foundEnd)
    }

    private mutating func find(_ name: String, _ coverage: WALCoverage) throws {
        var found: [SegmentSummary.RestorePoint] = []
        var others: [String] = []
        let damage = try coverage.summaries { summary in
            found += summary.restorePoints.filter { $0.name == name }.reversed()
            if others.count < 8 { others += summary.restorePoints.map(\.name).reversed() }
            return true
        }
        guard let newest = found.first else {
            try Self.requireWhole(coverage, damage, target)
            throw RestoreError.unknownTarget(
                target,
                why: "no restore point of this name was archived"
                    + (others.isEmpty
                        ? "" : "; the newest are " + others.prefix(8).map { printable($0) }.joined(separator: ", ")))
        }
        // Replay would stop at the first one it meets; which is meant only a person knows.
        guard found.count == 1 else {
            throw RestoreError.unknownTarget(
                target,
                why: "there are \(found.count) of this name, at "
                    + found.reversed().map { "\($0.lsn) (\($0.time))" }.joined(separator: ", ")
                    + "; say which with --target-lsn")
        }
        if let damage {
            // Another one of this name may be where nobody can look.
            throw RestoreError.unknownTarget(
                target,
                why: "there is one at \(newest.lsn) (\(newest.time)), and part of the archive cannot be searched for "
                    + "another (\(damage.diagnosis.description.replacing("\n", with: "; "))); say which with --target-lsn"
            )
        }
        latestStop = newest.lsn
        position = newest.lsn
    }

    /// What was not found may lie in a segment that is missing or unreadable: then that is what must be told.
    private static func requireWhole(
        _ coverage: WALCoverage, _ damage: RepositoryError?, _ target: RecoveryTarget
    ) throws {
        if let damage { throw damage }
        if let gap = coverage.gap(from: coverage.start) {
            throw RestoreError.missingSegment(gap, neededFor: target.description)
        }
    }

    /// Whether replay from this backup can stop at the target.
    func allows(_ backup: BackupRecord) -> Bool {
        if case .time(let limit) = target {
            let finished = backup.finishedAt.microseconds
            return isInclusive ? finished <= limit : finished < limit
        }
        return backup.stopLSN <= latestStop
    }

    /// Whether it may, for all that the summaries tell: replay refuses if it does not.
    func mayAllow(_ backup: BackupRecord) -> Bool {
        latestPossibleStop.map { backup.stopLSN <= $0 } ?? false
    }

    /// From where on a backup is consistent, in the target's terms.
    func consistent(_ backup: BackupRecord) -> String {
        if case .time = target { return backup.finishedAt.description }
        return "\(backup.stopLSN) (\(backup.finishedAt))"
    }

    /// Whether a replay to the target reads this segment, as far as the summaries tell. `before`: that of the one before it.
    func needs(_ segment: SegmentName, after before: SegmentSummary?, from backup: BackupRecord) -> Bool {
        if segment.segment.start < backup.stopLSN { return true }
        switch target {
        case .immediate: return false
        case .latest: return true
        case .lsn, .transaction, .name: return position.map { segment.segment.start < $0 } ?? true
        // Replay has stopped at the first commit behind the limit.
        case .time(let limit): return before?.commits.map { $0.lastTime.microseconds <= limit } ?? true
        }
    }

    /// Throws when a segment between the backup and the target is missing, or the archive ends before the target.
    func requireReachable(from backup: BackupRecord, _ coverage: WALCoverage) throws {
        if let position, position > backup.stopLSN {
            let end = try coverage.end(from: backup.startLSN)
            if position <= end.lsn { return }
            if let gap = coverage.gap(from: backup.startLSN) {
                throw RestoreError.missingSegment(gap, neededFor: target.description)
            }
            if let damage = end.damage { throw damage }
            throw RestoreError.pastArchive(target, end: end.lsn, timeline: coverage.history.timeline)
        }
        if target == .latest {
            // The end of the archive is what was asked for, and neither a gap nor damage is one. A follower goes on from its
            // leader: segments are archived several at once, and for a moment a later one may be there first.
            if !follows, let gap = coverage.gap(from: backup.startLSN) {
                throw RestoreError.missingSegment(gap, neededFor: "the latest target")
            }
            if let damage = try coverage.end(from: backup.startLSN).damage { throw damage }
        }
        guard case .time(let limit) = target else { return }
        var last: Timestamp?
        let damage = try coverage.summaries(of: coverage.contiguous(from: backup.startLSN)) { summary in
            last = [last, summary.commits?.lastTime, summary.restorePoints.last?.time].compactMap { $0 }.max()
            // Times do not fall along the log: the newest segment that has one has the newest.
            return last == nil
        }
        let reached = last.map { isInclusive ? $0.microseconds > limit : $0.microseconds >= limit } ?? false
        guard !reached else { return }
        if let gap = coverage.gap(from: backup.startLSN) {
            throw RestoreError.missingSegment(gap, neededFor: target.description)
        }
        if let damage { throw damage }
        throw RestoreError.unknownTarget(
            target,
            why: last.map {
                "the last commit in it was at \($0), and only a later one shows that all before it is there"
            }
                ?? "it holds no commit behind the backup")
    }
}
