import HoldfastCatalog
import HoldfastCore
import HoldfastRepository
import HoldfastWAL

/// Shows the catalog what is in the repository now.
struct RepositoryCatalogSource: CatalogSource {
    let store: any ObjectStore

    /// `nil` when others are in the repository and this one is not.
    /// - Throws: `StoreError` (`away`) when nothing is in it. Facts name clusters that have been there: a mount point
    ///   without its file system looks just so, and must not be told to the catalog as "all of it is gone".
    private func repository(_ cluster: String) throws -> Repository? {
        do {
            return try Repository.open(store, cluster: cluster)
        } catch RepositoryError.noCluster {
            guard try clusterNames().isEmpty else { return nil }
            throw StoreError("be used", store.place, .away)
        }
    }

    func clusterNames() throws -> [String] { try Repository.clusters(in: store) }

    func cluster(_ name: String) throws -> ClusterRow? {
        try repository(name).map { ClusterRow(systemIdentifier: $0.systemIdentifier) }
    }

    func backupIDs(cluster: String) throws -> [String] {
        try repository(cluster)?.backupIDs().map(\.description) ?? []
    }

    func backup(_ id: String, cluster: String) throws -> BackupRow? {
        guard let repository = try repository(cluster), let id = BackupID(id), let entry = try repository.backup(id)
        else { return nil }
        switch entry.state {
        case .committed(let record): return row(record, .complete)
        case .removed(let record, _): return row(record, .removed)
        case .tombstone: return BackupRow(state: .abandoned, type: id.kind.rawValue)
        case .unfinished(let announcement, _):
            var row = BackupRow(
                state: .started, type: id.kind.rawValue, parent: announcement.parent?.description)
            row.timeline = announcement.timeline
            row.startLSN = announcement.startLSN
            row.startedAt = CatalogTime(microseconds: announcement.startedAt.microseconds)
            return row
        case .damaged(let error): throw error
        }
    }

    private func row(_ record: BackupRecord, _ state: BackupRow.State) -> BackupRow {
        var row = BackupRow(state: state, type: record.type.rawValue, parent: record.parent?.description)
        row.timeline = record.timeline
        row.startLSN = record.startLSN
        row.stopLSN = record.stopLSN
        row.walFirst = record.wal.first
        row.walLast = record.wal.last
        row.startedAt = CatalogTime(microseconds: record.startedAt.microseconds)
        row.finishedAt = CatalogTime(microseconds: record.finishedAt.microseconds)
        row.pages = Int64(clamping: record.pages)
        row.bytes = Int64(clamping: record.bytes)
        row.archiveBytes = Int64(clamping: record.archiveBytes)
        row.archives = record.archives.map {
            .init(path: $0.path, bytes: Int64(clamping: $0.bytes), sha256: $0.sha256.description)
        }
        return row
    }

    func timelines(cluster: String) throws -> [TimelineID] { try repository(cluster)?.timelines() ?? [] }

    /// The time of the last commit in a range; idle segments at its end have none. `nil` when none is near.
    private func lastCommit(
        _ archive: WALArchive, _ timeline: TimelineID, _ range: ClosedRange<SegmentNumber>
    ) throws -> Timestamp? {
        var number = range.upperBound
        for _ in 0..<Self.idleSegments {
            if let commits = try archive.summary(SegmentName(timeline: timeline, segment: number))?.commits {
                return commits.lastTime
            }
            guard number > range.lowerBound else { return nil }
            number = SegmentNumber(number.rawValue - 1)
        }
        return nil
    }

    private static let idleSegments = 1000

    func timeline(_ timeline: TimelineID, cluster: String) throws -> TimelineRow? {
        guard let repository = try repository(cluster), try repository.timelines().contains(timeline) else {
            return nil
        }
        let archive = WALArchive(repository)
        let inventory = try archive.inventory(of: timeline)
        var row = TimelineRow(wal: [])
        for range in inventory.ranges {
            let time = try lastCommit(archive, timeline, range)
            row.wal.append(
                .init(
                    start: range.lowerBound.start, end: range.upperBound.end,
                    lastCommitAt: time.map { CatalogTime(microseconds: $0.microseconds) }))
        }
        if let bytes = try repository.history(timeline) {
            let history = try TimelineHistory(decoding: bytes)
            row.switchLSN = history.current.switchLSN
            row.parent = history.entries.dropLast().last?.timeline
        }
        return row
    }
}
