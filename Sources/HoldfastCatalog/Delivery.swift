import Foundation
import HoldfastCore

/// Brings facts from the outbox into the catalog.
///
/// For each fact, in one transaction: the cluster's advisory lock; *then* the repository is read; what is there is
/// written, with the `event` row whose unique fact says that it was done. The file goes after the commit. So:
/// - a crash before the commit leaves the fact, and nothing in the catalog;
/// - a crash after it leaves the fact, and the next delivery finds the event and only removes the file;
/// - two deliveries of one cluster take turns, and the later one has read what is newer: the order does not matter.
struct Delivery {
    /// The places between which a crash must be harmless; tests throw from them.
    enum Step: CaseIterable, Sendable { case locked, read, written, committed, removed }

    let connection: CatalogConnection
    let source: any CatalogSource
    var reached: (Step) throws -> Void = { _ in }

    /// `true` when the fact was written now, `false` when an earlier delivery had.
    func deliver(_ fact: Fact) throws(CatalogError) -> Bool {
        let written = try connection.transaction { () throws(CatalogError) in
            try connection.run("lock_cluster", [fact.cluster])
            try reach(.locked)
            guard try connection.run("has_event", [fact.id.uuidString])[0, 0] == "f" else { return false }
            let found = try write(fact)
            try record(fact, found: found)
            try reach(.written)
            return true
        }
        try reach(.committed)
        return written
    }

    /// Writes what the repository holds of the fact's object. `false` when it holds nothing.
    private func write(_ fact: Fact) throws(CatalogError) -> Bool {
        let cluster = try read { try source.cluster(fact.cluster) }
        if fact.kind == .restore, let report = fact.restore {
            try writeRestore(report, fact)
            return true
        }
        guard let cluster else { return false }
        try writeCluster(fact.cluster, cluster)
        switch fact.kind {
        case .cluster, .restore: return true
        case .backup:
            let backup = try read { try source.backup(fact.object, cluster: fact.cluster) }
            try reach(.read)
            return try writeBackup(fact.object, cluster: fact.cluster, backup)
        case .timeline:
            // The name was checked when the fact was made and when it was read.
            guard let timeline = TimelineID(name: fact.object) else { return false }
            let row = try read { try source.timeline(timeline, cluster: fact.cluster) }
            try reach(.read)
            return try writeTimeline(timeline, cluster: fact.cluster, row)
        case .node:
            guard let report = fact.node else { return false }
            try connection.run(
                "upsert_node",
                [
                    fact.cluster, fact.object, report.role.rawValue, report.address, report.dataDirectory,
                    report.timeline.map { String($0) }, report.lsn, text(fact.occurredAt),
                ])
            return true
        }
    }

    func record(_ fact: Fact, found: Bool) throws(CatalogError) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        // A dictionary of texts is always JSON.
        let detail = String(decoding: try! encoder.encode(fact.detail), as: UTF8.self)
        try connection.run(
            "insert_event",
            [
                fact.id.uuidString, fact.cluster, fact.kind.rawValue, fact.object, found ? "t" : "f", detail,
                text(fact.occurredAt),
            ])
    }

    func reach(_ step: Step) throws(CatalogError) {
        do { try reached(step) } catch { throw .source(Self.diagnosis(of: error)) }
    }

    /// A reading of the repository; its failure is told in its own words.
    func read<R>(_ body: () throws -> R) throws(CatalogError) -> R {
        do { return try body() } catch { throw .source(Self.diagnosis(of: error)) }
    }

    private static func diagnosis(of error: any Error) -> Diagnosis {
        if let error = error as? any DiagnosableError { return error.diagnosis }
        return Diagnosis(
            "the repository cannot be read for the catalog", why: printable(String(describing: error), limit: 400),
            next: "the fact stays in the outbox; run holdfast check", status: .inputOutput)
    }
}

func text(_ time: CatalogTime) -> String { String(time.microseconds) }
