import Foundation
import HoldfastCatalog
import HoldfastCore
import HoldfastRepository
import Logging

/// Turns what commands did into facts of the catalog: announced before a repository change, completed after it,
/// delivered when the catalog answers. Without a `catalog:` in the configuration nothing is kept.
///
/// Nothing here ever fails a backup or a restore: what goes wrong is logged.
package final class CatalogFacts: Sendable {
    package let outbox: Outbox
    private let catalog: Catalog
    private let source: RepositoryCatalogSource
    private let cluster: String
    private let log: Logger

    private static let begunNote = "outbox.begun"

    /// `nil` when the configuration has no catalog.
    package init?(_ configuration: Configuration, log: Logger) throws {
        guard let section = configuration.catalog else { return nil }
        cluster = try configuration.requiredCluster()
        self.log = log
        catalog = Catalog(
            HoldfastCatalog.CatalogSettings(uri: section.uri, passwordFile: section.passwordFile), log: log)
        let state = try RealDisk(root: AgentState.directory(configuration))
        outbox = try Outbox(directory: AgentState.directory(configuration, "outbox"))
        // The repository may be older than the catalog: it is read whole once. Noted behind the request, so that a crash
        // between the two repeats it.
        if try !state.exists(Self.begunNote) {
            try outbox.requestReconcile(cluster: cluster)
            try state.replaceAtomically(Self.begunNote, with: [])
        }
        source = RepositoryCatalogSource(store: PosixStore(root: try configuration.requiredRepository().path))
    }

    /// As `init`; an outbox that cannot be used is logged and not an error: what is to be told is in the repository, and
    /// `holdfast catalog rebuild` reads it there.
    package static func ifUsable(_ configuration: Configuration, log: Logger) -> CatalogFacts? {
        do {
            return try CatalogFacts(configuration, log: log)
        } catch {
            log.error(
                "the catalog's outbox cannot be used: nothing is told to the catalog",
                metadata: [
                    "error": "\(error)",
                    "remedy": "mend the state directory, restart the agent, then holdfast catalog rebuild",
                ])
            return nil
        }
    }

    /// As `init`, and a catalog that is missing is an error that says how to configure one.
    package static func required(_ configuration: Configuration, log: Logger) throws -> CatalogFacts {
        if let facts = try CatalogFacts(configuration, log: log) { return facts }
        throw ConfigurationError.missing(
            "catalog", why: "the command needs the external PostgreSQL",
            next: "give catalog: {uri: \"postgresql://USER@HOST/DATABASE\"} in the file")
    }

    /// Names a backup durably before its marker is created. End it with `complete`.
    package func announce(backup id: BackupID) -> Outbox.Announcement? {
        attempt("a backup cannot be announced to the catalog") {
            try outbox.announce(Fact(kind: .backup, cluster: cluster, object: id.description, occurredAt: Self.now))
        }
    }

    package func announce(timeline: TimelineID) -> Outbox.Announcement? {
        attempt("WAL cannot be announced to the catalog") {
            try outbox.announce(
                Fact(kind: .timeline, cluster: cluster, object: timeline.description, occurredAt: Self.now))
        }
    }

    package func complete(_ announcement: Outbox.Announcement?) {
        guard let announcement else { return }
        _ = attempt("a fact cannot be completed") { try outbox.complete(announcement) }
    }

    package func add(restore report: RestoreReport) {
        _ = attempt("a restore cannot be reported to the catalog") {
            try outbox.add(Fact(cluster: cluster, restore: report, occurredAt: Self.now))
        }
    }

    package func add(node: String, _ report: NodeReport) {
        _ = attempt("the node cannot be reported to the catalog") {
            try outbox.add(Fact(cluster: cluster, node: node, report, occurredAt: Self.now))
        }
    }

    /// Delivers what waits; `false` when the catalog cannot be used now. It blocks within the catalog's bounds.
    @discardableResult
    package func deliver() -> Bool {
        do {
            let report = try catalog.flush(outbox, from: source)
            if report.delivered > 0 || !report.rebuilt.isEmpty {
                log.info(
                    "catalog brought up to date",
                    metadata: ["facts": "\(report.delivered)", "rebuilt": "\(report.rebuilt.count)"])
            }
            return report.failures.isEmpty
        } catch {
            log.warning(
                "the catalog cannot be used now; facts wait in the outbox",
                metadata: ["error": "\(error.diagnosis.description.replacing("\n", with: "; "))"])
            return false
        }
    }

    private func attempt<R>(_ what: Logger.Message, _ body: () throws -> R) -> R? {
        do {
            return try body()
        } catch {
            log.error(what, metadata: ["error": "\(error)"])
            return nil
        }
    }

    static var now: CatalogTime { CatalogTime(microseconds: Timestamp.now.microseconds) }

    // MARK: The commands

    package func migrate() throws -> Report {
        let report = try catalog.migrate()
        var text = report.applied.isEmpty ? "schema is up to date: version \(report.to)\n" : ""
        for name in report.applied { text += "applied \(name)\n" }
        for role in report.missingRoles { text += "role \(role) is missing: migrate once as a user with CREATEROLE\n" }
        return Report(
            text: terminalSafe(text, keepingLines: true),
            json: [
                "schema_version": JSONValue(report.to), "previous_version": JSONValue(report.from),
                "applied": .array(report.applied.map { .string("\($0)") }),
                "missing_roles": .array(report.missingRoles.map { .string($0) }),
            ])
    }

    package func status() throws -> Report {
        let status = try catalog.status(outbox)
        let problem = status.problem?.diagnosis
        var text = "catalog    \(problem == nil ? "usable" : "not usable: \(problem!.description)")\n"
        if let place = status.place { text += "server     \(place)\n" }
        if let version = status.schemaVersion {
            text += "schema     \(version) (this release knows \(status.knownVersion))\n"
        }
        text += "outbox     \(status.outbox.facts) facts, \(Quantity.bytes(status.outbox.bytes))\n"
        if !status.outbox.reconcile.isEmpty {
            text += "to rebuild \(status.outbox.reconcile.joined(separator: ", "))\n"
        }
        return Report(
            text: terminalSafe(text, keepingLines: true),
            json: [
                "ok": .boolean(problem == nil), "problem": JSONValue(problem?.description),
                "server": JSONValue(status.place),
                "server_version": status.serverVersion.map { JSONValue($0) } ?? .null,
                "schema_version": status.schemaVersion.map { JSONValue($0) } ?? .null,
                "known_schema_version": JSONValue(status.knownVersion),
                "outbox": [
                    "facts": JSONValue(status.outbox.facts), "bytes": JSONValue(status.outbox.bytes),
                    "reconcile": .array(status.outbox.reconcile.map { .string($0) }),
                ],
            ], status: problem?.status ?? .done)
    }

    package func flush() throws -> Report {
        let report = try catalog.flush(outbox, from: source)
        var text = "delivered \(report.delivered) facts\n"
        if report.alreadyThere > 0 { text += "\(report.alreadyThere) were there already\n" }
        if report.held > 0 { text += "\(report.held) are still in the making\n" }
        for failure in report.failures { text += "\(failure.object): \(failure.error)\n" }
        return Report(
            text: terminalSafe(text, keepingLines: true),
            json: [
                "delivered": JSONValue(report.delivered), "already_there": JSONValue(report.alreadyThere),
                "held": JSONValue(report.held), "rebuilt": JSONValue(report.rebuilt.count),
                "failures": .array(
                    report.failures.map { ["object": .string($0.object), "problem": .string("\($0.error)")] }),
            ], status: report.failures.first?.error.diagnosis.status ?? .done)
    }

    package func rebuild() throws -> Report {
        let reports = try catalog.rebuild(from: source, outbox: outbox)
        let text = "rebuilt \(reports.count) cluster\(reports.count == 1 ? "" : "s")\n"
        return Report(text: text, json: ["clusters": JSONValue(reports.count)])
    }
}

/// The agent's state directory of one cluster, `STATE/CLUSTER/…`, made with mode 0700.
enum AgentState {
    static func directory(_ configuration: Configuration, _ name: String? = nil) throws -> String {
        var path = configuration.state
        try make(path)
        path += "/" + (try configuration.requiredCluster())
        try make(path)
        if let name {
            path += "/" + name
            try make(path)
        }
        return path
    }

    /// Makes `path` and its parents; durable, and private whatever the umask is.
    private static func make(_ path: String) throws(DiskError) {
        var status = stat()
        if stat(path, &status) == 0 { return }
        let parent = directoryPart(path)
        if !parent.isEmpty { try make(parent) }
        guard mkdir(path, 0o700) == 0 || errno == EEXIST else {
            throw DiskError(operation: "create directory", path: path, errno: errno)
        }
        try RealDisk(root: parent.isEmpty ? "/" : parent).syncDirectory("")
    }
}
