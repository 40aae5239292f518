import Foundation
import Glibc
import HoldfastCore
import HoldfastSQL
import Logging

/// The fleet's catalog in an external PostgreSQL: a copy for people and tools to query, never the source of truth.
///
/// Every call opens a session of its own, blocks within the settings' bounds whatever the server does, and must be made
/// on a thread that may block (`onOwnThread` makes one). A catalog that is down fails the call and nothing else: facts
/// stay in the `Outbox` and the next `flush` delivers them.
package final class Catalog: Sendable {
    private let settings: CatalogSettings
    private let log: Logger

    package init(_ settings: CatalogSettings, log: Logger) {
        self.settings = settings
        self.log = log
    }

    /// Brings the schema up to date. Any number at once, and again, is harmless.
    package func migrate() throws(CatalogError) -> MigrationReport {
        let report = try Migrator(connection: CatalogConnection(settings)).migrate()
        if !report.missingRoles.isEmpty {
            log.warning(
                "catalog roles are missing: migrate once as a user with CREATEROLE",
                metadata: ["roles": "\(report.missingRoles.joined(separator: ", "))"])
        }
        return report
    }

    /// What `flush` did.
    package struct FlushReport: Sendable {
        package var delivered = 0
        /// Facts that an earlier delivery had written; their files are gone now.
        package var alreadyThere = 0
        /// Facts still announced, or being delivered by another process.
        package var held = 0
        package var rebuilt: [RebuildReport] = []
        /// Facts that could not be delivered and stay: file and reason.
        package var failures: [(object: String, error: CatalogError)] = []
    }

    /// Delivers what waits. Clusters whose flag is raised are read whole first.
    ///
    /// A fact that the catalog or the repository refuses stays and does not hold up the others.
    /// - Throws: when the catalog cannot be used at all; what was delivered until then is gone from the outbox.
    package func flush(_ outbox: Outbox, from source: some CatalogSource) throws(CatalogError) -> FlushReport {
        try flush(outbox, from: source, reached: { _ in })
    }

    func flush(
        _ outbox: Outbox, from source: some CatalogSource, reached: @escaping (Delivery.Step) throws -> Void
    ) throws(CatalogError) -> FlushReport {
        var report = FlushReport()
        let waiting = try outbox.contents()
        guard waiting.facts > 0 || !waiting.reconcile.isEmpty else { return report }
        let delivery = Delivery(connection: try openForDelivery(), source: source, reached: reached)
        for name in try outbox.factNames() {
            do throws(CatalogError) {
                guard let taken = try outbox.take(name) else {
                    report.held += 1
                    continue
                }
                guard let fact = taken.fact else {
                    log.error("a damaged fact is dropped; its cluster is read whole", metadata: ["file": "\(name)"])
                    try outbox.discardDamaged(taken)
                    continue
                }
                if try delivery.deliver(fact) { report.delivered += 1 } else { report.alreadyThere += 1 }
                try outbox.remove(taken)
                try delivery.reach(.removed)
            } catch {
                if error.isAboutConnection { throw error }
                log.warning("a fact stays in the outbox", metadata: ["file": "\(name)", "error": "\(error)"])
                report.failures.append((name, error))
            }
        }
        for cluster in try outbox.contents().reconcile {
            do throws(CatalogError) {
                report.rebuilt.append(try rebuild(cluster, delivery, outbox))
            } catch {
                if error.isAboutConnection { throw error }
                log.warning(
                    "a cluster stays to be read whole", metadata: ["cluster": "\(cluster)", "error": "\(error)"])
                report.failures.append((Outbox.flagName(cluster), error))
            }
        }
        return report
    }

    /// Writes the whole repository's state, or that of the clusters named, and lowers the flags of what it read.
    package func rebuild(
        _ clusters: [String]? = nil, from source: some CatalogSource, outbox: Outbox
    ) throws(CatalogError) -> [RebuildReport] {
        let delivery = Delivery(connection: try openForDelivery(), source: source)
        var reports: [RebuildReport] = []
        let names: [String]
        if let clusters { names = clusters } else { names = try delivery.read { try source.clusterNames() } }
        for cluster in names {
            reports.append(try rebuild(cluster, delivery, outbox))
        }
        return reports
    }

    private func rebuild(
        _ cluster: String, _ delivery: Delivery, _ outbox: Outbox
    ) throws(CatalogError) -> RebuildReport {
        let flag = try outbox.flag(for: cluster)
        let report = try delivery.rebuild(cluster, at: Self.now())
        if let flag, try !outbox.lower(flag) {
            log.notice("the repository changed meanwhile: another reading is due", metadata: ["cluster": "\(cluster)"])
        }
        return report
    }

    /// A session with a schema that this binary can write.
    private func openForDelivery() throws(CatalogError) -> CatalogConnection {
        let connection = try CatalogConnection(settings)
        let (found, known) = (try Migrator(connection: connection).version(), Migrator.knownVersion)
        guard found <= known else { throw .newerSchema(found: found, known: known) }
        guard found == known else { throw .olderSchema(found: found, known: known) }
        return connection
    }

    static func now() -> CatalogTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return CatalogTime(microseconds: Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000)
    }

    /// `body` in a session for reading.
    func reading<R>(_ body: (CatalogConnection) throws(CatalogError) -> R) throws(CatalogError) -> R {
        try body(try CatalogConnection(settings))
    }

    /// Runs blocking work on a thread of its own, off the cooperative pool.
    package static func onOwnThread<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
        try await withCheckedThrowingContinuation { continuation in
            let thread = Thread { continuation.resume(with: Result { try body() }) }
            thread.name = "catalog"
            thread.start()
        }
    }
}
