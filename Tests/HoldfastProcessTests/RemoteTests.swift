import Foundation
import HoldfastTestSupport
import Testing

@Suite("A leader that other machines reach", .serialized, .enabled(if: BuiltBinary.tool("openssl") != nil))
struct RemoteTests {
    private let certificates: TestCertificates
    private let cluster: TestCluster
    private let pair: TestCertificates.Pair
    /// Found nowhere but in the files where it belongs.
    private static let canary = "canary-7d1f-password"
    private var users: String { cluster.root + "/users" }
    private var remote: String { "localhost:\(cluster.port)" }

    init() throws {
        certificates = try TestCertificates()
        pair = try certificates.issue("server")
        cluster = try TestCluster()
        try configure()
        for role in ["backup", "admin", "reader"] {
            let result = try cluster.run(
                ["user", "add", role, "--role", role], input: Data("\(Self.canary)-\(role)\n".utf8))
            #expect(result.status == 0, "\(result.errors)")
            let file = cluster.root + "/\(role).pw"
            _ = FileManager.default.createFile(
                atPath: file, contents: Data("\(Self.canary)-\(role)\n".utf8), attributes: [.posixPermissions: 0o600])
        }
    }

    private func configure(more: String = "") throws {
        let text = """
            cluster: main
            data: \(cluster.data)
            leader: unix:\(cluster.socket)
            server:
              listen: "0.0.0.0:\(cluster.port)"
              socket: \(cluster.socket)
              cache: 64MiB
              users_file: \(cluster.root)/users
              tls: {cert_file: \(pair.certificate), key_file: \(pair.key)}
            client: {ca_file: \(certificates.authority)}
            state: \(cluster.root)/state
            repository: {path: \(cluster.repository)}
            archive: {timeout: 1s}
            \(more)
            """
        try text.write(toFile: cluster.configuration, atomically: true, encoding: .utf8)
    }

    private func run(_ arguments: [String], as role: String) throws -> BuiltBinary.Result {
        try cluster.run(
            arguments,
            environment: [
                "HOLDFAST_CLIENT__USER": role, "HOLDFAST_CLIENT__PASSWORD_FILE": cluster.root + "/\(role).pw",
            ])
    }

    /// `serve` that is to end by itself; it is stopped when it does not.
    private func servedInVain() throws -> (status: Int32, errors: String) {
        let leader = try cluster.launchLeader()
        defer { _ = cluster.stopLeader() }
        try waitUntil("serve ends by itself") { !leader.isRunning }
        return (leader.wait(), leader.errors)
    }

    @Test("commands work over TLS as users with the roles for it, and no password is told")
    func commands() throws {
        try cluster.startLeader()
        try cluster.load("a\t1\nb\t2\n")
        let status = try run(["status", "--connect", remote], as: "backup")
        #expect(status.status == 0, "\(status.errors)")
        let dump = try run(["dump", "--connect", remote], as: "reader")
        #expect(dump.output == "a\t1\nb\t2\n", "\(dump.errors)")
        let denied = try run(["checkpoint", "--connect", remote], as: "reader")
        #expect(denied.status == 77 && denied.errors.contains("NOPERM"), "\(denied)")
        let nobody = try cluster.run(["status", "--connect", remote])
        #expect(nobody.status == 77 && nobody.errors.contains("NOAUTH"), "\(nobody)")
        try "wrong\n".write(toFile: cluster.root + "/reader.pw", atomically: false, encoding: .utf8)
        let wrong = try run(["dump", "--connect", remote], as: "reader")
        #expect(wrong.status == 77 && wrong.errors.contains("WRONGPASS"), "\(wrong)")
        try cluster.startAgent()
        let backup = try run(["backup", "--connect", remote], as: "backup")
        #expect(backup.status == 0, "\(backup.errors)")
        let log = (cluster.leader?.errors ?? "") + (cluster.agent?.errors ?? "")
        #expect(log.contains("login failed"))
        for text in [log, status.errors, denied.errors, wrong.errors, backup.errors + backup.output] {
            #expect(!text.contains(Self.canary) && !text.contains("$scrypt"))
        }
        #expect(try !String(contentsOfFile: users, encoding: .utf8).contains(Self.canary))
        #expect(cluster.stopAgent() == 0 && cluster.stopLeader() == 0)
    }

    @Test("E4: a node is rewound over TLS by a user who may replicate and back up, and by no other")
    func rewind() throws {
        let user = try cluster.run(
            ["user", "add", "both", "--role", "replication", "--role", "backup"], input: Data("\(Self.canary)\n".utf8))
        #expect(user.status == 0, "\(user.errors)")
        _ = FileManager.default.createFile(
            atPath: cluster.root + "/both.pw", contents: Data("\(Self.canary)\n".utf8),
            attributes: [.posixPermissions: 0o600])
        try cluster.startLeader()
        try cluster.load("a\t1\n")
        cluster.killLeader()
        let copy = cluster.root + "/copy"
        try FileManager.default.copyItem(atPath: cluster.data, toPath: copy)
        try cluster.startLeader()
        let command = ["rewind", "--data", copy, "--from", remote, "--node", "b", "--format", "json"]
        let denied = try run(command, as: "reader")
        #expect(denied.status == 77 && denied.errors.contains("NOPERM"), "\(denied)")
        let done = try run(command, as: "both")
        #expect(done.status == 0, "\(done)")
        let report = try JSONSerialization.jsonObject(with: Data(done.output.utf8)) as? [String: Any]
        #expect(report?["diverged"] as? Bool == false, "\(done.output)")
        #expect(cluster.stopLeader() == 0)
    }

    @Test(
        "S6: without TLS or users such an address ends serve with 78 before anything is opened; --insecure goes on, loudly"
    )
    func refused() throws {
        let before = TestCluster.fingerprint(cluster.data)
        for missing in ["users_file", "tls"] {
            try configure()
            let text = try String(contentsOfFile: cluster.configuration, encoding: .utf8)
            try text.split(separator: "\n").filter { !$0.contains("  \(missing):") }.joined(separator: "\n")
                .write(toFile: cluster.configuration, atomically: true, encoding: .utf8)
            let result = try servedInVain()
            #expect(result.status == 78, "\(result)")
            #expect(result.errors.contains("needs server.tls and server.users_file"), "\(result.errors)")
        }
        #expect(TestCluster.fingerprint(cluster.data) == before)
        try cluster.startLeader(["--insecure"])
        let result = try cluster.run(
            ["checkpoint", "--connect", remote], environment: ["HOLDFAST_CLIENT__TLS": "false"])
        #expect(result.status == 0, "\(result.errors)")
        #expect(cluster.leader?.errors.contains("INSECURE") == true)
        #expect(cluster.stopLeader() == 0)
    }

    @Test(
        "S11: users, keys and passwords that others can read are refused with a hint, whatever the umask they were made with"
    )
    func readable() throws {
        var attributes = try FileManager.default.attributesOfItem(atPath: users)
        #expect(attributes[.posixPermissions] as? Int == 0o600)
        let old = umask(0)
        let made = try cluster.run(["user", "add", "late", "--role", "reader"], input: Data("x\n".utf8))
        umask(old)
        attributes = try FileManager.default.attributesOfItem(atPath: users)
        #expect(made.status == 0 && attributes[.posixPermissions] as? Int == 0o600)
        for path in [users, pair.key] {
            chmod(path, 0o644)
            let result = try servedInVain()
            #expect(result.status == 78 && result.errors.contains("chmod 600"), "\(result)")
            chmod(path, 0o600)
        }
        try cluster.startLeader()
        chmod(cluster.root + "/admin.pw", 0o644)
        let result = try run(["status", "--connect", remote], as: "admin")
        #expect(result.status == 78 && result.errors.contains("chmod 600"), "\(result)")
        #expect(cluster.stopLeader() == 0)
    }

    @Test("users are listed, replaced and removed; passwords come from stdin alone")
    func userCommands() throws {
        #expect(
            try cluster.expect(["user", "list"]) == "USER    ROLES\nbackup  backup\nadmin   admin\nreader  reader\n")
        let again = try cluster.run(["user", "add", "admin", "--role", "admin"], input: Data("x\n".utf8))
        #expect(again.status == 73, "\(again)")
        let replaced = try cluster.run(
            ["user", "add", "reader", "--role", "reader", "--role", "backup", "--replace"], input: Data("x\n".utf8))
        #expect(replaced.status == 0, "\(replaced)")
        try cluster.expect(["user", "remove", "admin"])
        #expect(try cluster.expect(["user", "list"]) == "USER    ROLES\nbackup  backup\nreader  reader,backup\n")
        for (arguments, input, status) in [
            (["user", "remove", "admin"], "", 65), (["user", "add", "a", "--role", "king"], "x\n", 64),
            (["user", "add", "a b", "--role", "reader"], "x\n", 64),
            (["user", "add", "a", "--role", "reader"], "", 64),
            (["user", "add", "a"], "x\n", 64), (["user", "add", "a", "--role", "reader"], "a\0b\n", 65),
        ] as [([String], String, Int32)] {
            let result = try cluster.run(arguments, input: Data(input.utf8))
            #expect(result.status == status, "\(arguments): \(result)")
        }
        #expect(try cluster.expect(["user", "list"]) == "USER    ROLES\nbackup  backup\nreader  reader,backup\n")
    }

    @Test("SIGHUP reads certificates and users again, and ends nothing")
    func hangUp() throws {
        try cluster.startLeader()
        let leader = try #require(cluster.leader)
        leader.signal(SIGHUP)
        try waitUntil("they are read", while: leader) {
            leader.errors.contains("certificates were read again") && leader.errors.contains("users were read again")
        }
        #expect(try run(["status", "--connect", remote], as: "admin").status == 0)
        #expect(cluster.stopLeader() == 0)
    }
}
