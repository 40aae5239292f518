import HoldfastCore

/// The names of locks and how long they hold without renewal.
package enum LockName {
    /// One job (backup) at a time for a cluster.
    package static let backup = "backup"
    /// The leader's agent lives. Renewed every 10 s.
    package static let leader = "leader"
    package static let cut = "cut"
    package static let holdPrefix = "hold-"

    package static let leaderSeconds = 30
    package static let jobSeconds = 60
    /// A restore's hold outlives the pause between `restore` and `serve`.
    package static let holdSeconds = 3600
}

extension Repository {
    /// Takes the lease `name`. Throws `leaseTaken` when another holds it.
    package func takeLease(_ name: String, leaseSeconds: Int, purpose: String? = nil) throws -> Lease {
        try takeLease(
            LeaseRecord(name: name, holder: environment.holder, leaseSeconds: leaseSeconds, purpose: purpose))
    }

    private func takeLease(_ record: LeaseRecord) throws -> Lease {
        guard ObjectName.isValid(record.name) else { throw RepositoryError.invalidName(record.name, of: "lock") }
        return try Lease.take(
            record.name, leaseSeconds: record.leaseSeconds, store: store,
            objects: NumberedObjects(directory: layout.lock(record.name)), environment: environment
        ) { released in
            var next = record
            next.released = released
            return try RecordCoding.encode(next)
        }
    }

    /// How a lease stands, by the store's clock.
    package func standing(ofLease name: String) throws -> Lease.Standing {
        guard ObjectName.isValid(name) else { throw RepositoryError.invalidName(name, of: "lock") }
        return try Lease.read(
            NumberedObjects(directory: layout.lock(name)), store, environment.holder
        ).0
    }

    /// Announces a job that needs a backup, or WAL from a place on, and only then looks whether they may still be
    /// used: whoever expires reads the holds after giving up and before deleting.
    package func takeHold(
        on backup: BackupID?, walFrom: LSN?, purpose: String, leaseSeconds: Int = LockName.holdSeconds
    ) throws -> Lease {
        let name = LockName.holdPrefix + TimelineToken.random().description.lowercased()
        let lease = try takeLease(
            LeaseRecord(
                name: name, holder: environment.holder, leaseSeconds: leaseSeconds, purpose: purpose,
                backup: backup, walFrom: walFrom))
        do {
            if let backup { _ = try usableBackup(backup) }
            if backup == nil, let walFrom {
                let cut = try cut()
                guard walFrom >= cut else { throw RepositoryError.belowCut(walFrom, cut: cut) }
            }
        } catch {
            // The refusal is what the caller must see; a hold that could not be given back lapses.
            try? lease.release()
            throw error
        }
        return lease
    }

    /// Goes on with a hold that another process made (a restore's, by `serve`), which must not renew it any more. Throws `leaseLost` when it is gone:
    /// what it protected may be given up by now.
    package func continueHold(_ name: String) throws -> Lease {
        guard ObjectName.isValid(name), name.hasPrefix(LockName.holdPrefix) else {
            throw RepositoryError.invalidName(name, of: "hold")
        }
        let objects = NumberedObjects(directory: layout.lock(name))
        guard let last = try objects.list(store).last,
            var record = try record(LeaseRecord.self, at: last.object.path), !record.released,
            try store.now() < last.object.modified.advanced(bySeconds: Int64(record.leaseSeconds))
        else { throw RepositoryError.leaseLost(name) }
        record.holder = environment.holder
        let renewed = record
        let content: @Sendable (Bool) throws -> [UInt8] = { released in
            var next = renewed
            next.released = released
            return try RecordCoding.encode(next)
        }
        let before = environment.boottimeNanoseconds()
        guard try store.create(objects.path(last.number + 1), try content(false)) != .different else {
            throw RepositoryError.leaseLost(name)
        }
        // One that slept between its reading and its creation may have made a number that was used and removed.
        guard try objects.list(store).last?.number == last.number + 1 else { throw RepositoryError.leaseLost(name) }
        return Lease.adopt(
            name, leaseSeconds: record.leaseSeconds, store: store, objects: objects, environment: environment,
            removableFrom: 1, number: last.number + 1, madeAfter: before, content: content)
    }

    /// The holds that are in force, with what they protect.
    package func holds() throws -> [LeaseRecord] {
        var holds: [LeaseRecord] = []
        for name in try store.listDirectories(layout.locks) where name.hasPrefix(LockName.holdPrefix) {
            let objects = NumberedObjects(directory: layout.lock(name))
            // A hold judged by its time alone: the process that made it may have handed it on.
            for _ in 0..<16 {
                guard let last = try objects.list(store).last else { break }
                guard let record = try record(LeaseRecord.self, at: last.object.path) else { continue }
                let end = last.object.modified.advanced(bySeconds: Int64(record.leaseSeconds))
                if try !record.released && store.now() < end { holds.append(record) }
                break
            }
        }
        return holds
    }

    /// WAL below this is given up, on every timeline; `LSN.zero` when nothing is.
    package func cut() throws -> LSN {
        let objects = NumberedObjects(directory: layout.lock(LockName.cut))
        for _ in 0..<16 {
            guard let last = try objects.list(store).last else { return .zero }
            if let record = try record(CutRecord.self, at: last.object.path) { return record.lsn }
        }
        throw RepositoryError.damaged(layout.lock(LockName.cut).text, why: "its highest object cannot be read")
    }
}
