import HoldfastCore

/// Reads the repository for the catalog: what is there *now*. Implemented where catalog and repository meet.
/// Every call may block, and is made on the thread that delivers, while the cluster's lock in the catalog is held.
package protocol CatalogSource {
    /// The names of all clusters in the repository.
    func clusterNames() throws -> [String]
    /// `nil` when the repository has no such cluster.
    func cluster(_ name: String) throws -> ClusterRow?
    /// The ids of all backups, tombstones included.
    func backupIDs(cluster: String) throws -> [String]
    /// `nil` when nothing of that id is in the repository.
    func backup(_ id: String, cluster: String) throws -> BackupRow?
    /// Every timeline that has WAL or a history file.
    func timelines(cluster: String) throws -> [TimelineID]
    /// `nil` when the repository has neither WAL nor history of it.
    func timeline(_ timeline: TimelineID, cluster: String) throws -> TimelineRow?
}

/// Microseconds since 1970, UTC.
package struct CatalogTime: Hashable, Comparable, Sendable, Codable {
    package let microseconds: Int64
    package init(microseconds: Int64) { self.microseconds = microseconds }
    package static func < (a: Self, b: Self) -> Bool { a.microseconds < b.microseconds }
    package init(from decoder: any Decoder) throws { microseconds = try Int64(from: decoder) }
    package func encode(to encoder: any Encoder) throws { try microseconds.encode(to: encoder) }
}

/// A cluster as its `cluster.json` tells.
package struct ClusterRow: Sendable, Equatable {
    package var systemIdentifier: SystemIdentifier
    package var formatVersion: Int
    package init(systemIdentifier: SystemIdentifier, formatVersion: Int = 1) {
        self.systemIdentifier = systemIdentifier
        self.formatVersion = formatVersion
    }
}

/// A backup as its objects in the repository tell.
package struct BackupRow: Sendable, Equatable {
    package enum State: String, Sendable { case started, complete, abandoned, removed }
    package struct Archive: Sendable, Equatable {
        /// Relative to the cluster's folder.
        package var path: String
        package var bytes: Int64
        /// 64 lower-case hex digits.
        package var sha256: String
        package init(path: String, bytes: Int64, sha256: String) {
            self.path = path
            self.bytes = bytes
            self.sha256 = sha256
        }
    }

    package var state: State
    /// `full` or `incr`.
    package var type: String
    package var parent: String?
    package var timeline: TimelineID?
    package var startLSN: LSN?
    package var stopLSN: LSN?
    package var walFirst: SegmentName?
    package var walLast: SegmentName?
    package var startedAt: CatalogTime?
    package var finishedAt: CatalogTime?
    package var pages: Int64?
    package var bytes: Int64?
    package var archiveBytes: Int64?
    package var archives: [Archive] = []

    package init(state: State, type: String, parent: String? = nil) {
        self.state = state
        self.type = type
        self.parent = parent
    }
}

/// A timeline: its history, and the WAL of it that is archived.
package struct TimelineRow: Sendable, Equatable {
    package var parent: TimelineID?
    package var switchLSN: LSN?
    /// In any order, one for each segment or already merged.
    package var wal: [WALRange]
    package init(parent: TimelineID? = nil, switchLSN: LSN? = nil, wal: [WALRange]) {
        self.parent = parent
        self.switchLSN = switchLSN
        self.wal = wal
    }
}

/// Archived WAL from `start` up to and not including `end`.
package struct WALRange: Sendable, Equatable {
    package var start: LSN
    package var end: LSN
    package var lastCommitAt: CatalogTime?

    package init(start: LSN, end: LSN, lastCommitAt: CatalogTime? = nil) {
        self.start = start
        self.end = end
        self.lastCommitAt = lastCommitAt
    }

    package init(segment: SegmentNumber, lastCommitAt: CatalogTime? = nil) {
        self.init(start: segment.start, end: segment.end, lastCommitAt: lastCommitAt)
    }

    /// In order, with what touches or overlaps made one and what is empty left out.
    package static func merged(_ ranges: [WALRange]) -> [WALRange] {
        var out: [WALRange] = []
        for range in ranges.filter({ $0.start < $0.end }).sorted(by: { $0.start < $1.start }) {
            if let last = out.last, range.start <= last.end {
                out[out.count - 1].end = max(last.end, range.end)
                out[out.count - 1].lastCommitAt = [last.lastCommitAt, range.lastCommitAt].compactMap { $0 }.max()
            } else {
                out.append(range)
            }
        }
        return out
    }
}
