import HoldfastCore
import HoldfastEngine
import HoldfastWire
import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle
import Synchronization

/// Serves an engine over RESP, on TCP and on a unix socket.
///
/// An `OK` to a write means that it is durable. Loopback TCP may read and write records and look at the server's state;
/// everything else needs a user with a role, or the unix socket and the server's own user (or root). Any other address
/// needs TLS and users.
///
///     let server = try LeaderServer(engine: engine, configuration: configuration, identity: identity,
///                                   composition: composition, logger: logger)
///     let bound = try await server.start()
///     …
///     await server.stop()      // answers what is under way, then closes; the engine is not closed
///
/// As a `Service` it starts, waits for a graceful shutdown or `stop`, and stops.
package final class LeaderServer: Service, Sendable {
    /// Where clients find the server.
    package struct Addresses: Sendable, Equatable {
        /// With the real port, if 0 was asked for.
        package var tcp: WireAddress?
        package var unix: WireAddress?
    }

    private struct State {
        var channels: [any Channel] = []
        var isStarted = false
        var isStopped = false
        /// The socket's file is this server's, and not that of one which was there before it.
        var ownsSocket = false
    }

    private let configuration: ServerConfiguration
    private let tcpAddress: SocketAddress?
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private let writer = NIOThreadPool(numberOfThreads: 1)
    private let readers: NIOThreadPool
    private let physical: NIOThreadPool
    /// One thread: what checking passwords takes of the machine is bounded.
    private let logins = NIOThreadPool(numberOfThreads: 1)
    private let access: ServerAccess
    private let core: ServerCore
    private let logger: Logger
    private let state = Mutex(State())
    private let stopped: AsyncStream<Void>
    private let stopping: AsyncStream<Void>.Continuation

    /// Whether a server with this configuration may be started: what `init` throws, before there is an engine.
    package static func check(_ configuration: ServerConfiguration) throws {
        guard configuration.listen != nil || configuration.socket != nil else { throw ServerError.nothingToListenOn }
        _ = try ServerAccess(configuration)
    }

    /// Nothing is opened yet. Throws `ServerError` or `SecretFileError` when the configuration names no address, one that
    /// other machines reach without TLS and users, or files of theirs that cannot be used.
    package init(
        engine: Engine, configuration: ServerConfiguration, settings: RuntimeSettings = RuntimeSettings(),
        identity: ServerIdentity, composition: any ServerComposition, content: ContentGate = ContentGate(),
        logger: Logger
    ) throws {
        guard configuration.listen != nil || configuration.socket != nil else { throw ServerError.nothingToListenOn }
        tcpAddress = try configuration.listen.map { try Listeners.resolve($0).address }
        access = try ServerAccess(configuration)
        self.configuration = configuration
        self.logger = logger
        readers = NIOThreadPool(numberOfThreads: configuration.readerThreads)
        physical = NIOThreadPool(numberOfThreads: configuration.physicalThreads)
        (stopped, stopping) = AsyncStream.makeStream()
        core = ServerCore(
            engine: engine, configuration: configuration, settings: settings, identity: identity,
            composition: composition, content: content, logger: logger, access: access, loop: group.any(),
            pools: (writer, readers, physical, logins))
    }

    /// Listens; clients are served when it returns. Throws `ServerError`.
    @discardableResult
    package func start() async throws -> Addresses {
        precondition(
            state.withLock { state in
                defer { state.isStarted = true }
                return !state.isStarted
            }, "a server is started once")
        writer.start()
        readers.start()
        physical.start()
        logins.start()
        do {
            return try await listen()
        } catch {
            await stop()
            throw error
        }
    }

    private func listen() async throws -> Addresses {
        let listeners = Listeners(core: core, group: group)
        var addresses = Addresses()
        var port = 0
        if let tcpAddress, let name = configuration.listen {
            let channel = try await listeners.listen(on: tcpAddress, named: name.description)
            state.withLock { $0.channels.append(channel) }
            port = channel.localAddress?.port ?? 0
            addresses.tcp = .tcp(host: tcpAddress.ipAddress ?? "127.0.0.1", port: UInt16(port))
        }
        if let path = configuration.socket {
            let channel = try await listeners.listen(atSocket: path, mode: configuration.socketMode)
            state.withLock { state in
                state.channels.append(channel)
                state.ownsSocket = true
            }
            addresses.unix = .unix(path: path)
        }
        let (core, socket, boundPort) = (core, configuration.socket, port)
        try await core.loop.submit {
            core.statistics.port = boundPort
            core.statistics.socket = socket
        }.get()
        logger.info(
            "serving",
            metadata: [
                "tcp": "\(addresses.tcp?.description ?? "off")", "socket": "\(addresses.unix?.description ?? "off")",
                "tls": access.usesTLS ? "on" : "off",
            ])
        if configuration.isInsecure {
            logger.critical("INSECURE: whoever can connect may do everything: read, change, copy and stop this server")
        }
        watchAccess()
        return addresses
    }

    /// Accepts no more connections, answers what is under way, closes every connection and releases threads. Backups
    /// that run are over. Returns when all of it is done; may be called again.
    package func stop() async {
        let listening: State? = state.withLock { state in
            guard !state.isStopped else { return nil }
            state.isStopped = true
            return state
        }
        guard let listening else { return }
        if let path = configuration.socket, listening.ownsSocket { SocketFile.remove(path) }
        for channel in listening.channels { try? await channel.close().get() }
        await drain()
        for pool in [readers, writer, physical, logins] {
            try? await pool.shutdownGracefully()
        }
        try? await group.shutdownGracefully()
        stopping.finish()
        logger.info("stopped serving")
    }

    /// Reads certificates and users again, changed or not. New connections use them; those of users that are gone or have
    /// other roles are closed. Returns at once.
    package func reload() { reload(onlyChanged: false) }

    private func reload(onlyChanged: Bool) {
        let (access, core, logger) = (access, core, logger)
        physical.submit { state in
            guard state == .active, access.reload(onlyChanged: onlyChanged, logger) else { return }
            core.loop.execute { core.closeChangedUsers() }
        }
    }

    /// Notices files that have changed, also when nobody says so.
    private func watchAccess() {
        guard configuration.tls != nil || configuration.usersFile != nil else { return }
        let pause = TimeAmount.nanoseconds(Int64(configuration.reloadSeconds * 1e9))
        core.loop.scheduleRepeatedTask(initialDelay: pause, delay: pause) { [weak self] task in
            guard let self else { return task.cancel() }
            reload(onlyChanged: true)
        }
    }

    /// Waits until all connections are closed, at most `drainSeconds`, then closes those that are left.
    private func drain() async {
        let core = core
        let drained = core.loop.makePromise(of: Void.self)
        core.loop.execute {
            let limit = core.loop.scheduleTask(in: .nanoseconds(Int64(core.configuration.drainSeconds * 1e9))) {
                core.logger.warning("connections did not end in time and are closed")
                core.closeAll()
                // A sender may still write its slot, which must not happen once the engine is closed.
                if core.followers.senders == 0 { drained.succeed(()) }
            }
            core.drain {
                limit.cancel()
                drained.succeed(())
            }
        }
        try? await drained.futureResult.get()
    }

    /// Starts, serves until a graceful shutdown or `stop`, and stops.
    package func run() async throws {
        if !state.withLock({ $0.isStarted }) { try await start() }
        await withGracefulShutdownHandler {
            for await _ in stopped {}
        } onGracefulShutdown: {
            Task { await self.stop() }
        }
        await stop()
    }
}
