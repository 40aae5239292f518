import HoldfastEngine
import HoldfastWire

/// Where the server listens and what it bounds.
package struct ServerConfiguration: Sendable {
    /// An address with a port (0: any), or nil. One that other machines reach needs `tls` and `usersFile`.
    package var listen: WireAddress? = .tcp(host: "127.0.0.1", port: 6420)
    /// The path of the unix socket, or nil.
    package var socket: String?
    /// Mode of the socket's file.
    package var socketMode: UInt32 = 0o600
    /// nil: connections over TCP are plain. The unix socket always is.
    package var tls: TLSFiles?
    /// nil: there are no users.
    package var usersFile: String?
    /// Over loopback, too, nothing may be done without a user.
    package var requiresUser = false
    /// Everybody may do everything, on any address.
    package var isInsecure = false
    package var login = LoginLimits()
    /// How often it is looked whether certificates and users have changed.
    package var reloadSeconds = 2.0
    package var limits = WireLimits()
    package var maximumConnections = 10_000
    /// Bytes of one reply.
    package var replyBytes = 256 << 20
    /// Bytes of requests that wait in one connection before reading from it stops.
    package var pipelineBytes = 1 << 20
    /// Bytes of unfinished and waiting requests in all connections.
    package var inputBytes = 1 << 30
    /// The event loop syncs by itself while a sync takes at most so long; beyond, the writer thread does.
    package var loopSyncMicroseconds = 1000.0
    /// Threads for reads that miss the cache and for scans.
    package var readerThreads = 4
    /// Threads for physical commands.
    package var physicalThreads = 8
    /// Bytes of log that are handed to a follower's connection and not yet taken by its socket.
    package var followerBufferBytes = 4 << 20
    /// A follower that says nothing for so long is disconnected.
    package var followerTimeoutSeconds = 60.0
    /// How long `stop` waits for connections to finish what they have begun.
    package var drainSeconds = 10.0

    package init() {}
}

/// The bounds of connections that have yet to say who they are, or to end their TLS handshake.
package struct LoginLimits: Sendable {
    /// From the first byte of the handshake to the login.
    package var seconds = 10.0
    package var connections = 512
    package var connectionsOfAddress = 128
    /// Of their requests.
    package var frames: WireLimits

    package init() {
        frames = WireLimits()
        frames.bulkBytes = 4 << 10
        frames.arguments = 16
        frames.frameBytes = 16 << 10
        frames.lineBytes = 16 << 10
    }
}

/// What `CONFIG` shows and, but for the checkpoint's triggers, sets while the server runs.
package struct RuntimeSettings: Sendable, Equatable {
    /// WAL after which a checkpoint is begun.
    package var checkpointBytes: Int
    package var checkpointSeconds: Double
    /// nil: segments are switched when they are full and not before.
    package var archiveTimeoutSeconds: Double?
    /// `trace`, `debug`, `info`, `notice`, `warning`, `error`, `critical`.
    package var logLevel: String
    package var synchronous = SynchronousSettings()

    package init(
        checkpointBytes: Int = 1 << 30, checkpointSeconds: Double = 300, archiveTimeoutSeconds: Double? = 60,
        logLevel: String = "info"
    ) {
        self.checkpointBytes = checkpointBytes
        self.checkpointSeconds = checkpointSeconds
        self.archiveTimeoutSeconds = archiveTimeoutSeconds
        self.logLevel = logLevel
    }
}

/// What the server needs of whoever composes it: the parts that know of archives, timelines and the process.
package protocol ServerComposition: Sendable {
    /// Opens a node that is paused at its recovery target for writing; blocking. Returns what `PROMOTE` answers.
    func promote(_ options: PromotionOptions) throws -> [(name: String, value: WireValue)]
    /// The state of the archive for `STATUS` and `INFO`; nil when archiving is off. Cheap.
    func archiveReport() -> ArchiveReport?
    /// Applies settings that were checked; throws when one cannot be.
    func apply(_ settings: RuntimeSettings) throws
    /// The followers whose word a synchronous write may be acknowledged on, by the names that they give themselves: those
    /// among which the next leader is chosen. `nil`: all. Cheap.
    var electable: Set<String>? { get }
    /// `SHUTDOWN` was asked for: begins an orderly stop and returns at once.
    func shutdown()
}

extension ServerComposition {
    package var electable: Set<String>? { nil }
}

/// How the archive stands.
package struct ArchiveReport: Sendable, Equatable {
    /// Segments that are marked and not yet archived.
    package var queuedSegments: Int
    package var queuedBytes: Int
    /// The segment that has waited longest.
    package var oldestSegment: String?
    /// The end of the last segment known to be in the archive, as text; nil: none.
    package var archivedLSN: String?
    package var lastArchivedSegment: String?
    /// For people: what is wrong, if something is.
    package var warnings: [String]

    package init(
        queuedSegments: Int, queuedBytes: Int, archivedLSN: String?, lastArchivedSegment: String? = nil,
        oldestSegment: String? = nil, warnings: [String] = []
    ) {
        self.queuedSegments = queuedSegments
        self.queuedBytes = queuedBytes
        self.archivedLSN = archivedLSN
        self.lastArchivedSegment = lastArchivedSegment
        self.oldestSegment = oldestSegment
        self.warnings = warnings
    }
}
