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

    @Test("bad addresses, passwords and schemas: the right status, the way out, and no secret")
    func badCatalogs() throws {
        let server = try PostgresServer.shared.get()
        try server.makeDatabase("newer")
        let port = try TestCluster.freePort()
        let secret = "a-secret-nobody-prints"
        for (uri, password, status) in [
            ("nonsense://x/y", nil, 78), ("postgresql://u@127.0.0.1:\(port)/x?sslmode=disable", nil, 69),
            (server.tcpURI("newer"), secret, 77), (server.socketURI("no_such_database"), nil, 78),
        ] as [(String, String?, Int32)] {
            let cluster = try cluster(uri)
            if let password {
                let file = cluster.root + "/password"
                try Data(password.utf8).write(to: URL(filePath: file))
                chmod(file, 0o600)
                var text = try String(contentsOfFile: cluster.configuration, encoding: .utf8)
                text = text.replacing("\(uri)\"}", with: "\(uri)\", password_file: \(file)}")
                try text.write(toFile: cluster.configuration, atomically: true, encoding: .utf8)
            }
            for command in ["migrate", "flush", "rebuild"] {
                let result = try cluster.run(["catalog", command])
                // Without a repository of the cluster there is nothing to flush, and no reason to connect.
                if command != "migrate" && result.status == 0 { continue }
                #expect(result.status == status, "\(uri) \(command): \(result.status) \(result.errors)")
                #expect(result.errors.contains("hint:"), "\(result.errors)")
                #expect(!result.errors.contains(secret))
            }
        }
        let cluster = try cluster(server.socketURI("newer"))
        try cluster.expect(["catalog", "migrate"])
        try server.psql(
            "newer",
            """
            INSERT INTO holdfast.schema_migration
            SELECT (jsonb_populate_record(m, '{"version": 999}')).* FROM holdfast.schema_migration m
            ORDER BY version DESC LIMIT 1
            """)
        for command in ["migrate", "rebuild"] {
            let result = try cluster.run(["catalog", command])
            #expect(result.status == 65, "\(command): \(result.errors)")
            #expect(result.errors.contains("999"), "\(result.errors)")
        }
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.load("a\t1\n")
        try cluster.expect(["backup"])
        #expect(cluster.stopAgent() == 0)
    }
}
