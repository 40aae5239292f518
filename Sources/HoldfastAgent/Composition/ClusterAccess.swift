import HoldfastArchive
import HoldfastBackup
import HoldfastCore
import HoldfastRepository
import HoldfastWAL
import HoldfastWire

/// Opens the parts of a cluster as its configuration describes them: the one place that knows which setting becomes
/// which part's option.
package struct ClusterAccess: Sendable {
    package let configuration: Configuration

    package init(_ configuration: Configuration) { self.configuration = configuration }

    package func store() throws -> PosixStore { PosixStore(root: try configuration.requiredRepository().path) }

    /// The cluster's part of the repository, which must exist. `expecting` refuses another cluster's.
    package func repository(expecting: SystemIdentifier? = nil) throws -> Repository {
        try Repository.open(store(), cluster: configuration.requiredCluster(), expecting: expecting)
    }

    /// As `repository`, made when this is the first that uses it. One that was used from this host before is never
    /// made again: where its place is empty, the file system that holds it is away.
    package func repository(creatingFor system: SystemIdentifier) throws -> Repository {
        let known = try KnownRepository(configuration, system)
        if try known.isNoted {
            do {
                return try repository(expecting: system)
            } catch RepositoryError.noCluster(_, let place) {
                throw RepositoryGone(place: place, note: known.path)
            }
        }
        let repository = try Repository.openOrCreate(
            store(), cluster: configuration.requiredCluster(), systemIdentifier: system)
        try known.note()
        return repository
    }

    /// Remembers on this host that the repository was there, as its first use by the agent would.
    package func note(_ repository: Repository) throws {
        let known = try KnownRepository(configuration, repository.systemIdentifier)
        if try !known.isNoted { try known.note() }
    }

    /// The cluster's WAL, to be read and pushed to.
    package func archive(_ repository: Repository) throws -> WALArchive {
        WALArchive(repository, compression: try compression()) { timeline, bytes in
            let history = try TimelineHistory(decoding: bytes)
            guard history.timeline == timeline else {
                throw RepositoryError.damaged(
                    TimelineHistory.fileName(timeline), why: "it is the history of timeline \(history.timeline)")
            }
            return history.current.token
        }
    }

    package func compression() throws -> Compression {
        let settings = try configuration.requiredRepository()
        let codec: Codec =
            switch settings.codec {
            case .zstd: .zstd
            case .gzip: .gzip
            case .none: .none
            }
        return Compression(codec, level: settings.level)
    }
}

/// The repository was there once and is not now.
package struct RepositoryGone: DiagnosableError {
    package var place: String
    package var note: String

    package var diagnosis: Diagnosis {
        Diagnosis(
            "the repository is not there any more", at: printable(place, limit: 300),
            why: "this host used it before, and now nothing of the cluster is in it",
            next: "mount its file system; if it was removed for good, remove \(printable(note, limit: 300)) too",
            status: .unavailable)
    }
}
