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

    /// As `repository`, made when this is the first that uses it.
    package func repository(creatingFor system: SystemIdentifier) throws -> Repository {
        try Repository.openOrCreate(store(), cluster: configuration.requiredCluster(), systemIdentifier: system)
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
