import HoldfastArchive
import HoldfastCore
import HoldfastRepository
import HoldfastWAL

extension BackupJob {
    /// Waits until every segment of the range is in the archive, each of the timeline that was backed up and the last one
    /// with the place where it ended. A leader has switched that one out. Nobody asks a follower's leader to: it does so when
    /// the segment is full, or at its `archive.timeout`, if something was logged that a backup may end at.
    func waitForArchive(
        _ range: BackupRecord.WALRange, _ start: LeaderConnection.Start, _ stop: LeaderConnection.Stop,
        _ taking: BackupTaking
    ) throws {
        let archive = WALArchive(repository, tokenOfHistory: TimelineHistory.ownToken)
        let isFollowers = stop.stopCRC != nil
        let patience = isFollowers ? request.followerPatienceSeconds : request.archivePatienceSeconds
        var next = range.first
        var turns = 0
        var hasReported = false
        while true {
            if let summary = try archived(next, in: archive) {
                // A name alone proves nothing: after a promotion without the repository another node's segments may bear it.
                guard summary.token == start.token else {
                    throw BackupError.otherTimeline(next, expected: start.token, found: summary.token)
                }
                if next.segment == range.last.segment { return try requireEnd(in: next, archive, start, stop) }
                next = SegmentName(timeline: next.timeline, segment: next.segment.next)
                turns = 0
                continue
            }
            if request.archive.cancellation?.isCancelled == true { throw ArchiveError.cancelled }
            try taking.lease.requireHeld()
            guard turns < patience * Self.turnsPerSecond else {
                throw BackupError.notArchived(next, seconds: patience, isFollowers: isFollowers)
            }
            if turns > 0, turns.isMultiple(of: Self.turnsPerSecond) {
                if isFollowers { try requireComing(next, start) }
                if !hasReported { try report(.waitingForArchive(next, isLeaders: isFollowers)) }
                hasReported = true
            }
            sleepSeconds(1 / Double(Self.turnsPerSecond))
            turns += 1
        }
    }

    private static var turnsPerSecond: Int { 50 }

    /// The summary of a segment when both are there; the segment is the later one.
    private func archived(_ name: SegmentName, in archive: WALArchive) throws -> SegmentSummary? {
        try archive.holds(name) ? archive.summary(name) : nil
    }

    /// Whoever was promoted inside a segment archives it whole under the new timeline's name alone.
    private func requireComing(_ name: SegmentName, _ start: LeaderConnection.Start) throws {
        for timeline in try repository.claimedTimelines() where timeline > start.timeline {
            guard let bytes = try repository.history(timeline) else { continue }
            let history = try TimelineHistory(decoding: bytes)
            guard history.entry(start.timeline)?.token == start.token, let end = history.end(of: start.timeline),
                end < name.segment.end
            else { continue }
            throw BackupError.timelineLeft(name, by: timeline, at: end)
        }
    }

    /// The archived last segment holds the very place that ended this backup: a leader's record of it; of a follower's the
    /// record that ends there, by its CRC and so all before it. It does not where the leader's directory was put back to an
    /// earlier state: then the archive holds another life of the same timeline under the same names.
    private func requireEnd(
        in name: SegmentName, _ archive: WALArchive, _ start: LeaderConnection.Start, _ stop: LeaderConnection.Stop
    ) throws {
        // The first segment of a timeline begins with its parent's bytes.
        let history = try repository.history(start.timeline).map { try TimelineHistory(decoding: $0) }
        let reader = LogReader(
            source: MemorySegmentSource([name: try archive.fetchExisting(name)]), system: start.systemIdentifier,
            history: history ?? TimelineHistory(first: start.token, timeline: start.timeline),
            from: name.segment.start, chain: nil)
        while let record = try reader.next(), record.end <= stop.stopLSN {
            guard record.end == stop.stopLSN else { continue }
            if let crc = stop.stopCRC {
                if record.crc == crc { return }
            } else if record.kind == .backupEnd,
                case .backupEnd(start.startLSN, _, _, stop.stoppedAt.microseconds) = try RecordBody(decoding: record)
            {
                return
            }
        }
        throw BackupError.endMissing(name, stop: stop.stopLSN)
    }
}
