import HoldfastArchive
import HoldfastCore

/// Where everything of one cluster lies below a repository's root:
///
///     <cluster>/cluster.json                                  ClusterRecord: created exclusively, never changed
///     <cluster>/locks/<name>/00000001.json                    LeaseRecord: leases and holds; CutRecord in locks/cut
///     <cluster>/backups/<id>/started-0001.json                BackupAnnouncement; higher numbers are its renewals
///     <cluster>/backups/<id>/base-<timeline>-<startLSN>-0001.tar.zst   ArchiveTag.archiveName
///     <cluster>/backups/<id>/backup_manifest  pages.crc  frames.idx
///     <cluster>/backups/<id>/backup.json                      BackupRecord, or a tombstone; the last object
///     <cluster>/backups/<id>/removed.json                     RemovalRecord
///     <cluster>/wal/<timeline>/<segment>.zst  or .gz, or plain
///     <cluster>/wal/<timeline>/<segment>.summary              SegmentSummary, written before its segment
///     <cluster>/wal/<timeline>.history                        TimelineHistory as the engine writes it; a claim
package struct RepositoryLayout: Sendable, Hashable {
    /// The newest version of the repository's layout and records that this program knows.
    package static let formatVersion = 1

    /// A valid name (`ObjectName`): checked by whoever opens a repository.
    package let cluster: String

    package init(cluster: String) {
        precondition(ObjectName.isValid(cluster))
        self.cluster = cluster
    }

    package var root: ObjectPath { ObjectPath(cluster)! }
    package var clusterRecord: ObjectPath { root / "cluster.json" }
    package var locks: ObjectPath { root / "locks" }
    package func lock(_ name: String) -> ObjectPath { locks / name }
    package var backups: ObjectPath { root / "backups" }
    package func backup(_ id: BackupID) -> ObjectPath { backups / id.description }
    package func backupRecord(_ id: BackupID) -> ObjectPath { backup(id) / "backup.json" }
    package func removalRecord(_ id: BackupID) -> ObjectPath { backup(id) / "removed.json" }
    package func manifest(_ id: BackupID) -> ObjectPath { backup(id) / "backup_manifest" }
    package func pageChecksums(_ id: BackupID) -> ObjectPath { backup(id) / "pages.crc" }
    package func frameIndex(_ id: BackupID) -> ObjectPath { backup(id) / "frames.idx" }
    package var wal: ObjectPath { root / "wal" }
    package func wal(_ timeline: TimelineID) -> ObjectPath { wal / timeline.description }
    package func history(_ timeline: TimelineID) -> ObjectPath { wal / (timeline.description + ".history") }
    package func summary(_ segment: SegmentName) -> ObjectPath {
        wal(segment.timeline) / (segment.description + ".summary")
    }
    package func segment(_ segment: SegmentName, _ codec: Codec) -> ObjectPath {
        wal(segment.timeline) / (segment.description + codec.fileExtension)
    }

    /// `path` as JSON shows it: relative to the cluster's root.
    package func relative(_ path: ObjectPath) -> String {
        path.text.hasPrefix(cluster + "/") ? String(path.text.dropFirst(cluster.utf8.count + 1)) : path.text
    }
}
