import Foundation
import HoldfastCore
import HoldfastTestSupport
import Logging
import Synchronization

@testable import HoldfastCatalog

/// A database of its own on the shared server, an outbox, and a repository in memory.
struct CatalogFixture {
    let server: PostgresServer
    let database: String
    let catalog: Catalog
    let temporary: TemporaryDirectory
    let outbox: Outbox
    let source = MemorySource()

    init(
        migrated: Bool = true, server own: PostgresServer? = nil, maximumFacts: Int = 10_000,
        maximumBytes: Int = 16 << 20
    ) throws {
        server = try own ?? PostgresServer.shared.get()
        database = "test_" + UUID().uuidString.lowercased().replacing("-", with: "")
        try server.makeDatabase(database)
        catalog = Self.catalog(server.socketURI(database))
        temporary = try TemporaryDirectory("holdfast-outbox")
        outbox = try Outbox(
            directory: temporary.path + "/state/outbox", maximumFacts: maximumFacts, maximumBytes: maximumBytes)
        if migrated { _ = try catalog.migrate() }
    }

    static func catalog(_ uri: String, passwordFile: String? = nil, milliseconds: Int = 20_000) -> Catalog {
        Catalog(
            CatalogSettings(
                uri: uri, passwordFile: passwordFile, connectTimeoutMilliseconds: milliseconds,
                statementTimeoutMilliseconds: milliseconds),
            log: quiet)
    }

    static var quiet: Logger {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return logger
    }

    func psql(_ sql: String, user: String? = nil) throws -> String { try server.psql(database, sql, user: user) }
    func flush() throws -> Catalog.FlushReport { try catalog.flush(outbox, from: source) }

    func add(_ kind: Fact.Kind, _ object: String, cluster: String = "main") throws {
        try outbox.add(Fact(kind: kind, cluster: cluster, object: object, occurredAt: at(100)))
    }
}

/// Seconds after the start of 2026-11-24, UTC.
func at(_ seconds: Int64) -> CatalogTime { CatalogTime(microseconds: (1_795_478_400 + seconds) * 1_000_000) }

/// A segment's first position, in whole segments from the start of the log.
func segment(_ number: UInt64) -> LSN { SegmentNumber(number).start }

extension BackupRow {
    /// Complete, over segments `first` to `last` of `timeline`.
    static func complete(
        _ first: UInt64, _ last: UInt64, timeline: TimelineID = .first, parent: String? = nil
    ) -> BackupRow {
        var row = BackupRow(state: .complete, type: parent == nil ? "full" : "incr", parent: parent)
        row.timeline = timeline
        row.startLSN = segment(first) + 40
        row.stopLSN = segment(last) + 4000
        row.walFirst = SegmentName(timeline: timeline, segment: SegmentNumber(first))
        row.walLast = SegmentName(timeline: timeline, segment: SegmentNumber(last))
        row.startedAt = at(Int64(first))
        row.finishedAt = at(Int64(last) + 1)
        row.pages = 17
        row.bytes = 17 * 8192
        row.archiveBytes = 5000
        row.archives = [.init(path: "backups/x/base.tar.zst", bytes: 5000, sha256: String(repeating: "0a", count: 32))]
        return row
    }
}

/// A repository in memory. `beforeRead` sees every reading, and may throw.
final class MemorySource: CatalogSource, Sendable {
    struct Contents: Sendable {
        var clusters: [String: ClusterRow] = [:]
        var backups: [String: [String: BackupRow]] = [:]
        var timelines: [String: [TimelineID: TimelineRow]] = [:]
        var beforeRead: (@Sendable () throws -> Void)?
        var reads = 0
    }
    private let contents = Mutex(Contents())

    init() { edit { $0.clusters["main"] = ClusterRow(systemIdentifier: SystemIdentifier(rawValue: 77)) } }

    func edit(_ body: (inout sending Contents) -> Void) { contents.withLock { body(&$0) } }

    func set(_ id: String, _ row: BackupRow?, cluster: String = "main") {
        contents.withLock { $0.backups[cluster, default: [:]][id] = row }
    }

    func set(_ timeline: TimelineID, _ row: TimelineRow?, cluster: String = "main") {
        contents.withLock { $0.timelines[cluster, default: [:]][timeline] = row }
    }

    private func read() throws -> Contents {
        let now = contents.withLock { state in
            state.reads += 1
            return state
        }
        try now.beforeRead?()
        return contents.withLock { $0 }
    }

    func clusterNames() throws -> [String] { try read().clusters.keys.sorted() }
    func cluster(_ name: String) throws -> ClusterRow? { try read().clusters[name] }
    func backupIDs(cluster: String) throws -> [String] { try read().backups[cluster, default: [:]].keys.sorted() }
    func backup(_ id: String, cluster: String) throws -> BackupRow? { try read().backups[cluster]?[id] }
    func timelines(cluster: String) throws -> [TimelineID] { try read().timelines[cluster, default: [:]].keys.sorted() }
    func timeline(_ timeline: TimelineID, cluster: String) throws -> TimelineRow? {
        try read().timelines[cluster]?[timeline]
    }
}

struct Crash: Error {}

/// The error that `body` throws; a failure of the test when it throws none of the catalog's.
func catalogError(_ body: () throws -> Void) throws -> CatalogError {
    do { try body() } catch let error as CatalogError { return error }
    throw NoError()
}

struct NoError: Error, CustomStringConvertible { let description = "no error was thrown" }
