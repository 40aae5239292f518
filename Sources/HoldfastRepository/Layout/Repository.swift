import HoldfastCore

/// One cluster's part of a repository: its backups, its WAL, its locks. The source of truth about them.
///
/// Nothing in it is ever changed: objects are created exclusively, and some are deleted once they were given up.
/// Every method blocks, may be called by any thread, and throws `StoreError` or `RepositoryError`.
package final class Repository: Sendable {
    package let store: any ObjectStore
    package let layout: RepositoryLayout
    package let systemIdentifier: SystemIdentifier
    let environment: RepositoryEnvironment

    private init(
        _ store: any ObjectStore, _ layout: RepositoryLayout, _ systemIdentifier: SystemIdentifier,
        _ environment: RepositoryEnvironment
    ) {
        self.store = store
        self.layout = layout
        self.systemIdentifier = systemIdentifier
        self.environment = environment
    }

    package var cluster: String { layout.cluster }

    /// Opens what exists. `expecting` (from a data directory or a leader) refuses another cluster's by name.
    package static func open(
        _ store: any ObjectStore, cluster: String, expecting: SystemIdentifier? = nil,
        environment: RepositoryEnvironment = .current
    ) throws -> Repository {
        guard ObjectName.isValid(cluster) else { throw RepositoryError.invalidName(cluster, of: "cluster") }
        let layout = RepositoryLayout(cluster: cluster)
        let record = try clusterRecord(store, layout)
        guard let record else {
            // Says so itself when the whole place is not there.
            _ = try store.listDirectories(nil)
            throw RepositoryError.noCluster(cluster, place: store.place)
        }
        if let expecting { try require(record, expecting, store, layout) }
        return Repository(store, layout, record.systemIdentifier, environment)
    }

    /// Opens the cluster's part, creating it when it is not there. Of two that create it with different
    /// identifiers, one is refused.
    package static func openOrCreate(
        _ store: any ObjectStore, cluster: String, systemIdentifier: SystemIdentifier,
        environment: RepositoryEnvironment = .current
    ) throws -> Repository {
        guard ObjectName.isValid(cluster) else { throw RepositoryError.invalidName(cluster, of: "cluster") }
        let layout = RepositoryLayout(cluster: cluster)
        if try clusterRecord(store, layout) == nil {
            let record = ClusterRecord(cluster: cluster, systemIdentifier: systemIdentifier)
            if let posix = store as? PosixStore { try posix.makeRoot() }
            for other in try clusters(in: store) {
                // One that cannot be read says nothing of this one.
                guard let known = try? clusterRecord(store, RepositoryLayout(cluster: other)),
                    known.systemIdentifier == systemIdentifier
                else { continue }
                throw RepositoryError.knownByOtherName(cluster, as: other, place: store.place)
            }
            _ = try store.create(layout.clusterRecord, try RecordCoding.encode(record))
        }
        return try open(store, cluster: cluster, expecting: systemIdentifier, environment: environment)
    }

    /// The names of the clusters that have a part in this store, sorted.
    package static func clusters(in store: any ObjectStore) throws -> [String] {
        try store.listDirectories(nil).filter { name in
            guard ObjectName.isValid(name) else { return false }
            return try store.describe(RepositoryLayout(cluster: name).clusterRecord) != nil
        }
    }

    /// Throws unless the repository is still there and still this cluster's: what is asked before each push, since
    /// an empty mount point looks like a directory that one could write to.
    package func requirePresent() throws {
        guard let record = try Self.clusterRecord(store, layout) else {
            throw StoreError("be used", store.place + "/" + layout.clusterRecord.text, .away)
        }
        try Self.require(record, systemIdentifier, store, layout)
    }

    private static func clusterRecord(_ store: any ObjectStore, _ layout: RepositoryLayout) throws -> ClusterRecord? {
        let bytes: [UInt8]?
        do throws(StoreError) {
            bytes = try store.read(layout.clusterRecord, limit: RecordCoding.limitBytes)
        } catch {
            // No root yet, or it is away: the caller knows which of the two would be wrong.
            if error.reason == .away { return nil }
            throw error
        }
        return try bytes.map { try RecordCoding.decode(ClusterRecord.self, $0, at: layout.clusterRecord.text) }
    }

    private static func require(
        _ record: ClusterRecord, _ expected: SystemIdentifier, _ store: any ObjectStore, _ layout: RepositoryLayout
    ) throws {
        guard record.systemIdentifier == expected else {
            throw RepositoryError.otherCluster(
                layout.cluster, place: store.place, expected: expected, found: record.systemIdentifier)
        }
    }

    /// The record at `path`; `nil` when it is not there.
    func record<R: RepositoryRecord>(_ type: R.Type, at path: ObjectPath) throws -> R? {
        guard let bytes = try store.read(path, limit: RecordCoding.limitBytes) else { return nil }
        return try RecordCoding.decode(type, bytes, at: layout.relative(path))
    }
}

/// What the repository's protocols take from this machine; the tests put their own clock and identity here.
package struct RepositoryEnvironment: Sendable {
    /// Nanoseconds of CLOCK_BOOTTIME, which goes on while the machine sleeps.
    package var boottimeNanoseconds: @Sendable () -> UInt64
    package var wallClock: @Sendable () -> Timestamp
    package var holder: Holder

    package init(
        boottimeNanoseconds: @escaping @Sendable () -> UInt64, wallClock: @escaping @Sendable () -> Timestamp,
        holder: Holder
    ) {
        self.boottimeNanoseconds = boottimeNanoseconds
        self.wallClock = wallClock
        self.holder = holder
    }

    package static var current: RepositoryEnvironment {
        RepositoryEnvironment(
            boottimeNanoseconds: { Holder.boottimeNanoseconds() }, wallClock: { Timestamp.now },
            holder: Holder.current)
    }
}
