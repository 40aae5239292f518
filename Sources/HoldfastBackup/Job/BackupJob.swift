import Glibc
import HoldfastArchive
import HoldfastCore
import HoldfastRepository
import HoldfastWAL
import HoldfastWire

/// Takes a full online base backup: announce, start, copy, stop, wait for the WAL, commit.
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
        case waitingForArchive(SegmentName)
        /// About to create the marker: whoever keeps a catalog names the object first.
        case committing(BackupID)
    }

    package let repository: Repository
    package let request: Request
    private let report: @Sendable (Event) throws -> Void

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
        guard identity.role == "leader" else {
            throw BackupError.notLeader(request.leader.address.description, identity.role)
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

    /// Waits until every segment of the range is in the archive, each of the timeline that was backed up and the last one
    /// with the record that ended it. The leader has switched that one out.
    private func waitForArchive(
        _ range: BackupRecord.WALRange, _ start: LeaderConnection.Start, _ stop: LeaderConnection.Stop,
        _ taking: BackupTaking
    ) throws {
        let archive = WALArchive(repository, tokenOfHistory: TimelineHistory.ownToken)
        var next = range.first
        var waited = 0.0
        var hasReported = false
        while true {
            if let summary = try archived(next, in: archive) {
                // A name alone proves nothing: after a promotion without the repository another node's segments may bear it.
                guard summary.token == start.token else {
                    throw BackupError.otherTimeline(next, expected: start.token, found: summary.token)
                }
                if next.segment == range.last.segment { return try requireEnd(in: next, archive, start, stop) }
                next = SegmentName(timeline: next.timeline, segment: next.segment.next)
                waited = 0
                continue
            }
            if request.archive.cancellation?.isCancelled == true { throw ArchiveError.cancelled }
            try taking.lease.requireHeld()
            guard waited < Double(request.archivePatienceSeconds) else {
                throw BackupError.notArchived(next, seconds: request.archivePatienceSeconds)
            }
            if waited > 1, !hasReported {
                try report(.waitingForArchive(next))
                hasReported = true
            }
            sleepSeconds(0.02)
            waited += 0.02
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

    /// The archived last segment holds the very record that ended this backup. It does not where the leader's directory was
    /// put back to an earlier state: then the archive holds another life of the same timeline under the same names.
    private func requireEnd(
        in name: SegmentName, _ archive: WALArchive, _ start: LeaderConnection.Start, _ stop: LeaderConnection.Stop
    ) throws {
        let reader = LogReader(
            source: MemorySegmentSource([name: try archive.fetchExisting(name)]), system: start.systemIdentifier,
            history: TimelineHistory(first: start.token, timeline: start.timeline), from: name.segment.start, chain: nil
        )
        while let record = try reader.next(), record.end <= stop.stopLSN {
            guard record.end == stop.stopLSN, record.kind == .backupEnd,
                case .backupEnd(start.startLSN, _, _, stop.stoppedAt.microseconds) = try RecordBody(decoding: record)
            else { continue }
            return
        }
        throw BackupError.endMissing(name, stop: stop.stopLSN)
    }

    /// The summary of a segment when both are there; the segment is the later one.
    private func archived(_ name: SegmentName, in archive: WALArchive) throws -> SegmentSummary? {
        try archive.holds(name) ? archive.summary(name) : nil
    }
}

/// Why a backup cannot be taken.
package enum BackupError: DiagnosableError {
    case otherCluster(String, expected: SystemIdentifier, found: SystemIdentifier)
    case notLeader(String, String)
    case notArchiving(String)
    case notArchived(SegmentName, seconds: Int)
    /// The archive holds a segment of another node's timeline under a name that the backup needs.
    case otherTimeline(SegmentName, expected: TimelineToken, found: TimelineToken)
    /// The archived last segment does not hold the record that ended the backup.
    case endMissing(SegmentName, stop: LSN)

    package var diagnosis: Diagnosis {
        switch self {
        case .otherCluster(let address, let expected, let found):
            Diagnosis(
                "the leader belongs to another cluster", at: address,
                why: "its system identifier is \(found), the repository's is \(expected)",
                next: "correct leader or cluster in the configuration", status: .dataError)
        case .notLeader(let address, let role):
            Diagnosis(
                "the server is not a leader", at: address, why: "its role is \(printable(role))",
                next: "promote it, or name the leader's address", status: .unavailable)
        case .notArchiving(let address):
            Diagnosis(
                "the leader does not archive its WAL", at: address,
                why: "a backup is whole only with the WAL written while it was copied",
                next: "start it with a repository in its configuration", status: .configuration)
        case .notArchived(let segment, let seconds):
            Diagnosis(
                "the backup's WAL does not arrive in the archive", at: segment.description,
                why: "nothing arrived for \(seconds) s", next: "check that holdfast agent runs; see holdfast status",
                status: .unavailable)
        case .otherTimeline(let segment, let expected, let found):
            Diagnosis(
                "the archive holds another node's WAL", at: segment.description,
                why: "its timeline's token is \(found), the leader's \(expected): two nodes were promoted apart",
                next: "stop the one whose data is not wanted; restore or promote the other onto a timeline of its own",
                status: .dataError)
        case .endMissing(let segment, let stop):
            Diagnosis(
                "the archived WAL is not the leader's", at: segment.description,
                why: "the backup's end at \(stop) is not in it, as when the leader's directory was put back",
                next: "if it was, restore the leader from the archive, which opens a new timeline",
                status: .dataError)
        }
    }
}
