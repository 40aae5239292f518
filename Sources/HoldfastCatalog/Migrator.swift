import HoldfastCore
import HoldfastSQL

/// What `migrate` did.
package struct MigrationReport: Sendable, Equatable {
    /// Before and after.
    package var from: Int
    package var to: Int
    /// `schema`, `views` …: what was applied now, in order.
    package var applied: [String]
    /// Group roles that are not there because the user who migrated may not create roles. Their grants are left out
    /// until somebody creates them and migrates again.
    package var missingRoles: [String]
}

/// Brings the schema up to this binary's version: each migration in one transaction, under one advisory lock, so that
/// any number of migrators at once do each step once.
struct Migrator {
    let connection: CatalogConnection
    var migrations = CatalogSQL.migrations

    /// The newest version this binary knows.
    static var knownVersion: Int { CatalogSQL.migrations.count }

    func migrate() throws(CatalogError) -> MigrationReport {
        let before = try version()
        var applied: [String] = []
        guard before <= migrations.count else { throw .newerSchema(found: before, known: migrations.count) }
        for migration in migrations where try apply(migration) { applied.append(migration.name) }
        try connection.transaction { () throws(CatalogError) in
            try connection.run("lock_migrations")
            try connection.run(script: CatalogSQL.prepare, name: "prepare.sql")
            try connection.run(script: CatalogSQL.grants, name: "grants.sql")
        }
        let missing = try connection.run("missing_roles")
        return MigrationReport(
            from: before, to: try version(), applied: applied,
            missingRoles: (0..<missing.count).compactMap { missing[$0, 0] })
    }

    /// The schema's version; 0 when there is none.
    func version() throws(CatalogError) -> Int {
        guard try connection.run("has_schema")[0, 0] == "t" else { return 0 }
        return Int(try connection.run("schema_version")[0, 0] ?? "") ?? 0
    }

    /// `true` when it was applied now.
    private func apply(_ migration: CatalogSQL.Migration) throws(CatalogError) -> Bool {
        try connection.transaction { () throws(CatalogError) in
            // What others have applied is looked at behind the lock only.
            try connection.run("lock_migrations")
            let there = try connection.run("has_schema")[0, 0] == "t" ? connection.run("applied_migrations") : nil
            let found = there?.count ?? 0
            guard found <= migrations.count else { throw .newerSchema(found: found, known: migrations.count) }
            if let there, migration.version <= found {
                let digest = try connection.run("digest", [migration.text])[0, 0]
                guard there[migration.version - 1, 2] == digest else {
                    throw .otherMigration(version: migration.version, name: migration.name)
                }
                return false
            }
            try connection.run(script: CatalogSQL.prepare, name: "prepare.sql")
            try connection.run(script: migration.text, name: "migration \(migration.version)")
            try connection.run(
                "record_migration", [String(migration.version), migration.name, migration.text])
            return true
        }
    }
}
