import HoldfastFailover
import HoldfastTestSupport
import Testing

@Suite(
    "etcd over TLS, with users", .serialized,
    .enabled(
        if: EtcdServer.program != nil && BuiltBinary.tool("etcdctl") != nil && BuiltBinary.tool("openssl") != nil,
        "etcd-server, etcd-client or openssl is not installed"))
struct EtcdAccessTests {
    private let own: TestCertificates
    private let server: EtcdServer
    private let pair: TestCertificates.Pair

    init() throws {
        own = try TestCertificates()
        // Where etcd has users it takes no certificate with a common name from those who come over its gateway.
        pair = try own.issue("node", subject: "/O=holdfast")
        server = try EtcdServer(own.issue("etcd"), authorities: own.authority)
    }

    /// Runs `body` with a client, which is closed whatever happens.
    private func with(_ access: EtcdAccess, _ body: (EtcdClient) async throws -> Void) async {
        let client = EtcdClient(endpoints: [server.endpoint], access: access, timeoutMilliseconds: 20_000)
        do { try await body(client) } catch { Issue.record(error) }
        await client.close()
    }

    private func access(_ login: EtcdAccess.Login?) throws -> EtcdAccess {
        try EtcdAccess(authorities: own.authority, certificate: pair.certificate, key: pair.key, login: login)
    }

    private func control(_ arguments: [String], as user: String? = nil, input: String = "") throws {
        try server.control(
            ["--cacert", own.authority, "--cert", pair.certificate, "--key", pair.key]
                + (user.map { ["--user", $0] } ?? []) + arguments, input: input)
    }

    @Test(
        "S5: who does not know the authority, shows no certificate, or comes in the clear is not served, nor believed")
    func certificates() async throws {
        await with(try access(nil)) { client in
            try await client.put("/holdfast/a", [1])
            #expect(try await client.read(prefix: "/holdfast/").entries["/holdfast/a"]?.value == [1])
        }
        let others = try TestCertificates("Somebody Else")
        for (access, what) in [
            (try EtcdAccess(certificate: pair.certificate, key: pair.key), "no authority"),
            (
                try EtcdAccess(authorities: others.authority, certificate: pair.certificate, key: pair.key),
                "another authority"
            ),
            (try EtcdAccess(authorities: own.authority), "no certificate"),
        ] {
            await with(access) { client in
                do {
                    _ = try await client.read(prefix: "/")
                    Issue.record("served: \(what)")
                } catch EtcdError.unreachable(let reasons) { #expect(reasons.count == 1) }
            }
        }
        // A certificate for another host.
        let elsewhere = try EtcdServer(own.issue("elsewhere", names: "DNS:etcd.example"))
        let client = EtcdClient(
            endpoints: [elsewhere.endpoint], access: try access(nil), timeoutMilliseconds: 20_000)
        await #expect(throws: EtcdError.self) { _ = try await client.read(prefix: "/") }
        await client.close()
    }

    @Test("S6: a login is kept, made again when etcd forgot it, and refused with a wrong password")
    func login() async throws {
        try control(["user", "add", "root:secret"])
        try control(["user", "grant-role", "root", "root"])
        try control(["user", "add", "hf:its-password"])
        try control(["role", "add", "nodes"])
        try control(["role", "grant-permission", "nodes", "readwrite", "/holdfast/", "--prefix"])
        try control(["user", "grant-role", "hf", "nodes"])
        try control(["auth", "enable"])
        await with(try access(.init(user: "hf", password: "its-password"))) { client in
            let lease = try await client.grant(seconds: 3600)
            try await client.put("/holdfast/a", [1], lease: lease)
            // It forgets a user's tokens with a new password, though that be the same.
            try control(
                ["user", "passwd", "hf", "--interactive=false"], as: "root:secret", input: "its-password\n")
            try await client.keepAlive(lease)
            #expect(try await client.read(prefix: "/holdfast/").entries["/holdfast/a"]?.lease == lease)
            server.kill()
            try server.restart()
            try await client.put("/holdfast/a", [2])
            #expect(try await client.read(prefix: "/holdfast/").entries["/holdfast/a"]?.value == [2])
            do {
                try await client.put("/another's", [1])
                Issue.record("it wrote where it may not")
            } catch EtcdError.refused(_, let text) {
                #expect(text.contains("permission denied"))
            }
        }
        let named = try own.issue("named")
        await with(
            try EtcdAccess(
                authorities: own.authority, certificate: named.certificate, key: named.key,
                login: .init(user: "hf", password: "its-password"))
        ) { client in
            do {
                _ = try await client.read(prefix: "/holdfast/")
            } catch let error as EtcdError {
                #expect(error.diagnosis.next?.contains("common name") == true, "\(error)")
            }
        }
        for login in [EtcdAccess.Login(user: "hf", password: "another"), nil] {
            await with(try access(login)) { client in
                do {
                    _ = try await client.read(prefix: "/holdfast/")
                    Issue.record("served: \(String(describing: login))")
                } catch let error as EtcdError {
                    #expect(error.diagnosis.next?.contains("failover.user") == true, "\(error)")
                }
            }
        }
    }

    @Test("files that are none, or do not belong together, are named before anything is sent")
    func badFiles() throws {
        let other = try own.issue("other")
        for (authorities, certificate, key, path) in [
            ("/nowhere", pair.certificate, pair.key, "/nowhere"),
            (pair.key, pair.certificate, pair.key, pair.key),
            (own.authority, pair.key, pair.key, pair.key),
            (own.authority, pair.certificate, "/nowhere", "/nowhere"),
            (own.authority, pair.certificate, other.key, other.key),
        ] {
            do {
                _ = try EtcdAccess(authorities: authorities, certificate: certificate, key: key)
                Issue.record("taken: \(path)")
            } catch .badCredentials(let named, _) { #expect(named == path) }
        }
        #expect("\(EtcdAccess.Login(user: "hf", password: "its-password"))" == "hf")
    }
}
