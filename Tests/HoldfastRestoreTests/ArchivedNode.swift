import Foundation
import HoldfastArchive
import HoldfastBackup
import HoldfastCore
import HoldfastEngine
import HoldfastReplica
import HoldfastRepository
import HoldfastRestore
import HoldfastServer
import HoldfastTestSupport
import HoldfastWAL
import HoldfastWire
import Logging

/// A leader in this process over real files, with its server on a unix socket, and a repository beside it.
final class ArchivedNode: Sendable {
    let directory: TemporaryDirectory
    let data: String
    let engine: Engine
    let repository: Repository
    let archive: WALArchive
    private let server: LeaderServer
    private let archiver: Archiver<RealDisk>

    var socket: String { directory.path + "/socket" }

    /// - Parameter shownData: a directory below the node's that the leader tells backups to be its data, instead of it.
    init(cacheBytes: Int = 8 << 20, shownData: String? = nil) async throws {
        directory = try TemporaryDirectory("holdfast-node")
        data = directory.path + "/data"
        try FileManager.default.createDirectory(atPath: data, withIntermediateDirectories: true)
        let system = try Engine.initialize(RealDisk(root: data))
        engine = try Engine(
            opening: RealDisk(root: data), options: EngineOptions(cacheBytes: cacheBytes, archiving: true))
        let store = PosixStore(root: directory.path + "/repository")
        repository = try Repository.openOrCreate(store, cluster: "main", systemIdentifier: system)
        archive = WALArchive(repository, tokenOfHistory: TimelineHistory.ownToken)
        let archive = archive
        archiver = Archiver(try RealDisk(root: data), connect: { archive })
        var configuration = ServerConfiguration()
        configuration.listen = nil
        configuration.socket = directory.path + "/socket"
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        var shown = data
        if let shownData {
            shown = directory.path + "/" + shownData
            try FileManager.default.createDirectory(atPath: shown, withIntermediateDirectories: true)
        }
        server = try LeaderServer(
            engine: engine, configuration: configuration, identity: ServerIdentity(version: "test", data: shown),
            composition: Alone(), logger: logger)
        try await server.start()
        archiver.start()
    }

    /// Nothing but the engine.
    private struct Alone: ServerComposition {
        func promote(_ options: PromotionOptions) throws -> [(name: String, value: WireValue)] { [] }
        func archiveReport() -> ArchiveReport? { ArchiveReport(queuedSegments: 0, queuedBytes: 0, archivedLSN: nil) }
        func apply(_ settings: RuntimeSettings) throws {}
        func shutdown() {}
    }

    func backup(_ codec: Codec = .zstd) throws -> BackupRecord {
        var request = BackupJob.Request(
            leader: WireServer(.unix(path: socket)), label: "test",
            archive: ArchiveOptions(compression: Compression(codec)))
        request.archivePatienceSeconds = 120
        return try BackupJob(repository, request).run()
    }

    /// Switches the segment and waits until everything is in the archive.
    func archiveEverything() throws {
        try engine.switchWAL()
        try archiver.archiveOnce()
    }

    func stop() async throws {
        await server.stop()
        archiver.stop()
        try engine.close()
    }

    /// Restores a copy and opens it at its target, for reads only. Close what it returns.
    func restored(to target: RecoveryTarget, isInclusive: Bool = true, number: Int) throws -> Engine {
        let path = directory.path + "/restored-\(number)"
        var request = RestoreRequest(data: path)
        request.target = target
        request.isInclusive = isInclusive
        request.action = .pause
        request.isCopy = true
        _ = try RestoreJob(repository, request).run()
        let signal = try RecoverySignal(decoding: Array(Data(contentsOf: URL(filePath: path + "/recovery.signal"))))
        var options = EngineOptions(cacheBytes: 8 << 20, archiving: false)
        options.recovery = try ArchiveRecoverySource(repository, hold: signal.hold)
        return try Engine(opening: RealDisk(root: path), options: options)
    }
}

extension Engine {
    /// Every record of every tree.
    func allRecords() throws -> [String: [[UInt8]: [UInt8]]] {
        try read { snapshot in
            var all: [String: [[UInt8]: [UInt8]]] = [:]
            for tree in try snapshot.trees() where tree.count > 0 {
                var records: [[UInt8]: [UInt8]] = [:]
                try snapshot.scan(tree.name) { key, value in
                    records[Array(key)] = Array(value)
                    return true
                }
                all[tree.name] = records
            }
            return all
        }
    }
}
