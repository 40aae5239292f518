import Glibc
import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWire
import Logging
import Synchronization

@testable import HoldfastServer

/// An engine and its server in this process, with what the composition was told.
final class ServedEngine: ServerComposition {
    let directory: TemporaryDirectory
    let engine: Engine
    let server: LeaderServer
    let addresses: LeaderServer.Addresses
    let content = ContentGate()
    private let told: Told

    /// What the composition hears.
    final class Told: ServerComposition {
        let shutdowns = Atomic(0)
        let settings = Mutex<RuntimeSettings?>(nil)
        let electableNodes = Mutex<Set<String>?>(nil)
        var electable: Set<String>? { electableNodes.withLock { $0 } }
        let onApply = Mutex<(@Sendable () -> Void)?>(nil)
        func promote(_ options: PromotionOptions) throws -> [(name: String, value: WireValue)] {
            [("timeline", .integer(2))]
        }
        func archiveReport() -> ArchiveReport? { nil }
        func apply(_ new: RuntimeSettings) throws {
            onApply.withLock { $0 }?()
            settings.withLock { $0 = new }
        }
        func shutdown() { shutdowns.add(1, ordering: .relaxed) }
    }

    func promote(_ options: PromotionOptions) throws -> [(name: String, value: WireValue)] { try told.promote(options) }
    func archiveReport() -> ArchiveReport? { nil }
    func apply(_ settings: RuntimeSettings) throws { try told.apply(settings) }
    func shutdown() { told.shutdown() }
    var shutdowns: Int { told.shutdowns.load(ordering: .relaxed) }
    var appliedSettings: RuntimeSettings? { told.settings.withLock { $0 } }
    /// From now on only these followers count for synchronous writes.
    func setElectable(_ nodes: Set<String>?) { told.electableNodes.withLock { $0 = nodes } }
    /// Runs `body` whenever settings are applied, before they are.
    func onApply(_ body: @escaping @Sendable () -> Void) { told.onApply.withLock { $0 = body } }

    /// Who does the writes: the event loop at its turn's end, or the writer thread.
    enum Writes: CaseIterable {
        case onLoop
        case onThread

        func configure(_ configuration: inout ServerConfiguration) {
            configuration.loopSyncMicroseconds = self == .onLoop ? 1e9 : 0
        }
    }

    private init(
        _ disk: some Disk, directory: TemporaryDirectory, options: EngineOptions, configuration: ServerConfiguration
    ) async throws {
        self.directory = directory
        told = Told()
        engine = try Engine(opening: disk, options: options)
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        server = try LeaderServer(
            engine: engine, configuration: configuration,
            identity: ServerIdentity(version: "0.0-test", data: directory.path), composition: told,
            content: content, logger: logger)
        addresses = try await server.start()
    }

    /// Serves a new, empty engine, or one on `disk`, for as long as `body` runs.
    static func with<R>(
        _ writes: Writes = .onLoop, disk: SimulatedDisk? = nil, closing: Bool = true,
        options: EngineOptions = EngineOptions(cacheBytes: 16 << 20),
        configure: (inout ServerConfiguration) -> Void = { _ in }, _ body: (ServedEngine) async throws -> R
    ) async throws -> R {
        let directory = try TemporaryDirectory("holdfast-server")
        var configuration = ServerConfiguration()
        configuration.listen = .tcp(host: "127.0.0.1", port: 0)
        configuration.socket = directory.path + "/s.sock"
        // Tests wait for their turn while hundreds of others run: what says nothing for a while is not gone.
        configuration.followerTimeoutSeconds = 3600
        writes.configure(&configuration)
        configure(&configuration)
        let served: ServedEngine
        if let disk {
            served = try await ServedEngine(disk, directory: directory, options: options, configuration: configuration)
        } else {
            let path = directory.path + "/data"
            guard mkdir(path, 0o700) == 0 else {
                throw DiskError(operation: "mkdir", path: path, code: .init(rawValue: errno))
            }
            let real = try RealDisk(root: path)
            try Engine.initialize(real)
            served = try await ServedEngine(real, directory: directory, options: options, configuration: configuration)
        }
        let result: R
        do {
            result = try await body(served)
        } catch {
            await served.server.stop()
            try? served.engine.close()
            throw error
        }
        await served.server.stop()
        if closing { try served.engine.close() }
        return result
    }

    /// A client on loopback TCP, which may do little.
    func anonymous(_ version: WireVersion = .resp3) throws -> Client { try Client(addresses.tcp!, version) }

    /// A client on the socket, of this process' user.
    func administrator(_ version: WireVersion = .resp3) throws -> Client { try Client(addresses.unix!, version) }
}

/// A client whose commands are written as one line, and whose error replies are values. One thread at a time uses it.
struct Client: @unchecked Sendable {
    let wire: WireClient

    init(_ address: WireAddress, _ version: WireVersion = .resp3) throws {
        var options = WireClient.Options()
        options.version = version
        wire = try WireClient(to: address, options: options)
    }

    /// Sends words and returns the reply.
    @discardableResult
    func callAsFunction(_ words: String...) throws -> WireValue { try call(words.map { Array($0.utf8) }) }

    @discardableResult
    func call(_ arguments: [[UInt8]]) throws -> WireValue {
        wire.send(arguments)
        return try wire.receive()
    }

    /// One request for each line, words parted by blanks, all sent at once.
    func pipeline(_ lines: [String]) throws -> [WireValue] {
        try wire.pipeline(lines.map { $0.split(separator: " ").map { Array($0.utf8) } })
    }
}

extension WireValue {
    /// A bulk string, for comparing.
    static func text(_ text: String) -> WireValue { .bulk(Array(text.utf8)) }
    static let ok = WireValue.simple("OK")

    var errorText: String? { if case .error(let text) = self { text } else { nil } }
}
