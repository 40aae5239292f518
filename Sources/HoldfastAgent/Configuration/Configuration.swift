import HoldfastCore
import HoldfastServer
import HoldfastWire

/// One cluster's configuration as it was given: file, environment and options together, checked whole.
/// Sizes are bytes, durations milliseconds.
package struct Configuration: Sendable, Equatable {
    /// The file it came from, if any.
    package var file: String?
    package var cluster: String?
    /// The engine's directory on this host, if it is on this host.
    package var data: String?
    /// Where the cluster's leader answers.
    package var leader: WireAddress?
    /// The leaders that a follower tries in turn. One alone is followed though it is a follower itself.
    package var follow: [WireAddress] = []
    package var server = ServerSettings()
    package var client = ClientSettings()
    /// The first is the one that is read.
    package var repositories: [RepositorySettings] = []
    package var catalog: CatalogSection?
    package var archive = ArchiveSettings()
    package var synchronous = SynchronousSettings()
    /// `nil`: nothing is automatic.
    package var failover: FailoverSettings?
    package var schedule = ScheduleSettings()
    /// The agent's own durable state: schedule and outbox.
    package var state: String
    package var logLevel = LogLevel.info

    package init(state: String) { self.state = state }

    package enum LogLevel: String, CaseIterable, Sendable {
        case trace, debug, info, notice, warning, error, critical
    }

    /// The cluster's name, which this command cannot do without.
    package func requiredCluster() throws(ConfigurationError) -> String {
        if let cluster { return cluster }
        throw .missing(
            "cluster", why: "the command needs the cluster's name", next: "give --cluster NAME, or cluster: in the file"
        )
    }

    package func requiredData() throws(ConfigurationError) -> String {
        if let data { return data }
        throw .missing(
            "data", why: "the command needs the data directory", next: "give --data DIR, or data: in the file")
    }

    package func requiredRepository() throws(ConfigurationError) -> RepositorySettings {
        if let first = repositories.first { return first }
        throw .missing(
            "repository", why: "the command needs the place of backups and archived WAL",
            next: "give repository: {path: DIR} in the file")
    }

    /// The leader's address: as configured, else the socket or the port that `serve` on this host listens at.
    package func requiredLeader() throws(ConfigurationError) -> WireAddress {
        if let leader { return leader }
        if let socket = server.socket { return .unix(path: socket) }
        if let listen = server.listen { return listen }
        throw .missing(
            "leader", why: "the command needs a running server",
            next: "give --connect ADDRESS, or leader: in the file")
    }
}

/// `server:`
package struct ServerSettings: Sendable, Equatable {
    /// nil when only the socket is wanted. What an address needs that other machines reach, `serve` checks.
    package var listen: WireAddress?
    package var socket: String?
    package var tls: TLSFiles?
    package var usersFile: String?
    /// Loopback connections, too, may do nothing before they name a user.
    package var requiresUser = false
    package var cacheBytes = 1 << 30
    package var versionBytes = 256 << 20
    package var transactionBytes = 256 << 20
    /// A checkpoint begins when this much WAL was written, or this long after the last one.
    package var checkpointWALBytes = 1 << 30
    package var checkpointEvery = 300_000
    /// A slot that keeps more WAL than this for its follower is invalidated.
    package var slotWALBytes = 4 << 30
    package static let defaultListen = WireAddress.tcp(host: "127.0.0.1", port: 6420)
}

/// `repository:` or an element of `repositories:`
package struct RepositorySettings: Sendable, Equatable {
    package enum Codec: String, CaseIterable, Sendable { case zstd, gzip, none }
    package var name: String
    package var path: String
    package var codec = Codec.zstd
    package var level = 1
    package var workers = 2
}

/// `catalog:`. The URI may hold a password, so that nothing prints it, however it is asked to.
package struct CatalogSection: Sendable, Equatable, CustomStringConvertible, CustomReflectable {
    /// As libpq takes it.
    package var uri: String
    package var passwordFile: String?

    package var description: String { "catalog" }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

/// `archive:`
package struct ArchiveSettings: Sendable, Equatable {
    /// A part-filled segment is switched after this long, if something was committed; nil: never.
    package var timeout: Int? = 60_000
    package var workers = 2
}

/// `failover:`
package struct FailoverSettings: Sendable, Equatable {
    /// `http://HOST:PORT` or `https://HOST:PORT` of each member of etcd.
    package var etcd: [String]
    /// PEM files for `https`. Without authorities those of the system count.
    package var authorities: String?
    package var certificate: String?
    package var key: String?
    /// A user of etcd's own.
    package var user: String?
    package var passwordFile: String?
    /// After so long without a renewal another node may lead.
    package var ttl = 10_000
    /// A follower that lacks more of the last leader's log is not promoted; `nil`: any may be.
    package var maximumLag: Int? = 1 << 20
    /// How this node is called; default: the host's name.
    package var node: String?
    /// Where other nodes reach this one; default: where it listens.
    package var address: WireAddress?

    package init(etcd: [String]) { self.etcd = etcd }
}

/// `schedule:`
package struct ScheduleSettings: Sendable, Equatable {
    package var timeZone: String?
    package var full: CronExpression?
}
