import Foundation
import HoldfastCore
import HoldfastSQL
import HoldfastTestSupport
import Testing

@testable import HoldfastCatalog

@Suite("The catalog's schema is made once, whoever migrates and however often")
struct MigrationTests {
    @Test("migrating again changes nothing")
    func idempotent() throws {
        let fixture = try CatalogFixture(migrated: false)
        let first = try fixture.catalog.migrate()
        #expect(first.from == 0 && first.to == Migrator.knownVersion)
        #expect(first.applied == CatalogSQL.migrations.map(\.name))
        #expect(first.missingRoles == [])
        let rows = try fixture.psql("SELECT version, applied_at FROM holdfast.schema_migration ORDER BY 1")
        let second = try fixture.catalog.migrate()
        #expect(second.applied == [] && second.from == Migrator.knownVersion)
        #expect(try fixture.psql("SELECT version, applied_at FROM holdfast.schema_migration ORDER BY 1") == rows)
        #expect(
            try fixture.psql(
                "SELECT count(*) FROM pg_tables WHERE schemaname = 'holdfast' AND tableowner <> 'holdfast_owner'")
                == "0")
    }

    @Test("eight migrators at once apply each migration once")
    func concurrent() async throws {
        let fixture = try CatalogFixture(migrated: false)
        let catalog = fixture.catalog
        let reports = try await withThrowingTaskGroup(of: MigrationReport.self) { group in
            for _ in 0..<8 { group.addTask { try await Catalog.onOwnThread { try catalog.migrate() } } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(reports.flatMap(\.applied).sorted() == CatalogSQL.migrations.map(\.name).sorted())
        #expect(reports.allSatisfy { $0.to == Migrator.knownVersion })
    }

    @Test("a migration that fails leaves nothing of itself")
    func atomic() throws {
        let fixture = try CatalogFixture()
        let next = Migrator.knownVersion + 1
        let half = "CREATE TABLE holdfast.half ();"
        let failing = [
            CatalogSQL.Migration(version: next, name: "bad", text: half + "SELECT 1 / 0;"),
            // Its text is good, and recording it fails.
            CatalogSQL.Migration(version: next, name: "bad\u{0}", text: half),
        ]
        for bad in failing {
            let error = try catalogError {
                let connection = try CatalogConnection(CatalogSettings(uri: fixture.server.socketURI(fixture.database)))
                _ = try Migrator(connection: connection, migrations: CatalogSQL.migrations + [bad]).migrate()
            }
            #expect(error.diagnosis.status == .dataError)
        }
        #expect(try fixture.psql("SELECT to_regclass('holdfast.half') IS NULL") == "t")
        #expect(try fixture.psql("SELECT max(version) FROM holdfast.schema_migration") == "\(Migrator.knownVersion)")
    }

    @Test("a schema of a newer version is refused and nothing is written")
    func newer() throws {
        let fixture = try CatalogFixture()
        let newer = Migrator.knownVersion + 1
        _ = try fixture.psql(
            "INSERT INTO holdfast.schema_migration VALUES (\(newer), 'future', repeat('0', 64), now(), 'me')")
        fixture.source.set("b1", .complete(1, 2))
        try fixture.add(.backup, "b1")
        for attempt in [{ _ = try fixture.catalog.migrate() }, { _ = try fixture.flush() }] {
            let error = try catalogError(attempt)
            #expect(error == .newerSchema(found: newer, known: Migrator.knownVersion))
            #expect(error.diagnosis.status == .dataError)
        }
        #expect(try fixture.catalog.status(fixture.outbox).problem == .newerSchema(found: newer, known: newer - 1))
        #expect(try fixture.psql("SELECT count(*) FROM holdfast.event") == "0")
        #expect(try fixture.outbox.contents().facts == 1)
    }

    @Test("facts wait for a schema that is not there yet, and the error names the command that makes it")
    func older() throws {
        let fixture = try CatalogFixture(migrated: false)
        fixture.source.set("b1", .complete(1, 2))
        try fixture.add(.backup, "b1")
        let error = try catalogError { _ = try fixture.flush() }
        #expect(error.diagnosis.status == .configuration)
        #expect(error.diagnosis.next == "run holdfast catalog migrate")
        _ = try fixture.catalog.migrate()
        #expect(try fixture.flush().delivered == 1)
    }

    @Test("a migration that was applied with other text is named")
    func otherText() throws {
        let fixture = try CatalogFixture()
        _ = try fixture.psql("UPDATE holdfast.schema_migration SET sha256 = repeat('f', 64) WHERE version = 1")
        let error = try catalogError { _ = try fixture.catalog.migrate() }
        #expect(error == .otherMigration(version: 1, name: "schema"))
    }

    @Test("every statement is one that the schema understands")
    func statements() throws {
        let fixture = try CatalogFixture()
        for name in Statements.names {
            let sql = Statements.text(name)
            let isCommand = ["BEGIN", "COMMIT", "ROLLBACK"].contains { sql.hasPrefix($0) }
            if !isCommand { _ = try fixture.psql("PREPARE p AS \(sql)") }
        }
        #expect(Statements.names.count > 25)
    }
}

@Suite("Roles may do what they should and no more")
struct RoleTests {
    let fixture: CatalogFixture
    let user = "u_" + UUID().uuidString.lowercased().replacing("-", with: "")

    init() throws {
        fixture = try CatalogFixture()
        fixture.source.set("b1", .complete(1, 2))
        fixture.source.set(.first, TimelineRow(wal: [WALRange(start: segment(1), end: segment(9))]))
    }

    private func makeUser(_ name: String, in role: String) throws {
        let member = role.isEmpty ? "" : "IN ROLE \(role)"
        _ = try fixture.psql("CREATE ROLE \(name) LOGIN PASSWORD '\(PostgresServer.password)' \(member)")
    }

    @Test("the agent's role delivers, rebuilds and reads, and can neither migrate nor rewrite history")
    func agent() throws {
        try makeUser(user, in: "holdfast_agent")
        let passwords = fixture.temporary.path + "/password"
        try writeFile(passwords, PostgresServer.password + "\n", mode: 0o600)
        let catalog = CatalogFixture.catalog(
            fixture.server.tcpURI(fixture.database, user: user), passwordFile: passwords)
        try fixture.add(.backup, "b1")
        try fixture.add(.timeline, "00000001")
        try fixture.add(.cluster, "main")
        try fixture.outbox.add(
            Fact(cluster: "main", node: "n1", NodeReport(role: .leader, lsn: segment(3)), occurredAt: at(5)))
        var restore = RestoreReport(backup: "b1", target: "latest", outcome: .unpacked)
        restore.bytes = 5
        try fixture.outbox.add(Fact(cluster: "main", restore: restore, occurredAt: at(6)))
        let report = try catalog.flush(fixture.outbox, from: fixture.source)
        #expect(report.delivered == 5 && report.failures.isEmpty)
        fixture.source.set("b1", nil)
        fixture.source.set(.first, nil)
        #expect(try catalog.rebuild(from: fixture.source, outbox: fixture.outbox).map(\.backups) == [0])
        #expect(try catalog.recoveryWindows() == [])
        #expect(try catalog.health().map(\.problems) == ["no complete backup"])
        for forbidden in [
            "DELETE FROM holdfast.event", "UPDATE holdfast.event SET kind = 'x'", "DELETE FROM holdfast.cluster",
            "DELETE FROM holdfast.restore", "CREATE TABLE holdfast.t ()", "DROP VIEW holdfast.wal_gap",
            "INSERT INTO holdfast.schema_migration VALUES (99, 'x', repeat('0', 64), now(), 'me')",
        ] {
            #expect(throws: PostgresServer.Failure.self, "\(forbidden)") { try fixture.psql(forbidden, user: user) }
        }
    }

    @Test("a reader reads everything and writes nothing")
    func reader() throws {
        try makeUser(user, in: "holdfast_reader")
        let tables = try fixture.psql(
            "SELECT relname FROM pg_class WHERE relnamespace = 'holdfast'::regnamespace AND relkind IN ('r', 'v')")
        let names = tables.split(separator: "\n")
        #expect(names.count == 13)
        for name in names {
            _ = try fixture.psql("SELECT * FROM holdfast.\(name)", user: user)
            #expect(throws: PostgresServer.Failure.self, "\(name)") {
                try fixture.psql("DELETE FROM holdfast.\(name)", user: user)
            }
        }
        let error = try catalogError {
            _ = try CatalogFixture.catalog(fixture.server.socketURI(fixture.database)).migrate()
            try fixture.add(.backup, "b1")
            let passwords = fixture.temporary.path + "/password"
            try writeFile(passwords, PostgresServer.password, mode: 0o600)
            let uri = fixture.server.tcpURI(fixture.database, user: user)
            let report = try CatalogFixture.catalog(uri, passwordFile: passwords).flush(
                fixture.outbox, from: fixture.source)
            if let failure = report.failures.first { throw failure.error }
        }
        #expect(error.diagnosis.status == .permission)
        #expect(try fixture.outbox.contents().facts == 1)
    }

    @Test("a stranger reads nothing")
    func stranger() throws {
        try makeUser(user, in: "")
        #expect(throws: PostgresServer.Failure.self) { try fixture.psql("SELECT * FROM holdfast.backup", user: user) }
    }

    @Test("a member of the owner's role who is no superuser migrates, and what it makes belongs to that role")
    func owner() throws {
        try makeUser(user, in: "holdfast_owner")
        let database = "own_" + user
        try fixture.server.makeDatabase(database)
        try fixture.server.psql("postgres", "GRANT CREATE ON DATABASE \(database) TO holdfast_owner")
        let passwords = fixture.temporary.path + "/password"
        try writeFile(passwords, PostgresServer.password, mode: 0o600)
        let catalog = CatalogFixture.catalog(fixture.server.tcpURI(database, user: user), passwordFile: passwords)
        #expect(try catalog.migrate().to == Migrator.knownVersion)
        #expect(try catalog.migrate().applied == [])
        let owners = try fixture.server.psql(
            database, "SELECT DISTINCT relowner::regrole FROM pg_class WHERE relnamespace = 'holdfast'::regnamespace")
        #expect(owners == "holdfast_owner")
        let granted = try fixture.server.psql(
            database, "SELECT has_table_privilege('holdfast_agent', 'holdfast.backup', 'INSERT')")
        #expect(granted == "t")
    }

    @Test("one who may create nothing gets a refusal that says so")
    func powerless() throws {
        try makeUser(user, in: "")
        let database = "none_" + user
        try fixture.server.makeDatabase(database)
        let passwords = fixture.temporary.path + "/password"
        try writeFile(passwords, PostgresServer.password, mode: 0o600)
        let catalog = CatalogFixture.catalog(fixture.server.tcpURI(database, user: user), passwordFile: passwords)
        let error = try catalogError { _ = try catalog.migrate() }
        #expect(error.diagnosis.status == .permission)
    }
}

func writeFile(_ path: String, _ text: String, mode: mode_t) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    guard chmod(path, mode) == 0 else { throw Crash() }
}
