import HoldfastCore
import Synchronization

/// A backup that this process takes: announced in the repository, its objects written one by one, committed by
/// `backup.json` as the last. Until then nothing takes it for a backup, and when it lapses another clears it up.
package final class BackupTaking: Sendable {
    package let id: BackupID
    package let startedAt: Timestamp
    /// The backup's own lease; a `LeaseKeeper` renews it.
    package var lease: Lease { shared.withLock { $0.lease! } }  // Set before anybody has the object.

    private let repository: Repository
    private struct Shared {
        var announcement: BackupAnnouncement
        var lease: Lease?
    }
    /// Guards what the next renewal says.
    private let shared: Mutex<Shared>

    private init(_ repository: Repository, _ announcement: BackupAnnouncement) {
        self.repository = repository
        id = announcement.id
        startedAt = announcement.startedAt
        shared = Mutex(Shared(announcement: announcement))
    }

    /// Announces a new backup: fixes its id, which comes after every one there is, even when this machine's clock
    /// stands before the newest, and which is never used again. `label` must be a valid name.
    static func announce(
        _ repository: Repository, kind: BackupID.Kind, label: String, parent: BackupID?, leaseSeconds: Int
    ) throws -> BackupTaking {
        guard ObjectName.isValid(label) else { throw RepositoryError.invalidName(label, of: "label") }
        let environment = repository.environment
        var time = environment.wallClock()
        for _ in 0..<1000 {
            if let newest = try repository.backupIDs().last { time = max(time, newest.time.advanced(bySeconds: 1)) }
            let id = BackupID(time: time, kind: kind)
            let announcement = BackupAnnouncement(
                id: id, parent: parent, label: label, cluster: repository.cluster,
                systemIdentifier: repository.systemIdentifier, holder: environment.holder,
                leaseSeconds: leaseSeconds, startedAt: environment.wallClock())
            let objects = repository.announcements(of: id)
            let before = environment.boottimeNanoseconds()
            switch try repository.store.create(objects.path(1), try RecordCoding.encode(announcement)) {
            case .created: break
            case .equal, .different:
                // Another taker in the same second: the next one is free.
                time = id.time.advanced(bySeconds: 1)
                continue
            }
            let taking = BackupTaking(repository, announcement)
            let lease = Lease.adopt(
                "backup \(id)", leaseSeconds: leaseSeconds, store: repository.store, objects: objects,
                environment: environment, removableFrom: 2, number: 1, madeAfter: before
            ) { [weak taking] released in
                guard let taking else { throw RepositoryError.leaseLost("backup \(id)") }
                var next = taking.shared.withLock { $0.announcement }
                next.released = released
                return try RecordCoding.encode(next)
            }
            taking.shared.withLock { $0.lease = lease }
            if let parent { _ = try repository.usableBackup(parent) }
            return taking
        }
        throw RepositoryError.alreadyThere(repository.layout.relative(repository.layout.backups))
    }

    /// Announces where the backup starts, which holds the WAL from there on; then looks whether it is still kept.
    package func setStart(timeline: TimelineID, lsn: LSN) throws {
        shared.withLock {
            $0.announcement.timeline = timeline
            $0.announcement.startLSN = lsn
        }
        try lease.renew()
        let cut = try repository.cut()
        guard lsn >= cut else { throw RepositoryError.belowCut(lsn, cut: cut) }
    }

    /// The path of one of its objects. `name` is a plain name such as `frames.idx`.
    package func path(_ name: String) -> ObjectPath { repository.layout.backup(id) / name }

    /// Begins an object of the backup.
    package func put(_ name: String) throws -> any ObjectWriter {
        try lease.requireHeld()
        return try repository.store.put(path(name))
    }

    /// Stores a whole object and says what `backup.json` needs to know of it.
    package func store(_ name: String, _ bytes: [UInt8]) throws -> BackupRecord.StoredFile {
        try lease.requireHeld()
        let path = path(name)
        guard try repository.store.create(path, bytes) != .different else {
            throw RepositoryError.alreadyThere(repository.layout.relative(path))
        }
        return BackupRecord.StoredFile(
            path: repository.layout.relative(path), bytes: UInt64(bytes.count), sha256: SHA256Digest(of: bytes))
    }

    /// Creates the commit marker: when this returns, the backup is one. Everything it names must be stored before.
    /// Throws `sweptMeanwhile` when another gave it up, and `leaseLost` when another may be about to.
    package func commit(_ record: BackupRecord) throws {
        precondition(record.id == id)
        let record = try record.sealed()
        if let fault = record.fault(expected: id, in: repository.layout) {
            throw RepositoryError.damaged(repository.layout.relative(repository.layout.backupRecord(id)), why: fault)
        }
        try lease.requireHeld()
        try requireStored(record)
        let marker = repository.layout.backupRecord(id)
        let creation = try repository.store.create(marker, try RecordCoding.encode(record))
        guard creation != .different else { throw RepositoryError.sweptMeanwhile(id) }
        // Into the repository, and not into the directory beneath one that was unmounted meanwhile.
        do {
            try repository.requirePresent()
            guard try repository.store.describe(marker) != nil else { throw StoreError("store", marker.text, .away) }
        } catch let error as StoreError where error.reason != .away {
            // It was created; that it cannot be looked at now does not undo it.
        }
    }

    /// Everything that the record names is in the repository: while it was away for a moment, what was written went to the
    /// directory beneath it.
    private func requireStored(_ record: BackupRecord) throws {
        try repository.requirePresent()
        for file in record.archives + [record.manifest, record.frameIndex, record.pageChecksums] {
            // In this backup's directory, which the record was checked for.
            let path = path(String(file.path.split(separator: "/").last ?? ""))
            guard let found = try repository.store.describe(path) else {
                // Whoever gave the backup up has removed its objects behind the tombstone.
                if try repository.marker(of: id) != nil { throw RepositoryError.sweptMeanwhile(id) }
                throw StoreError("store", path.text, .missing)
            }
            guard found.bytes == file.bytes else { throw StoreError("store", path.text, .cutShort(bytes: found.bytes)) }
        }
    }

    /// Gives the backup up: nothing takes it for one, its id stays used, its objects are removed.
    package func abandon() throws {
        try repository.clearUp(id)
        // The lease's objects went with the others: there is nothing to give back.
    }
}

extension Repository {
    /// Announces a backup. The caller holds the lease `locks/backup`.
    package func announceBackup(
        _ kind: BackupID.Kind, label: String, parent: BackupID? = nil, leaseSeconds: Int = LockName.jobSeconds
    ) throws -> BackupTaking {
        try BackupTaking.announce(self, kind: kind, label: label, parent: parent, leaseSeconds: leaseSeconds)
    }

    /// Clears up backups that were interrupted: those whose lease is over get a tombstone, and what they left is
    /// removed. Goes on with what an earlier run left undone. Returns their ids.
    @discardableResult
    package func sweepUnfinishedBackups() throws -> [BackupID] {
        var swept: [BackupID] = []
        for entry in try backups() {
            switch entry.state {
            case .unfinished(_, isLapsed: true):
                if try clearUp(entry.id) { swept.append(entry.id) }
            case .tombstone: try removeObjects(of: entry.id)
            case .damaged, .committed, .removed, .unfinished: continue
            }
        }
        // A directory that holds no announcement is one that a crash left before its first object appeared.
        try store.sweepTemporaries(in: layout.root, olderThanSeconds: 86_400)
        return swept
    }

    /// Tombstone first, exclusively: if the taker committed a moment ago its backup stays. Then the objects.
    @discardableResult
    fileprivate func clearUp(_ id: BackupID) throws -> Bool {
        let tombstone = TombstoneRecord(
            id: id, sweptAt: environment.wallClock(), sweptBy: environment.holder.display)
        if try store.create(layout.backupRecord(id), try RecordCoding.encode(tombstone)) == .different {
            guard case .tombstone = try marker(of: id) else { return false }
        }
        try removeObjects(of: id)
        return true
    }

    /// Removes all but the tombstone; the announcements last, so that a crash in between shows what it was.
    private func removeObjects(of id: BackupID) throws {
        let objects = try store.list(layout.backup(id)).filter { $0.path != layout.backupRecord(id) }
        let announcements = announcements(of: id)
        for object in objects where announcements.number(object.name) == nil { try store.delete(object.path) }
        for object in objects where announcements.number(object.name) != nil { try store.delete(object.path) }
        try store.sweepTemporaries(in: layout.backup(id), olderThanSeconds: 0)
    }
}
