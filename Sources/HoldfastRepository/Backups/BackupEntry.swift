import HoldfastCore

/// A backup as the repository shows it.
package struct BackupEntry: Sendable {
    package let id: BackupID
    package let state: State

    package enum State: Sendable {
        /// Complete and usable.
        case committed(BackupRecord)
        /// Complete, and given up since: running jobs may still use it, new ones not.
        case removed(BackupRecord, RemovalRecord)
        /// Being taken, or interrupted; not a backup.
        case unfinished(BackupAnnouncement, isLapsed: Bool)
        /// Never completed and cleared up.
        case tombstone(TombstoneRecord)
        /// Its record cannot be read; what is wrong with it.
        case damaged(RepositoryError)
    }

    /// The record, when it may be used by new jobs.
    package var usable: BackupRecord? {
        if case .committed(let record) = state { record } else { nil }
    }
}

extension Repository {
    /// The ids of all that was ever announced and is listed, ascending; no object is read.
    package func backupIDs() throws -> [BackupID] {
        try store.listDirectories(layout.backups).compactMap { BackupID($0) }.sorted()
    }

    /// Every backup with its state, ascending by id. A damaged one is listed as that and hides no other.
    package func backups() throws -> [BackupEntry] {
        try backupIDs().compactMap { try backup($0) }
    }

    /// The newest state of one backup; `nil` when nothing was ever announced under this id.
    package func backup(_ id: BackupID) throws -> BackupEntry? {
        do {
            switch try marker(of: id) {
            case .committed(let record):
                if let removal = try self.record(RemovalRecord.self, at: layout.removalRecord(id)) {
                    return BackupEntry(id: id, state: .removed(record, removal))
                }
                return BackupEntry(id: id, state: .committed(record))
            case .tombstone(let record): return BackupEntry(id: id, state: .tombstone(record))
            case nil:
                guard let (announcement, lapsed) = try announcement(of: id) else { return nil }
                return BackupEntry(id: id, state: .unfinished(announcement, isLapsed: lapsed))
            }
        } catch let error as RepositoryError {
            return BackupEntry(id: id, state: .damaged(error))
        } catch let error as StoreError where error.isOfOneObject {
            let object = layout.relative(layout.backupRecord(id))
            return BackupEntry(
                id: id, state: .damaged(.damaged(object, why: error.diagnosis.why ?? "it cannot be read")))
        }
    }

    /// The record of a backup that a new job may use. Throws `unknownBackup`, `backupNotUsable` or `damaged`.
    package func usableBackup(_ id: BackupID) throws -> BackupRecord {
        guard let entry = try backup(id) else { throw RepositoryError.unknownBackup(id.description) }
        switch entry.state {
        case .committed(let record): return record
        case .removed(_, let removal):
            throw RepositoryError.backupNotUsable(id, why: "it was given up (\(printable(removal.reason)))")
        case .unfinished(_, let isLapsed):
            throw RepositoryError.backupNotUsable(
                id, why: isLapsed ? "it was interrupted before it was complete" : "it is still being taken")
        case .tombstone: throw RepositoryError.backupNotUsable(id, why: "it was never completed")
        case .damaged(let error): throw error
        }
    }

    /// `usableBackup` for an id as a person typed it.
    package func usableBackup(named text: String) throws -> BackupRecord {
        guard let id = BackupID(text) else { throw RepositoryError.unknownBackup(text) }
        return try usableBackup(id)
    }

    enum Marker {
        case committed(BackupRecord)
        case tombstone(TombstoneRecord)
    }

    /// What `backup.json` says, checked against its place.
    func marker(of id: BackupID) throws -> Marker? {
        let path = layout.backupRecord(id)
        guard let bytes = try store.read(path, limit: RecordCoding.limitBytes) else { return nil }
        let object = layout.relative(path)
        if let tombstone = try? RecordCoding.decode(TombstoneRecord.self, bytes, at: object), tombstone.tombstone {
            guard tombstone.id == id else {
                throw RepositoryError.damaged(object, why: "it is the record of \(tombstone.id)")
            }
            return .tombstone(tombstone)
        }
        let record = try RecordCoding.decode(BackupRecord.self, bytes, at: object).opened(at: object)
        if let fault = record.fault(expected: id, in: layout) { throw RepositoryError.damaged(object, why: fault) }
        guard record.systemIdentifier == systemIdentifier else {
            throw RepositoryError.damaged(
                object, why: "its system identifier is \(record.systemIdentifier), the cluster's \(systemIdentifier)")
        }
        return .committed(record)
    }

    /// The newest announcement of a backup, with whether its lease is over.
    private func announcement(of id: BackupID) throws -> (BackupAnnouncement, Bool)? {
        let objects = announcements(of: id)
        for _ in 0..<16 {
            guard let last = try objects.list(store).last else { return nil }
            guard let record = try record(BackupAnnouncement.self, at: last.object.path) else { continue }
            guard record.id == id else {
                throw RepositoryError.damaged(
                    layout.relative(last.object.path), why: "it is the announcement of \(record.id)")
            }
            let (standing, _) = try Lease.read(objects, store, environment.holder)
            return (record, !standing.isFresh)
        }
        return nil
    }

    func announcements(of id: BackupID) -> NumberedObjects {
        NumberedObjects(directory: layout.backup(id), prefix: "started-", digits: 4)
    }
}
