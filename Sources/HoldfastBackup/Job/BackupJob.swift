import Glibc
import HoldfastArchive
import HoldfastCore
import HoldfastRepository
import HoldfastWAL
import HoldfastWire

/// Takes a full online base backup of a leader, or of a follower: announce, start, copy, stop, wait for the WAL, commit.
///
/// The order is the crash argument. The announcement fixes the id and holds the WAL before the leader is asked for
/// anything; the archives, the tables and the manifest are durable before the marker; and `backup.json` is created,
/// exclusively, only when every segment from start to stop is in the archive. A taker that dies anywhere before that
/// leaves an unfinished backup, which nothing takes for one and the next run clears up.
package struct BackupJob: Sendable {
    package struct Request: Sendable {
        package var leader: WireServer
        /// Shown in `info`, and in `backup_label`.
        package var label: String
        /// Start with a checkpoint that does not spare the leader's disk.
        package var isFast = true
        package var archive: ArchiveOptions
        /// How long to wait for a segment of the backup to be archived while no other one arrives.
        package var archivePatienceSeconds = 60
        /// The same for a follower's backup, whose last segment its leader completes in its own time.
        package var followerPatienceSeconds = 180
        /// Read pages over the wire even where the leader's directory could be read.
        package var avoidsLocalFiles = false

        package init(leader: WireServer, label: String, archive: ArchiveOptions) {
            self.leader = leader
            self.label = label
            self.archive = archive
        }
    }

    /// What a caller is told on the way. Called from the job's threads.
    package enum Event: Sendable {
        case swept([BackupID])
        /// The id is fixed.
        case announced(BackupID)
        case started(BackupID, start: LSN, bytes: UInt64)
        case copied(BackupID, stop: LSN)
        /// `isLeaders`: the leader has not been asked to complete it.
        case waitingForArchive(SegmentName, isLeaders: Bool)
        /// About to create the marker: whoever keeps a catalog names the object first.
        case committing(BackupID)
    }

    package let repository: Repository
    package let request: Request
    let report: @Sendable (Event) throws -> Void

    package init(
        _ repository: Repository, _ request: Request, report: @escaping @Sendable (Event) throws -> Void = { _ in }
    ) {
        self.repository = repository
        self.request = request
        self.report = report
    }

    /// Takes the backup; when it returns the backup is durable and usable.
    ///
    /// Throws `RepositoryError.leaseTaken` while another job of the cluster runs, `BackupError` for what the leader
    /// or its archive did not allow, and what the stages throw. Whatever was stored before an error is cleared up,
    /// now or by the next job.
    package func run() throws -> BackupRecord {
        guard ObjectName.isValid(request.label) else {
            throw RepositoryError.invalidName(request.label, of: "label")
        }
        let lease = try repository.takeLease(
            LockName.backup, leaseSeconds: LockName.jobSeconds, purpose: "backup \(request.label)")
        let keeper = LeaseKeeper(lease, everySeconds: Double(LockName.jobSeconds) / 4)
        let result = Result { try whileHolding() }
        // A lease that cannot be given back lapses by itself; what the backup came to matters more.
        try? keeper.stop()
        return try result.get()
    }

    private func whileHolding() throws -> BackupRecord {
        let swept = try repository.sweepUnfinishedBackups()
        if !swept.isEmpty { try report(.swept(swept)) }
        let leader = try LeaderConnection(to: request.leader)
        let identity = try leader.identity()
        guard identity.systemIdentifier == repository.systemIdentifier else {
            throw BackupError.otherCluster(
                request.leader.address.description, expected: repository.systemIdentifier,
                found: identity.systemIdentifier)
        }
        guard identity.role == "leader" || identity.role == "follower" else {
            throw BackupError.notCopyable(request.leader.address.description, identity.role)
        }
        guard identity.isArchiving else { throw BackupError.notArchiving(request.leader.address.description) }

        let taking = try repository.announceBackup(.full, label: request.label)
        let keeper = LeaseKeeper(taking.lease, everySeconds: Double(LockName.jobSeconds) / 4)
        do {
            try report(.announced(taking.id))
            let record = try take(taking, leader, identity)
            try? keeper.stop(releasing: false)
            return record
        } catch {
            try? keeper.stop(releasing: false)
            // After a failure of the repository itself this fails too; the next job's sweep does it then.
            try? taking.abandon()
            throw error
        }
    }

    private func take(
        _ taking: BackupTaking, _ leader: sending LeaderConnection, _ identity: LeaderConnection.Identity
    ) throws -> BackupRecord {
        let start = try leader.startBackup(label: request.label, isFast: request.isFast)
        try taking.setStart(timeline: start.timeline, lsn: start.startLSN)
        let files = try leader.files()
        let members = try files.map { file in
            PageFileMember(
                index: try pageFileIndex(file.path), bytes: file.bytes,
                modified: start.startedAt.microseconds / 1_000_000)
        }
        let total = files.reduce(0) { $0 + $1.bytes }
        try report(.started(taking.id, start: start.startLSN, bytes: total))

        let tag = ArchiveTag(
            backupID: taking.id.description, systemIdentifier: start.systemIdentifier, timeline: start.timeline,
            startLSN: start.startLSN)
        let codec = request.archive.compression.codec
        let wire = LeaderPageSource(leader)
        let source = localSource(identity, members, settled: wire) ?? wire
        let sink = RepositorySink(taking, tag: tag, codec: codec)
        let stop: LeaderConnection.Stop
        let result: ArchiveResult
        do {
            let writer = try ArchiveWriter(
                tag: tag, options: request.archive, pageFiles: members, source: source, sink: sink)
            try writer.writePages()
            stop = try wire.withLeader { try $0.stopBackup() }
            try report(.copied(taking.id, stop: stop.stopLSN))
            result = try writer.finish([
                SmallMember(
                    path: "backup_label", bytes: stop.label, modified: stop.stoppedAt.microseconds / 1_000_000)
            ])
        } catch {
            sink.abandon()
            throw error
        }
        _ = try? wire.withLeader { $0.close() }

        let manifest = BackupManifest(
            files: result.files,
            walRanges: [.init(timeline: start.timeline, start: start.startLSN, end: stop.stopLSN)])
        let storedManifest = try taking.store(BackupManifest.objectName, try manifest.encoded())
        let storedChecksums = try taking.store(PageChecksums.objectName, result.checksums.encoded())
        let storedIndex = try taking.store(FrameIndex.objectName, result.index.encoded())
        let range = BackupRecord.WALRange(
            first: SegmentName(timeline: start.timeline, segment: SegmentNumber(containing: start.startLSN)),
            last: stop.lastSegment)
        try waitForArchive(range, start, stop, taking)

        let record = BackupRecord(
            holdfastVersion: HoldfastVersion.text, id: taking.id, parent: nil, label: request.label,
            cluster: repository.cluster, systemIdentifier: start.systemIdentifier, timeline: start.timeline,
            timelineToken: start.token, startLSN: start.startLSN, stopLSN: stop.stopLSN, startedAt: start.startedAt,
            finishedAt: stop.stoppedAt, pages: total / UInt64(Page.bytes),
            bytes: total + UInt64(stop.label.count), codec: codec.name,
            archives: try result.archives.map { try storedArchive($0, tag, codec, taking) }, manifest: storedManifest,
            frameIndex: storedIndex, pageChecksums: storedChecksums, wal: range)
        try report(.committing(taking.id))
        try taking.commit(record)
        return record
    }

    private func storedArchive(
        _ archive: FinishedArchive, _ tag: ArchiveTag, _ codec: Codec, _ taking: BackupTaking
    ) throws -> BackupRecord.StoredFile {
        let path = taking.path(tag.archiveName(archive.number, codec: codec))
        guard let digest = SHA256Digest(archive.sha256) else {
            throw RepositoryError.damaged(path.text, why: "its digest has \(archive.sha256.count) bytes")
        }
        return .init(path: repository.layout.relative(path), bytes: archive.bytes, sha256: digest)
    }

    /// `pages/00000003` → 3. A leader that names anything else is not believed.
    private func pageFileIndex(_ path: String) throws -> Int {
        guard let index = Int(path.dropFirst("pages/".count)), index >= 0, PageNumber.filePath(index) == path else {
            throw LeaderError.unexpectedReply(
                request.leader.address.description, what: "BACKUP FILES", why: "\"\(printable(path))\" is no page file")
        }
        return index
    }

    /// The leader's own files, when it is on this host and this user may read them.
    private func localSource(
        _ identity: LeaderConnection.Identity, _ files: [PageFileMember], settled: LeaderPageSource
    ) -> (any PageSource)? {
        guard !request.avoidsLocalFiles, case .unix = request.leader.address, isSeenHere(identity) else { return nil }
        // What cannot be opened is read over the wire instead: slower, and the same bytes.
        return try? FilePageSource(root: identity.data, files: files) { page, buffer in
            _ = try settled.readSettled(page, into: buffer)
        }
    }
}

extension BackupJob {
    /// The leader's directory is the one that this process finds under its path: in another mount namespace the
    /// same path may be an old copy, whose pages would all pass their checksums.
    private func isSeenHere(_ identity: LeaderConnection.Identity) -> Bool {
        var status = stat()
        guard identity.inode != 0, stat(identity.data, &status) == 0 else { return false }
        return Int64(truncatingIfNeeded: status.st_dev) == identity.device
            && Int64(truncatingIfNeeded: status.st_ino) == identity.inode
    }
}
