import HoldfastCore

/// `backup.json`: the commit marker of a backup and all that `info` says about it. Small, whatever the backup's size.
/// With `tombstone` it says instead that the backup was never completed and its objects were given up.
package struct BackupRecord: RepositoryRecord {
    package var formatVersion = RepositoryLayout.formatVersion
    package var holdfastVersion: String
    package var id: BackupID
    package var type: BackupID.Kind
    package var parent: BackupID?
    package var label: String
    package var cluster: String
    package var systemIdentifier: SystemIdentifier
    /// Of start and stop: a backup does not cross a promotion.
    package var timeline: TimelineID
    package var timelineToken: TimelineToken
    package var startLSN: LSN
    package var stopLSN: LSN
    package var startedAt: Timestamp
    package var finishedAt: Timestamp
    /// Pages in the backup.
    package var pages: UInt64
    /// Bytes of all its files before compression.
    package var bytes: UInt64
    /// Bytes of its archives as they are stored.
    package var archiveBytes: UInt64
    package var codec: String
    package var archives: [StoredFile]
    /// `backup_manifest`, `frames.idx`, `pages.crc`.
    package var manifest: StoredFile
    package var frameIndex: StoredFile
    package var pageChecksums: StoredFile
    /// The segments needed to make it consistent.
    package var wal: WALRange
    /// SHA-256 over this record's bytes as they are without this member: `sealed` makes it, `opened` checks it.
    package private(set) var checksum: SHA256Digest?

    /// An object of the backup: its path relative to the cluster's root, its bytes as stored, and their SHA-256.
    package struct StoredFile: Codable, Sendable, Equatable {
        package var path: String
        package var bytes: UInt64
        /// 64 lower-case hex digits.
        package var sha256: SHA256Digest

        package init(path: String, bytes: UInt64, sha256: SHA256Digest) {
            self.path = path
            self.bytes = bytes
            self.sha256 = sha256
        }
    }

    /// First and last segment, both needed.
    package struct WALRange: Codable, Sendable, Equatable {
        package var first: SegmentName
        package var last: SegmentName

        package init(first: SegmentName, last: SegmentName) {
            self.first = first
            self.last = last
        }
    }

    package init(
        holdfastVersion: String, id: BackupID, parent: BackupID?, label: String, cluster: String,
        systemIdentifier: SystemIdentifier, timeline: TimelineID, timelineToken: TimelineToken, startLSN: LSN,
        stopLSN: LSN, startedAt: Timestamp, finishedAt: Timestamp, pages: UInt64, bytes: UInt64, codec: String,
        archives: [StoredFile], manifest: StoredFile, frameIndex: StoredFile, pageChecksums: StoredFile, wal: WALRange
    ) {
        self.holdfastVersion = holdfastVersion
        self.id = id
        type = id.kind
        self.parent = parent
        self.label = label
        self.cluster = cluster
        self.systemIdentifier = systemIdentifier
        self.timeline = timeline
        self.timelineToken = timelineToken
        self.startLSN = startLSN
        self.stopLSN = stopLSN
        self.startedAt = startedAt
        self.finishedAt = finishedAt
        self.pages = pages
        self.bytes = bytes
        archiveBytes = archives.reduce(0) { $0 + $1.bytes }
        self.codec = codec
        self.archives = archives
        self.manifest = manifest
        self.frameIndex = frameIndex
        self.pageChecksums = pageChecksums
        self.wal = wal
    }

    enum CodingKeys: String, CodingKey {
        case formatVersion = "format_version"
        case holdfastVersion = "holdfast_version"
        case systemIdentifier = "system_identifier"
        case timelineToken = "timeline_token"
        case startLSN = "start_lsn"
        case stopLSN = "stop_lsn"
        case startedAt = "started_at"
        case finishedAt = "finished_at"
        case archiveBytes = "archive_bytes"
        case frameIndex = "frame_index"
        case pageChecksums = "page_checksums"
        case id, type, parent, label, cluster, timeline, pages, bytes, codec, archives, manifest, wal, checksum
    }

    /// The record with the checksum over all it says.
    package func sealed() throws -> BackupRecord {
        var sealed = self
        sealed.checksum = nil
        sealed.checksum = SHA256Digest(of: try RecordCoding.encode(sealed))
        return sealed
    }

    /// What was sealed, if it still says the same; throws `damaged` otherwise.
    package func opened(at object: String) throws -> BackupRecord {
        guard let checksum, try sealed().checksum == checksum else {
            throw RepositoryError.damaged(object, why: "its checksum does not match what it says")
        }
        var opened = self
        opened.checksum = nil
        return opened
    }

    /// What is wrong with a record that was found as the marker of `id`; `nil` when it is consistent in itself.
    package func fault(expected id: BackupID, in layout: RepositoryLayout) -> String? {
        let directory = layout.relative(layout.backup(id)) + "/"
        if self.id != id { return "it is the record of \(self.id)" }
        if type != id.kind { return "its type is not that of its id" }
        if cluster != layout.cluster { return "it belongs to cluster \"\(printable(cluster))\"" }
        if startLSN >= stopLSN { return "its start \(startLSN) is not before its stop \(stopLSN)" }
        if archives.isEmpty { return "it lists no archive" }
        if (parent == nil) != (type == .full) { return "a full backup has no parent, an incremental one has" }
        if wal.first.segment > wal.last.segment { return "its WAL ends before it begins" }
        for file in archives + [manifest, frameIndex, pageChecksums] {
            guard file.path.hasPrefix(directory), let path = ObjectPath(layout.cluster + "/" + file.path),
                path.parent == layout.backup(id)
            else { return "\"\(printable(file.path))\" does not lie in its directory" }
        }
        return nil
    }
}

/// `backup.json` of a backup that was never completed: created by whoever clears it up, kept for ever.
package struct TombstoneRecord: RepositoryRecord {
    package var formatVersion = RepositoryLayout.formatVersion
    package var id: BackupID
    package var tombstone: Bool
    package var sweptAt: Timestamp
    package var sweptBy: String

    package init(id: BackupID, sweptAt: Timestamp, sweptBy: String) {
        self.id = id
        tombstone = true
        self.sweptAt = sweptAt
        self.sweptBy = sweptBy
    }

    enum CodingKeys: String, CodingKey {
        case formatVersion = "format_version"
        case sweptAt = "swept_at"
        case sweptBy = "swept_by"
        case id, tombstone
    }
}

/// `removed.json`: a committed backup is given up. New jobs refuse it.
package struct RemovalRecord: RepositoryRecord {
    package var formatVersion = RepositoryLayout.formatVersion
    package var id: BackupID
    package var removedAt: Timestamp
    package var reason: String

    package init(id: BackupID, removedAt: Timestamp, reason: String) {
        self.id = id
        self.removedAt = removedAt
        self.reason = reason
    }

    enum CodingKeys: String, CodingKey {
        case formatVersion = "format_version"
        case removedAt = "removed_at"
        case id, reason
    }
}

/// `started-<number>.json`: who takes a backup. 0001 fixes the id; 0002 and on carry the start and renew the lease.
package struct BackupAnnouncement: RepositoryRecord {
    package var formatVersion = RepositoryLayout.formatVersion
    package var id: BackupID
    package var parent: BackupID?
    package var label: String
    package var cluster: String
    package var systemIdentifier: SystemIdentifier
    package var holder: Holder
    package var leaseSeconds: Int
    package var released: Bool
    package var startedAt: Timestamp
    package var timeline: TimelineID?
    package var startLSN: LSN?

    package init(
        id: BackupID, parent: BackupID?, label: String, cluster: String, systemIdentifier: SystemIdentifier,
        holder: Holder, leaseSeconds: Int, startedAt: Timestamp
    ) {
        self.id = id
        self.parent = parent
        self.label = label
        self.cluster = cluster
        self.systemIdentifier = systemIdentifier
        self.holder = holder
        self.leaseSeconds = leaseSeconds
        released = false
        self.startedAt = startedAt
    }

    enum CodingKeys: String, CodingKey {
        case formatVersion = "format_version"
        case systemIdentifier = "system_identifier"
        case leaseSeconds = "lease_seconds"
        case startedAt = "started_at"
        case startLSN = "start_lsn"
        case id, parent, label, cluster, holder, released, timeline
    }
}
