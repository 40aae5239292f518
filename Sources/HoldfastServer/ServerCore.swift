import Glibc
import HoldfastCore
import HoldfastEngine
import HoldfastWire
import Logging
import Metrics
import NIOCore
import NIOPosix

/// What the connections of a server share.
///
/// Unchecked, because its variables belong to the event loop and are touched nowhere else (`assertInEventLoop` in
/// debug builds where they change); everything constant is sendable.
final class ServerCore: @unchecked Sendable {
    let engine: Engine
    let configuration: ServerConfiguration
    let identity: ServerIdentity
    let composition: any ServerComposition
    /// Looked at before each command.
    let content: ContentGate
    let logger: Logger
    let loop: any EventLoop
    let services: CommandServices
    let pace: SyncPace
    let access: ServerAccess
    let logins: LoginGate
    /// Reads that miss the cache, scans, `INFO` and the like.
    let readers: NIOThreadPool
    /// Checkpoints, backups and the like, which may take minutes.
    let physical: NIOThreadPool
    let slotsInUse = SlotsInUse()
    let changing: ChangingSettings
    private let connectionGauge = Gauge(label: "holdfast_connections")
    private let commandCounter = Counter(label: "holdfast_commands_total")

    // Set once, in `init`.
    private(set) var writer: WriterQueue!
    private(set) var turn: TurnWriter!
    let followers: Followers
    let gates: SynchronousGates
    let waits: ConnectionWaits

    // The event loop's.
    private(set) var connections: [Int: ClientConnection] = [:]
    var statistics = ServerStatistics()
    var settings: RuntimeSettings { didSet { gates.settings = settings.synchronous } }
    var inputBytes = 0
    private(set) var isDraining = false
    private var whenDrained: (() -> Void)?
    private var countedCommands = 0
    private var lastNoted = NIODeadline.uptimeNanoseconds(0)
    /// Whose output waits for the end of this turn of the loop.
    private var unsent: [ClientConnection] = []

    init(
        engine: Engine, configuration: ServerConfiguration, settings: RuntimeSettings, identity: ServerIdentity,
        composition: any ServerComposition, content: ContentGate, logger: Logger, access: ServerAccess,
        loop: any EventLoop,
        pools: (writer: NIOThreadPool, readers: NIOThreadPool, physical: NIOThreadPool, logins: NIOThreadPool)
    ) {
        self.engine = engine
        self.configuration = configuration
        self.settings = settings
        changing = ChangingSettings(settings)
        self.identity = identity
        self.composition = composition
        self.content = content
        self.logger = logger
        self.loop = loop
        self.access = access
        logins = LoginGate(access: access, limits: configuration.login, loop: loop, pool: pools.logins)
        readers = pools.readers
        physical = pools.physical
        services = CommandServices(
            cursors: ScanCursors(), watchTable: WatchTable(), replyBytes: configuration.replyBytes)
        pace = SyncPace(limitMicroseconds: configuration.loopSyncMicroseconds)
        let followers = Followers { composition.electable }
        self.followers = followers
        gates = SynchronousGates(
            settings.synchronous, followers: followers, loop: loop, engine: engine, logger: logger)
        waits = ConnectionWaits(loop: loop)
        engine.slots.observe { slot, reason in
            logger.warning(
                "a slot is invalidated: its follower needs the archive",
                metadata: ["slot": "\(slot)", "why": "\(reason)"])
        }
        let fatal: @Sendable (any Error) -> Void = { [weak self] error in self?.logHasFailed(error) }
        writer = WriterQueue(
            engine: engine, services: services, pace: pace, pool: pools.writer, loop: loop, fatal: fatal,
            completed: { [unowned self] batch, end in completed(batch, end) })
        turn = TurnWriter(
            engine: engine, pace: pace, loop: loop, fatal: fatal, beforeSync: { [unowned self] in flushUnsent() },
            gates: gates)
    }

    /// Nobody knows what is on the disk: nothing is answered any more. The engine has told its `onFatal` already, which
    /// ends the process unless it was replaced.
    private func logHasFailed(_ error: any Error) {
        logger.critical("the log cannot be made durable; no reply is sent", metadata: ["error": "\(error)"])
        loop.execute {
            self.isDraining = true
            self.closeAll()
        }
    }

    // MARK: Connections

    /// false: there are as many as may be. Some more places are kept for the server's own user, so that clients that hold
    /// every connection keep nobody from looking what is wrong, nor the agent from its work.
    func mayAccept(isOwner: Bool) -> Bool {
        let places = configuration.maximumConnections + (isOwner ? Self.administratorPlaces : 0)
        return connections.count < places && !isDraining
    }

    static var administratorPlaces: Int { 16 }

    func nextConnectionID() -> Int {
        statistics.connections += 1
        return statistics.connections
    }

    func connected(_ connection: ClientConnection) {
        loop.assertInEventLoop()
        connections[connection.id] = connection
        connectionGauge.record(connections.count)
    }

    func disconnected(_ connection: ClientConnection, inputBytes bytes: Int) {
        loop.assertInEventLoop()
        connections[connection.id] = nil
        inputBytes -= bytes
        connectionGauge.record(connections.count)
        lookIfDrained()
    }

    /// A sender's thread has ended, and its follower's slot is on the disk.
    func senderEnded() {
        loop.assertInEventLoop()
        followers.senders -= 1
        lookIfDrained()
    }

    /// Closes the connections of users that are gone, or have another password or other roles.
    func closeChangedUsers() {
        loop.assertInEventLoop()
        let users = access.users
        for connection in connections.values {
            guard let user = connection.user, users?.find(user.name) != user else { continue }
            logger.notice(
                "a user has changed; connection closed",
                metadata: ["connection": "\(connection.id)", "user": "\(user.name)"])
            connection.context?.close(promise: nil)
        }
    }

    /// Whether the log may hear of a stranger's failed connection: once a second, so that strangers cannot fill it.
    func mayNoteStranger() -> Bool {
        guard NIODeadline.now() - lastNoted > .seconds(1) else { return false }
        lastNoted = .now()
        return true
    }

    /// A backup whose connection is gone is over.
    func abandon(_ backup: BackupSession) {
        backup.disconnect()
        guard backup.isUsed else { return }
        physical.submit { _ in backup.close() }
    }

    /// Closes each connection when it has been answered, then calls `done`.
    func drain(_ done: @escaping () -> Void) {
        loop.assertInEventLoop()
        isDraining = true
        whenDrained = done
        waits.endAll()
        for connection in connections.values { connection.drain() }
        lookIfDrained()
    }

    /// Streams end last, so that what was written last is in them.
    private func lookIfDrained() {
        guard isDraining, let done = whenDrained else { return }
        if connections.isEmpty {
            guard followers.senders == 0 else { return }
            whenDrained = nil
            done()
        } else if connections.values.allSatisfy({ $0.stream != nil }) {
            for connection in connections.values { connection.stream?.finish() }
        }
    }

    func closeAll() {
        for connection in connections.values { connection.context?.close(promise: nil) }
    }

    /// Sends what a connection has to say behind all channels that are ready in this turn: a client that is woken by its
    /// first reply would else share the processor with the making of the others.
    func flushAtTurnsEnd(_ connection: ClientConnection) {
        guard connection.out.count > 0 else { return }
        if unsent.isEmpty {
            let this = NIOLoopBound(self, eventLoop: loop)
            loop.execute { this.value.flushUnsent() }
        }
        unsent.append(connection)
    }

    private func flushUnsent() {
        let due = unsent
        unsent = []
        for connection in due { connection.flushOutput() }
    }

    // MARK: Work on other threads

    /// The writer thread has made a batch durable.
    private func completed(_ batch: [CommandRun], _ end: LSN) {
        gates.each(of: batch, \.session.synchronous) { gate, batch in
            if gate.passes(end) { return answer(batch, end, .acknowledged) }
            gate.hold(through: end) { [self] outcome in answer(batch, end, outcome) }
        }
    }

    private func answer(_ batch: [CommandRun], _ end: LSN, _ outcome: SynchronousGate.Outcome) {
        let outcome = outcome.bounded(by: engine, end)
        for run in batch {
            if case .unknown(let text) = outcome { run.refuse(text) }
            run.completed(run)
        }
    }

    func followerReports() -> [FollowerReport] { followers.reports(durable: engine.durableLSN) }

    /// Runs reads on the pool; `run.completed` is called on the loop.
    func read(_ run: CommandRun) {
        let (engine, services, loop) = (engine, services, loop)
        readers.submit { _ in
            do {
                try engine.read { run.run(reading: $0, services, refusal: nil) }
            } catch {
                run.refuse(ErrorReplies.text(error))
            }
            loop.execute { run.completed(run) }
        }
    }

    /// What `INFO` and `STATUS` say of the server itself, as of now.
    func report() -> ServerReport {
        loop.assertInEventLoop()
        commandCounter.increment(by: statistics.commands - countedCommands)
        countedCommands = statistics.commands
        return ServerReport(
            identity: identity, statistics: statistics, clients: connections.count,
            maximumClients: configuration.maximumConnections, syncMicroseconds: pace.averageMicroseconds,
            syncsOnLoop: pace.syncsOnLoop, followers: followerReports(), isDegraded: gates.nodes.isDegraded,
            blockedClients: waits.count, content: content.state)
    }
}

/// Who this server is, for `INFO` and `STATUS`.
package struct ServerIdentity: Sendable {
    package var version: String
    /// The absolute path of the data directory.
    package var data: String
    /// What this node is called, for those that follow it.
    package var node = ""
    /// Which directory that is, as this process sees it: another one may have the same path elsewhere. 0: unknown.
    package var device: Int64 = 0
    package var inode: Int64 = 0

    package init(version: String, data: String) {
        self.version = version
        self.data = data
        var status = stat()
        if stat(data, &status) == 0 {
            device = Int64(truncatingIfNeeded: status.st_dev)
            inode = Int64(truncatingIfNeeded: status.st_ino)
        }
    }
}

/// What the event loop counts.
struct ServerStatistics: Sendable {
    var started = NIODeadline.now()
    var commands = 0
    var connections = 0
    var refusedConnections = 0
    /// Of the TCP listener; 0: none.
    var port = 0
    var socket: String?
}

/// A copy of the loop's figures for other threads.
struct ServerReport: Sendable {
    var identity: ServerIdentity
    var statistics: ServerStatistics
    var clients: Int
    var maximumClients: Int
    var syncMicroseconds: Double
    var syncsOnLoop: Bool
    var followers: [FollowerReport]
    /// Writes are acknowledged without the followers that they should wait for.
    var isDegraded: Bool
    /// In `WAIT` and `WAITLSN`.
    var blockedClients: Int
    var content: ContentGate.State

    var uptimeSeconds: Int { Int((NIODeadline.now() - statistics.started).nanoseconds / 1_000_000_000) }
}
