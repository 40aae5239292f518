import HoldfastCore
import HoldfastEngine
import HoldfastRepository
import HoldfastWAL

/// What a restore will do: which backup, along which history, and that everything it needs is in the repository.
package struct RestorePlan: Sendable {
    package let backup: BackupRecord
    /// The timelines that replay follows, to the target timeline.
    package let history: TimelineHistory
    /// The end of the archive along that history.
    package let archiveEnd: LSN

    init(_ repository: Repository, _ request: RestoreRequest) throws {
        let entries = try repository.backups()
        let usable = entries.compactMap(\.usable)
        let named = try request.backup.map { try repository.usableBackup(named: $0) }
        guard let newest = named ?? usable.last else {
            // One that cannot be read is worth more than "there is none".
            for entry in entries.reversed() { if case .damaged(let error) = entry.state { throw error } }
            throw RestoreError.noBackup(cluster: repository.cluster)
        }

        // The timeline first: what a time or a name means depends on the branch.
        let history = try Self.history(repository, request.timeline, named.map { [$0] } ?? usable, newest)
        if named == nil, request.timeline == .latest,
            try repository.timelines().last.map({ $0 > history.timeline }) ?? false
        {
            // A newer branch has no backup that can be read. One that cannot be may be of it: then an older branch would be
            // restored for the newest.
            for entry in entries.reversed() { if case .damaged(let error) = entry.state { throw error } }
        }
        let onHistory = usable.filter { Self.lies($0, on: history) }
        if let named, !Self.lies(named, on: history) {
            throw RestoreError.notOnHistory(named.id, timeline: history.timeline)
        }
        guard let earliest = named ?? onHistory.first else {
            throw RestoreError.notOnHistory(newest.id, timeline: history.timeline)
        }
        let coverage = try WALCoverage(repository, history, from: earliest.startLSN)
        let reach: TargetReach
        do {
            reach = try TargetReach(request, coverage)
        } catch RestoreError.unknownTarget(let target, let why) {
            // It may lie before the backup that was asked for: then that is what must be told.
            if let named, let first = onHistory.first, first.startLSN < named.startLSN,
                let earlier = try? TargetReach(request, WALCoverage(repository, history, from: first.startLSN))
            {
                throw RestoreError.backupTooNew(named.id, target, consistent: earlier.consistent(named))
            }
            throw RestoreError.unknownTarget(target, why: why)
        }

        let candidates = named.map { [$0] } ?? onHistory
        guard
            let backup = candidates.last(where: { reach.allows($0) }) ?? candidates.first(where: { reach.mayAllow($0) })
        else {
            if let named {
                throw RestoreError.backupTooNew(named.id, request.target, consistent: reach.consistent(named))
            }
            throw RestoreError.beforeFirstBackup(
                request.target, earliest: earliest.id, consistent: reach.consistent(earliest))
        }
        try coverage.requireContiguous(from: backup.startLSN, to: backup.stopLSN, for: "backup \(backup.id)")
        try reach.requireReachable(from: backup, coverage)
        // What is replayed must be this cluster's and whole, whatever the target: the summaries tell, for little.
        try coverage.requireReadable(from: backup.startLSN) { reach.needs($0, after: $1, from: backup) }
        self.backup = backup
        self.history = history
        archiveEnd = try coverage.end(from: backup.startLSN).lsn
    }

    static func lies(_ backup: BackupRecord, on history: TimelineHistory) -> Bool {
        history.contains(backup.timeline, backup.stopLSN)
            && history.entry(backup.timeline)?.token == backup.timelineToken
    }

    private static func history(
        _ repository: Repository, _ wanted: TargetTimeline, _ candidates: [BackupRecord], _ backup: BackupRecord
    ) throws -> TimelineHistory {
        switch wanted {
        case .current: return try read(repository, backup.timeline, backup)
        case .number(let timeline):
            guard try repository.timelines().contains(timeline) else { throw RestoreError.noTimeline(timeline) }
            return try read(repository, timeline, backup)
        case .latest:
            // The newest branch that has any of the backups in its past: a newer backup of an abandoned branch must not
            // lead back to it.
            for timeline in try repository.timelines().reversed() {
                let history = try read(repository, timeline, backup)
                if candidates.contains(where: { lies($0, on: history) }) { return history }
            }
            return try read(repository, backup.timeline, backup)
        }
    }

    /// A timeline's history; the first one has none in the repository.
    private static func read(
        _ repository: Repository, _ timeline: TimelineID, _ backup: BackupRecord
    ) throws -> TimelineHistory {
        if let bytes = try repository.history(timeline) {
            let history = try TimelineHistory(decoding: bytes)
            guard history.timeline == timeline else {
                throw RepositoryError.damaged(
                    TimelineHistory.fileName(timeline), why: "it is the history of timeline \(history.timeline)")
            }
            return history
        }
        if timeline == backup.timeline { return TimelineHistory(first: backup.timelineToken, timeline: timeline) }
        let archive = WALArchive(repository, tokenOfHistory: TimelineHistory.ownToken)
        guard let token = try archive.token(of: timeline) else { throw RestoreError.noTimeline(timeline) }
        return TimelineHistory(first: token, timeline: timeline)
    }
}
