import HoldfastCore

/// What `catalog status` tells.
package struct CatalogStatus: Sendable {
    /// `nil` when the catalog can be used.
    package var problem: CatalogError?
    /// `host:port/database`; `nil` when not reached.
    package var place: String?
    /// 150004 for PostgreSQL 15.4.
    package var serverVersion: Int?
    /// 0: no schema yet.
    package var schemaVersion: Int?
    package var knownVersion: Int
    package var outbox: Outbox.Contents
}

/// A stretch of one timeline to which a cluster can be restored. Times are RFC 3339, UTC, with microseconds.
package struct FleetWindow: Sendable, Equatable {
    package var cluster: String
    package var timeline: UInt32
    package var backups: Int
    package var earliestBackup: String
    package var earliestLSN: String
    package var earliestAt: String?
    package var latestLSN: String
    package var latestAt: String?
}

/// A line of `holdfast.cluster_health`.
package struct FleetHealth: Sendable, Equatable {
    package var cluster: String
    package var systemIdentifier: String
    package var backups: Int
    package var lastFullAt: String?
    package var lastBackupAt: String?
    package var walGaps: Int
    package var timeline: UInt32?
    package var archivedLSN: String?
    /// Empty when all is well.
    package var problems: String
}

extension Catalog {
    /// Reachable or not, and what waits. Fails only when the outbox itself cannot be read.
    package func status(_ outbox: Outbox) throws(CatalogError) -> CatalogStatus {
        var status = CatalogStatus(knownVersion: Migrator.knownVersion, outbox: try outbox.contents())
        do throws(CatalogError) {
            try reading { connection throws(CatalogError) in
                status.place = connection.place
                status.serverVersion = connection.serverVersion
                let (found, known) = (try Migrator(connection: connection).version(), Migrator.knownVersion)
                status.schemaVersion = found
                if found > known { throw .newerSchema(found: found, known: known) }
                if found < known { throw .olderSchema(found: found, known: known) }
            }
        } catch {
            status.problem = error
        }
        return status
    }

    /// Every stretch to which some cluster of the fleet can be restored.
    package func recoveryWindows() throws(CatalogError) -> [FleetWindow] {
        try reading { connection throws(CatalogError) in
            let rows = try connection.run("fleet_windows")
            return (0..<rows.count).map { row in
                FleetWindow(
                    cluster: rows[row, 0] ?? "", timeline: rows[row, 1].flatMap { UInt32($0) } ?? 0,
                    backups: rows[row, 2].flatMap { Int($0) } ?? 0, earliestBackup: rows[row, 3] ?? "",
                    earliestLSN: rows[row, 4] ?? "", earliestAt: rows[row, 5], latestLSN: rows[row, 6] ?? "",
                    latestAt: rows[row, 7])
            }
        }
    }

    /// One line for each cluster of the fleet.
    package func health() throws(CatalogError) -> [FleetHealth] {
        try reading { connection throws(CatalogError) in
            let rows = try connection.run("fleet_health")
            return (0..<rows.count).map { row in
                FleetHealth(
                    cluster: rows[row, 0] ?? "", systemIdentifier: rows[row, 1] ?? "",
                    backups: rows[row, 2].flatMap { Int($0) } ?? 0, lastFullAt: rows[row, 3],
                    lastBackupAt: rows[row, 4], walGaps: rows[row, 5].flatMap { Int($0) } ?? 0,
                    timeline: rows[row, 6].flatMap { UInt32($0) }, archivedLSN: rows[row, 7],
                    problems: rows[row, 8] ?? "")
            }
        }
    }
}
