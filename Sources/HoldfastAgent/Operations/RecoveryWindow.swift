import HoldfastBackup
import HoldfastCore
import HoldfastRepository
import HoldfastWAL

/// The stretch of time to which a cluster can be restored without naming a timeline: from where its oldest usable
/// backup is consistent to the last commit that is archived without a gap.
package struct RecoveryWindow: Sendable, Equatable {
    package var timeline: TimelineID
    package var earliest: Timestamp
    package var earliestLSN: LSN
    package var latest: Timestamp
    package var latestLSN: LSN

    /// `nil` when there is no usable backup.
    init?(_ repository: Repository, _ archive: WALArchive, _ inventories: [TimelineWAL], _ usable: [BackupRecord])
        throws
    {
        guard let history = try Self.history(repository, usable),
            let newest = usable.last(where: { history.contains($0.timeline, $0.stopLSN) })
        else { return nil }
        let inventories = Dictionary(uniqueKeysWithValues: inventories.map { ($0.timeline, $0) })

        /// A timeline's first segment holds its parent's bytes below the switch: the newest that has it counts.
        func present(_ number: SegmentNumber) -> SegmentName? {
            history.entries.reversed().first { entry in
                entry.switchLSN < number.end && (history.end(of: entry.timeline) ?? .max) > number.start
                    && inventories[entry.timeline]?.contains(number) == true
            }.map { SegmentName(timeline: $0.timeline, segment: number) }
        }
        let needed = SegmentNumber(containing: newest.startLSN)
        let oldest = usable.first { backup in
            guard history.contains(backup.timeline, backup.stopLSN) else { return false }
            var number = SegmentNumber(containing: backup.startLSN)
            while number < needed {
                guard present(number) != nil else { return false }
                number = number.next
            }
            return true
        }
        let first = oldest ?? newest
        timeline = history.timeline
        earliest = first.finishedAt
        earliestLSN = first.stopLSN
        latest = newest.finishedAt
        latestLSN = newest.stopLSN

        var names: [SegmentName] = []
        var number = needed
        while let name = present(number) {
            names.append(name)
            number = number.next
        }
        for name in names.reversed() {
            // The window ends before a last segment whose summary is gone or damaged. One in the middle is not looked at:
            // this is asked after every segment, and a restore reads them all before it begins.
            guard let summary = try Self.readable(name, archive) else { continue }
            if let end = summary.records?.end, end > latestLSN {
                latestLSN = Swift.min(end, history.end(of: name.timeline) ?? .max)
            }
            if let commits = summary.commits {
                latest = Swift.max(latest, commits.lastTime)
                break
            }
        }
    }

    private static func readable(_ name: SegmentName, _ archive: WALArchive) throws -> SegmentSummary? {
        do { return try archive.summary(name) } catch is RepositoryError { return nil }
    }

    /// The newest branch that has any of the backups in its past: what a restore follows without being told.
    private static func history(_ repository: Repository, _ backups: [BackupRecord]) throws -> TimelineHistory? {
        guard let newest = backups.last else { return nil }
        for timeline in try repository.timelines().reversed() {
            guard let bytes = try repository.history(timeline) else { continue }
            let history = try TimelineHistory(decoding: bytes)
            if backups.contains(where: { history.contains($0.timeline, $0.stopLSN) }) { return history }
        }
        return TimelineHistory(first: newest.timelineToken, timeline: newest.timeline)
    }
}
