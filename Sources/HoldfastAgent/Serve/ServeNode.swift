import Foundation
import Glibc
import HoldfastCore
import HoldfastEngine
import HoldfastReplica
import HoldfastRepository
import HoldfastServer
import HoldfastWAL
import HoldfastWire
import Logging
import ServiceLifecycle

/// `holdfast serve`: opens the data directory, replays what must be replayed, and serves it until it is told to stop.
///
/// Order of the start: the configuration is whole, and lets nobody in who should stay out; the archive agrees with the directory; the engine has its lock and
/// has recovered; only then is anything listened to. Order of the stop: connections end, then the last checkpoint is
/// taken and the lock released.
package struct ServeNode: Sendable {
    private let configuration: Configuration
    private let isWithoutArchive: Bool
    private let verifiesWAL: Bool
    private let verifiesContent: Bool
    private let isInsecure: Bool
    private let log: Logger

    /// - Parameters:
    ///   - isWithoutArchive: `--no-archive`: neither reads nor feeds the repository.
    ///   - verifiesWAL: `--verify-wal`: redo of each commit is compared with its pages before it is logged.
    ///   - verifiesContent: `--verify`: a follower serves nothing before it was compared with its leader.
    ///   - isInsecure: `--insecure`: everybody may do everything, on any address.
    package init(
        _ configuration: Configuration, isWithoutArchive: Bool, verifiesWAL: Bool = false,
        verifiesContent: Bool = false, isInsecure: Bool = false, log: Logger
    ) {
        self.configuration = configuration
        self.isWithoutArchive = isWithoutArchive
        self.verifiesWAL = verifiesWAL
        self.verifiesContent = verifiesContent
        self.isInsecure = isInsecure
        self.log = log
    }

    package func run() async throws {
        Self.raiseDescriptorLimit()
        let data = WorkingDirectory.absolute(try configuration.requiredData())
        try LeaderServer.check(serverConfiguration())
        let disk = try RealDisk(root: data)
        let start = try NodeStart(configuration, disk, isWithoutArchive: isWithoutArchive, log: log)
        var options = EngineOptions(
            cacheBytes: configuration.server.cacheBytes, versionBytes: configuration.server.versionBytes,
            transactionBytes: configuration.server.transactionBytes,
            checkpointWALBytes: configuration.server.checkpointWALBytes,
            checkpointSeconds: Swift.max(1, configuration.server.checkpointEvery / 1000))
        options.archiving = start.isArchiving
        options.instance = Self.instance(of: data)
        options.slotWALBytes = configuration.server.slotWALBytes
        options.verifiesRedo = verifiesWAL
        if verifiesWAL { log.notice("redo of every commit is verified: writes take longer") }
        let engine: Engine
        do {
            engine = try await start.open(disk, options)
        } catch let error as EngineError {
            guard case .stoppedAtTarget(let target, let lsn) = error else { throw error }
            // What `--target-action shutdown` asks for.
            log.notice(
                "the recovery target is reached, and the node ends", metadata: ["target": "\(target)", "lsn": "\(lsn)"])
            return
        }
        let result: Result<Void, any Error>
        do {
            try await serve(engine, disk, start, data)
            result = .success(())
        } catch {
            result = .failure(error)
        }
        log.info("closing: a last checkpoint is taken")
        try await BlockingWork.run("close") { try engine.close() }
        try result.get()
        log.info("stopped")
    }

    private func serve(_ engine: Engine, _ disk: RealDisk, _ start: NodeStart, _ data: String) async throws {
        var settings = RuntimeSettings(
            checkpointBytes: configuration.server.checkpointWALBytes,
            checkpointSeconds: Double(configuration.server.checkpointEvery) / 1000,
            archiveTimeoutSeconds: configuration.archive.timeout.map { Double($0) / 1000 },
            logLevel: configuration.logLevel.rawValue)
        settings.synchronous = configuration.synchronous
        let composition = NodeComposition(engine, disk, settings: settings, isArchiving: start.isArchiving, log: log)
        let content = ContentGate()
        let verification = try verification(engine, disk, content)
        composition.content = content
        let server = try LeaderServer(
            engine: engine, configuration: serverConfiguration(), settings: settings,
            identity: ServerIdentity(version: HoldfastVersion.text, data: data), composition: composition,
            content: content, logger: log)
        var services: [ServiceGroupConfiguration.ServiceConfiguration] = [
            .init(service: server, successTerminationBehavior: .gracefullyShutdownGroup)
        ]
        let elected = try elect(engine, composition, &services)
        if engine.isFollower {
            let stream = StreamService(engine: engine, configuration: configuration, elected: elected, log: log)
            services.append(.init(service: stream))
        }
        if let verification {
            services.append(.init(service: verification, failureTerminationBehavior: .gracefullyShutdownGroup))
        }
        // A copy neither archives nor yields to claims: it is nothing to the repository.
        if start.isArchiving {
            services.append(.init(service: SegmentSwitcher(engine: engine, composition: composition, log: log)))
            let watch = ClaimWatch(
                configuration: configuration, system: engine.status.systemIdentifier, disk: disk, engine: engine,
                log: log)
            services.append(.init(service: watch, failureTerminationBehavior: .gracefullyShutdownGroup))
        }
        let group = ServiceGroup(
            configuration: .init(
                services: services, gracefulShutdownSignals: [.sigterm, .sigint], logger: log))
        composition.onShutdown { Task { await group.triggerGracefulShutdown() } }
        let hangUp = HangUpSignal { server.reload() }
        defer { hangUp.cancel() }
        try await group.run()
    }

    /// Closes the gate of a follower that is to be verified. Nobody is served yet, and nothing else writes the signal.
    private func verification(
        _ engine: Engine, _ disk: RealDisk, _ gate: ContentGate
    ) throws -> ContentVerification? {
        guard let follower = engine.logFollower else {
            if verifiesContent { log.notice("this node leads: there is nothing to compare its content with") }
            return nil
        }
        guard verifiesContent || follower.signal.isToBeVerified else { return nil }
        if !follower.signal.isToBeVerified {
            var signal = follower.signal
            signal.isToBeVerified = true
            try disk.replaceAtomically(StandbySignal.fileName, with: signal.encoded)
        }
        gate.set(.pending(problem: nil))
        log.notice("nothing is served before the content was compared with the leader's")
        return ContentVerification(engine: engine, disk: disk, gate: gate, server: configuration.server(at:), log: log)
    }

    /// With `failover:` nothing is written before the leader's key is this node's, and what a follower streams from is
    /// whoever has it.
    private func elect(
        _ engine: Engine, _ composition: NodeComposition,
        _ services: inout [ServiceGroupConfiguration.ServiceConfiguration]
    ) throws -> LeaderList? {
        guard let settings = configuration.failover else { return nil }
        engine.fence()
        composition.isElected = true
        let leaders = LeaderList([], isFixed: false)
        let failover = FailoverService(
            settings: settings, access: try settings.access(), cluster: try configuration.requiredCluster(),
            engine: engine, composition: composition, leaders: leaders,
            node: try settings.ownNode(),
            address: settings.address ?? advertisedAddress(), server: configuration.server(at:), log: log)
        // The first to begin is the last to stop: clients are answered until then, on this lease.
        services.insert(.init(service: failover, failureTerminationBehavior: .gracefullyShutdownGroup), at: 0)
        return leaders
    }

    /// Where others reach this node: other machines if they can, else those on this one, who may stream on the socket only.
    private func advertisedAddress() -> WireAddress {
        let server = serverConfiguration()
        if let listen = server.listen, !listen.isLoopback { return listen }
        return server.socket.map { .unix(path: WorkingDirectory.absolute($0)) } ?? server.listen
            ?? ServerSettings.defaultListen
    }

    /// Which directory on which host: a copy of it, there or elsewhere, is another instance.
    private static func instance(of data: String) -> String {
        var status = stat()
        guard stat(data, &status) == 0 else { return "" }
        let machine = (try? String(contentsOfFile: "/etc/machine-id", encoding: .utf8))?.trimmingCharacters(
            in: .whitespacesAndNewlines)
        return "\(ProcessInfo.processInfo.hostName) \(machine ?? "-") \(status.st_dev):\(status.st_ino)"
    }

    /// The system's default of 1,024 is for processes that serve nobody.
    private static func raiseDescriptorLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = Swift.min(limit.rlim_max, 65_536)
        _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    private static func descriptorLimit() -> Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 }
        return Int(clamping: limit.rlim_cur)
    }

    private func serverConfiguration() -> ServerConfiguration {
        var server = ServerConfiguration()
        server.socket = configuration.server.socket
        if server.socket == nil, case .unix(let path)? = configuration.leader { server.socket = path }
        // Clients must not take the descriptors that the log, the pages and the archive need.
        server.maximumConnections = Swift.max(16, Swift.min(server.maximumConnections, Self.descriptorLimit() - 256))
        server.tls = configuration.server.tls
        server.usersFile = configuration.server.usersFile
        server.requiresUser = configuration.server.requiresUser
        server.isInsecure = isInsecure
        server.listen = configuration.server.listen ?? (server.socket == nil ? ServerSettings.defaultListen : nil)
        return server
    }
}
