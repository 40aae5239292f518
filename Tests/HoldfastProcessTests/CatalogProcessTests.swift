import Foundation
import HoldfastTestSupport
import Testing

/// A PostgreSQL of the test's own, stopped and started under running backups.
@Suite("The catalog as a bystander", .serialized)
struct CatalogProcessTests {
    private func cluster(_ uri: String) throws -> TestCluster {
        try TestCluster(settings: "catalog: {uri: \"\(uri)\"}")
    }

    @Test("S12: the catalog is stopped during a backup: the backup succeeds, and the fact is delivered later")
    func stoppedAndStarted() throws {
        let server = try PostgresServer()
        try server.makeDatabase("catalog")
        let cluster = try cluster(server.socketURI("catalog"))
        try cluster.expect(["catalog", "migrate"])
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.fill(100, bytes: 40_000)
        try cluster.expect(["backup", "--label", "before"])
        // Without an agent only the commands deliver.
        try cluster.expect(["catalog", "flush"])
        func known() throws -> [String] {
            try server.psql("catalog", "SELECT id FROM holdfast.backup WHERE state = 'complete' ORDER BY id")
                .split(separator: "\n").map(String.init)
        }
        #expect(try known() == cluster.backupIDs())
        #expect(try known().count == 1)
        let running = try cluster.launch(["backup", "--label", "during", "--max-rate", "2MiB"])
        try waitUntil("pages are copied", while: running) { running.errors.contains("copying") }
        server.stop()
        #expect(running.wait() == 0, "\(running.errors)")
        #expect(try cluster.backups().last?["label"] as? String == "during")
        let away = try cluster.run(["catalog", "status", "--format", "json"])
        #expect(away.status == 69, "\(away.errors)\(away.output)")
        #expect(away.output.contains("\"facts\""))
        let flush = try cluster.run(["catalog", "flush"])
        #expect(flush.status == 69, "\(flush.errors)")
        #expect(flush.errors.contains("hint:"), "\(flush.errors)")
        try server.start()
        try cluster.expect(["catalog", "flush"])
        #expect(try known() == cluster.backupIDs())
        #expect(try known().count == 2)
        // What somebody deleted comes back from the repository.
        try server.psql("catalog", "DELETE FROM holdfast.backup")
        #expect(try known() == [])
        try cluster.expect(["catalog", "rebuild"])
        #expect(try known() == cluster.backupIDs())
        #expect(try known().count == 2)
        let status = try cluster.json(["catalog", "status"])
        #expect(status["ok"] as? Bool == true)
        #expect(cluster.stopAgent() == 0)
        #expect(cluster.stopLeader() == 0)
    }

    /// Bytes of all archives of backups that are in the repository, finished or not.
    private func archiveBytes(_ cluster: TestCluster) throws -> Int {
        let directory = cluster.repository + "/main/backups"
        return try FileManager.default.subpathsOfDirectory(atPath: directory).reduce(0) { sum, name in
            var status = stat()
            return sum
                + (name.contains("base-") && stat(directory + "/" + name, &status) == 0 ? Int(status.st_size) : 0)
        }
    }

    @Test("S12: the catalog goes and comes back while a backup copies: it succeeds, and each fact arrives once")
    func awayDuringBackup() throws {
        let server = try PostgresServer()
        try server.makeDatabase("catalog")
        let cluster = try cluster(server.socketURI("catalog"))
        try cluster.expect(["catalog", "migrate"])
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.fill(150, bytes: 40_000)
        try cluster.archivedPoint("before")
        let running = try cluster.launch(["backup", "--label", "during", "--max-rate", "2MiB"])
        try waitUntil("pages are copied", while: running) { running.errors.contains("copying") }
        // Held still while anything else is done, so that it is under way for certain all the time.
        running.signal(SIGSTOP)
        server.stop()
        let copied = try archiveBytes(cluster)
        running.signal(SIGCONT)
        try waitUntil("pages are copied without a catalog", while: running) { try archiveBytes(cluster) > copied }
        running.signal(SIGSTOP)
        // What happens meanwhile must not be lost either: WAL is archived, and its fact waits.
        try cluster.archivedPoint("away")
        let away = try cluster.run(["catalog", "status", "--format", "json"])
        #expect(away.status == 69, "\(away.errors)")
        let outbox = try JSONSerialization.jsonObject(with: Data(away.output.utf8)) as? [String: Any]
        #expect((outbox?["outbox"] as? [String: Any])?["facts"] as? Int ?? 0 > 0, "\(away.output)")
        try server.start()
        try server.psql("catalog", "SELECT 1")
        #expect(!running.errors.contains("copied"), "the backup was over before the catalog came back")
        running.signal(SIGCONT)
        #expect(running.wait() == 0, "\(running.errors)")
        let ids = try cluster.backupIDs()
        #expect(ids.count == 1)
        try cluster.archivedPoint("after")

        /// What the catalog holds of the repository.
        func held() throws -> [String] {
            try [
                "SELECT id, state, start_lsn, stop_lsn, bytes FROM holdfast.backup ORDER BY id",
                "SELECT backup, path, bytes, sha256 FROM holdfast.backup_archive ORDER BY path",
                "SELECT timeline, start_lsn, end_lsn FROM holdfast.wal_range ORDER BY start_lsn",
            ].map { try server.psql("catalog", $0) }
        }
        // Nobody asks for it: the agent delivers.
        let archived = try #require(try cluster.field("archived_lsn", of: ["status"]))
        try waitUntil("the backup and the WAL are in the catalog", while: cluster.agent) {
            let backup = try server.psql("catalog", "SELECT id FROM holdfast.backup WHERE state = 'complete'")
            let reached = try server.psql(
                "catalog", "SELECT count(*) FROM holdfast.wal_range WHERE end_lsn >= '\(archived)'")
            return backup == ids[0] && reached == "1"
        }
        #expect(cluster.stopAgent() == 0)
        try cluster.expect(["catalog", "flush"])
        let events = try server.psql(
            "catalog", "SELECT count(*) FROM holdfast.event WHERE kind = 'backup' AND object = '\(ids[0])'")
        #expect(events == "1")
        let delivered = try held()
        #expect(delivered[2].split(separator: "\n").count == 1, "there is a gap: \(delivered[2])")
        // Neither more nor less than what a look at the whole repository finds.
        try server.psql("catalog", "TRUNCATE holdfast.backup, holdfast.backup_archive, holdfast.wal_range")
        try cluster.expect(["catalog", "rebuild"])
        #expect(try held() == delivered)
        #expect(cluster.stopLeader() == 0)
    }

    @Test("bad addresses, passwords and schemas: the right status of each command, the way out, and no secret")
    func badCatalogs() throws {
        let server = try PostgresServer.shared.get()
        try server.makeDatabase("newer")
        let port = try TestCluster.freePort()
        let secret = "a-secret-nobody-prints"
        let away = "postgresql://u@127.0.0.1:\(port)/x?sslmode=disable"
        let cluster = try cluster(away)
        let file = cluster.root + "/password"
        try Data(secret.utf8).write(to: URL(filePath: file))
        chmod(file, 0o600)
        let saved = try String(contentsOfFile: cluster.configuration, encoding: .utf8)
        func use(_ uri: String, password: Bool = false) throws {
            let more = password ? ", password_file: \(file)" : ""
            try saved.replacing("catalog: {uri: \"\(away)\"}", with: "catalog: {uri: \"\(uri)\"\(more)}").write(
                toFile: cluster.configuration, atomically: true, encoding: .utf8)
        }
        let bad: [(String, Bool, Int32)] = [
            ("nonsense://x/y", false, 78), (away, false, 69), (server.tcpURI("newer"), true, 77),
            (server.socketURI("no_such_database"), false, 78),
        ]
        func expect(_ command: String, _ status: Int32, _ words: [String] = [], uri: String) throws {
            let result = try cluster.run(["catalog", command])
            #expect(result.status == status, "\(uri) \(command): \(result.status) \(result.errors)")
            #expect(result.errors.contains("hint:"), "\(uri) \(command): \(result.errors)")
            for word in words { #expect(result.errors.contains(word), "\(uri) \(command): \(result.errors)") }
            #expect(!(result.errors + result.output).contains(secret))
        }
        // Before there is a repository, too.
        for (uri, password, status) in bad {
            try use(uri, password: password)
            for command in ["migrate", "flush", "rebuild"] { try expect(command, status, uri: uri) }
        }
        // With one, and facts that wait for the catalog.
        try use(away)
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.load("a\t1\n")
        try cluster.expect(["backup"])
        #expect(cluster.stopAgent() == 0)
        func waiting() throws -> Int? {
            let result = try cluster.run(["catalog", "status", "--format", "json"])
            let object = try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any]
            return (object?["outbox"] as? [String: Any])?["facts"] as? Int
        }
        let facts = try #require(try waiting())
        #expect(facts > 0)
        for (uri, password, status) in bad {
            try use(uri, password: password)
            for command in ["migrate", "flush", "rebuild"] { try expect(command, status, uri: uri) }
            try use(away)
            #expect(try waiting() == facts, "\(uri): a fact was lost")
        }
        let newer = server.socketURI("newer")
        try use(newer)
        try cluster.expect(["catalog", "migrate"])
        try server.psql(
            "newer",
            """
            INSERT INTO holdfast.schema_migration
            SELECT (jsonb_populate_record(m, '{"version": 999}')).* FROM holdfast.schema_migration m
            ORDER BY version DESC LIMIT 1
            """)
        for command in ["migrate", "flush", "rebuild"] { try expect(command, 65, ["999"], uri: newer) }
        #expect(try waiting() == facts)
        // No fault of the backup.
        try cluster.startAgent()
        try cluster.load("b\t2\n")
        try cluster.expect(["backup"])
        #expect(cluster.stopAgent() == 0)
        #expect(try waiting() ?? 0 > facts)
        // Nothing was lost: the schema is ours again, and everything arrives.
        try server.psql("newer", "DELETE FROM holdfast.schema_migration WHERE version = 999")
        try cluster.expect(["catalog", "flush"])
        #expect(try waiting() == 0)
        #expect(
            try server.psql("newer", "SELECT id FROM holdfast.backup WHERE state = 'complete' ORDER BY id")
                .split(separator: "\n").map(String.init) == cluster.backupIDs())
    }
}
