import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWire
import Testing

@testable import HoldfastServer

extension ServerTests {
    @Suite("TLS on the TCP listener", .enabled(if: BuiltBinary.tool("openssl") != nil))
    struct TLSTests {
        private let certificates: TestCertificates
        private let directory: TemporaryDirectory
        private let users: TestUsers
        private let pair: TestCertificates.Pair

        init() throws {
            certificates = try TestCertificates()
            directory = try TemporaryDirectory("holdfast-users")
            users = try TestUsers(in: directory, [("alice", .writer)])
            pair = try certificates.issue("server")
        }

        private var trusting: WireTLSSettings { WireTLSSettings(authorities: certificates.authority) }

        /// On an address that other machines reach, as it is meant to be used.
        private func with(
            _ pair: TestCertificates.Pair? = nil, authorities: String? = nil,
            clients: TLSFiles.ClientCertificates? = nil, seconds: Double = 10,
            _ body: (ServedEngine) async throws -> Void
        ) async throws {
            let pair = pair ?? self.pair
            try await ServedEngine.with(
                configure: {
                    $0.listen = .tcp(host: "0.0.0.0", port: 0)
                    $0.tls = TLSFiles(
                        certificate: pair.certificate, key: pair.key, authorities: authorities,
                        clientCertificates: clients)
                    $0.usersFile = users.path
                    $0.login.seconds = seconds
                    $0.reloadSeconds = 0.05
                }, body)
        }

        private func refusal(_ body: () throws -> Any) -> WireError? {
            #expect(throws: WireError.self) { try body() }
        }

        private func port(_ served: ServedEngine) -> WireAddress {
            guard case .tcp(_, let port)? = served.addresses.tcp else { return .unix(path: "") }
            return .tcp(host: "127.0.0.1", port: port)
        }

        @Test("large and small requests and replies pass through it, and the unix socket stays plain")
        func passes() async throws {
            try await with { served in
                let client = try served.client(as: "alice", tls: trusting, host: "localhost", .resp3)
                for bytes in [0, 1, 16_383, 16_384, 16_385, 300_000, 5_000_000] {
                    let value = String(repeating: "v", count: bytes)
                    #expect(try client("SET", "a", value) == .ok)
                    #expect(try client("GET", "a") == .text(value))
                }
                let requests = (0..<2000).map { "SET k\($0) \($0)" } + (0..<2000).map { "GET k\($0)" }
                #expect(try client.pipeline(requests).suffix(2000) == (0..<2000).map { WireValue.text("\($0)") }[...])
                let nobody = try served.client(tls: trusting).pipeline(["GET a"])
                #expect(nobody[0].errorText?.hasPrefix("NOAUTH") == true)
                let owner = try served.administrator()
                #expect(try owner("GET", "k7") == .text("7"))
            }
        }

        @Test(
            "S6: a certificate of another host, an expired one and one of an unknown authority are refused by the client"
        )
        func untrusted() async throws {
            let cases: [(TestCertificates.Pair, WireTLSSettings, String)] = [
                (try certificates.issue("other", names: "DNS:other.example,IP:127.0.0.2"), trusting, "mismatch"),
                (
                    try certificates.issue("cn", names: "DNS:other.example", subject: "/CN=localhost"), trusting,
                    "mismatch"
                ),
                (try certificates.issue("old", days: -1), trusting, "expired"),
                (try TestCertificates("Stranger").issue("strange"), trusting, "unable to get local issuer certificate"),
                (pair, WireTLSSettings(), "unable to get local issuer certificate"),
            ]
            for (pair, settings, reason) in cases {
                try await with(pair) { served in
                    for host in ["localhost", "127.0.0.1"] {
                        let error = refusal { try served.client(as: "alice", tls: settings, host: host) }
                        guard case .notTrusted(_, let why)? = error else {
                            Issue.record("\(reason), \(host): \(error as Any)")
                            continue
                        }
                        #expect(why.contains(reason), "\(host): \(why)")
                    }
                }
            }
        }

        @Test("S6: what is older than TLS 1.2 is refused by both sides")
        func oldVersion() async throws {
            let openssl = try #require(BuiltBinary.tool("openssl"))
            try await with { served in
                guard case .tcp(_, let port) = port(served) else { return }
                let old = ["-cipher", "ALL:@SECLEVEL=0"]
                for (version, isGood) in [("-tls1_1", false), ("-tls1", false), ("-tls1_2", true), ("-tls1_3", true)] {
                    let result = try BuiltBinary.runTool(
                        openssl, ["s_client", "-connect", "127.0.0.1:\(port)", version, "-brief"] + (isGood ? [] : old))
                    let isMade = result.errors.contains("CONNECTION ESTABLISHED")
                    #expect(isMade == isGood, "\(version): \(result.errors)")
                    #expect(isGood || result.errors.contains("alert protocol version"), "\(version): \(result.errors)")
                }
            }
            let free = try TestCluster.freePort()
            let server = try RunningProcess(
                openssl,
                [
                    "s_server", "-accept", "127.0.0.1:\(free)", "-cert", pair.certificate, "-key", pair.key, "-tls1_1",
                    "-cipher", "ALL:@SECLEVEL=0", "-quiet",
                ])
            defer { server.kill() }
            let old = WireServer(.tcp(host: "127.0.0.1", port: UInt16(free)), tls: trusting)
            try waitUntil("the old server listens", while: server) {
                if case .cannotConnect? = refusal({ try WireClient(to: old) }) { false } else { true }
            }
            guard case .tlsFailed(_, let why)? = refusal({ try WireClient(to: old) }) else {
                Issue.record("an old server was talked to")
                return
            }
            #expect(why.contains("protocol"), "\(why)")
        }

        @Test("S6: plain text on the TLS port and TLS on a plain port end at once, with the reason")
        func mixed() async throws {
            try await with { served in
                let start = ContinuousClock.now
                let plain = try RawTCPClient(served.addresses.tcp!)
                plain.send("PING\r\nAUTH alice alice-password\r\n")
                #expect(!plain.rest().contains("PONG"))
                let error = refusal { try WireClient(to: port(served)) }
                #expect(error?.diagnosis.status == .unavailable, "\(error as Any)")
                #expect((ContinuousClock.now - start) / .seconds(1) < 3)
            }
            try await ServedEngine.with { served in
                let start = ContinuousClock.now
                let error = refusal { try served.client(tls: trusting) }
                guard case .tlsFailed(_, let why)? = error else {
                    Issue.record("\(error as Any)")
                    return
                }
                #expect(why.contains("does not speak TLS"), "\(why)")
                #expect((ContinuousClock.now - start) / .seconds(1) < 3)
            }
        }

        @Test("S6: handshakes that are idle, half-open or dripping are closed in time, and others are served")
        func slowHandshakes() async throws {
            try await with(seconds: 1) { served in
                let logged = try served.client(as: "alice", tls: trusting)
                let start = ContinuousClock.now
                let idle = (0..<20).map { _ in try! RawTCPClient(served.addresses.tcp!) }
                let half = try RawTCPClient(served.addresses.tcp!)
                // The beginning of a record that announces 512 bytes.
                half.send([0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
                let ended = try RawTCPClient(served.addresses.tcp!)
                ended.send([0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
                ended.endInput()
                let drip = try RawTCPClient(served.addresses.tcp!)
                let dripping = Thread {
                    drip.send([0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
                    for _ in 0..<60 { drip.send([0]); usleep(100_000) }
                }
                dripping.start()
                for number in 0..<50 { #expect(try logged("SET", "k\(number)", "v") == .ok) }
                let answers = try await onThread { (idle + [half, ended, drip]).map { $0.rest() } }
                #expect(!answers.contains("timed out"))
                let seconds = (ContinuousClock.now - start) / .seconds(1)
                #expect(seconds < 8, "\(seconds) s")
                #expect(try logged("GET", "k7") == .text("v"))
                // A handshake that is done, and no login.
                let silent = try served.client(tls: trusting)
                try waitUntil("it is closed") { (try? silent("PING")) == nil }
            }
        }

        @Test("S6: random bytes on the TLS port, and in the place of a handshake, end their connection at most")
        func garbage() async throws {
            try await with(seconds: 2) { served in
                var generator = SeededGenerator(seed: SeededGenerator.announcedSeed("TLS garbage"))
                for number in 0..<100 {
                    let client = try RawTCPClient(served.addresses.tcp!)
                    let bytes = (0..<Int.random(in: 1...2000, using: &generator)).map { _ in
                        UInt8.random(in: 0...255, using: &generator)
                    }
                    client.send((number.isMultiple(of: 2) ? [] : [0x16, 0x03, 0x01, 0x00, 0x40]) + bytes)
                }
                #expect(try served.client(as: "alice", tls: trusting)("SET", "a", "1") == .ok)
            }
        }

        @Test("S6: a client certificate that is required must be there and of the right authority")
        func required() async throws {
            let clients = try TestCertificates("Clients")
            let good = try clients.issue("client", names: "DNS:client")
            let old = try clients.issue("old", names: "DNS:client", days: -1)
            let strange = try TestCertificates("Stranger").issue("client", names: "DNS:client")
            func set(_ served: ServedEngine, _ pair: TestCertificates.Pair?, password: String? = nil) throws
                -> WireValue
            {
                var settings = trusting
                (settings.certificate, settings.key) = (pair?.certificate, pair?.key)
                return try served.client(as: "alice", password: password, tls: settings)("SET", "a", "1")
            }
            try await with(authorities: clients.authority, clients: .required) { served in
                let accepted = try set(served, good)
                #expect(accepted == .ok)
                for bad in [nil, old, strange] { #expect(throws: WireError.self) { try set(served, bad) } }
                #expect(throws: WireError.self, "a certificate is no password") {
                    try set(served, good, password: "wrong")
                }
            }
            try await with(authorities: clients.authority, clients: .optional) { served in
                for pair in [good, nil] {
                    let accepted = try set(served, pair)
                    #expect(accepted == .ok)
                }
                for bad in [old, strange] { #expect(throws: WireError.self) { try set(served, bad) } }
            }
        }

        @Test("S6: certificates are read again when they change; half of a pair, or nonsense, changes nothing")
        func reload() async throws {
            let served = directory.path + "/server"
            func install(_ file: String, _ name: String) throws {
                try Data(contentsOf: URL(filePath: file)).write(to: URL(filePath: served + name), options: .atomic)
                chmod(served + name, 0o600)
            }
            try install(pair.certificate, ".pem")
            try install(pair.key, ".key")
            let next = try TestCertificates("Next Authority")
            let renewed = try next.issue("server")
            try await with(.init(certificate: served + ".pem", key: served + ".key")) { server in
                let before = try server.client(as: "alice", tls: trusting)
                try install(renewed.certificate, ".pem")
                usleep(300_000)
                #expect(try server.client(as: "alice", tls: trusting)("SET", "a", "1") == .ok, "the old pair stays")
                try install(renewed.key, ".key")
                let trustingNext = WireTLSSettings(authorities: next.authority)
                try waitUntil("the new pair is served") {
                    (try? server.client(as: "alice", tls: trustingNext)("GET", "a")) == .text("1")
                }
                #expect(throws: WireError.self) { _ = try server.client(as: "alice", tls: trusting) }
                #expect(try before("GET", "a") == .text("1"), "open connections stay")
                try Data("nonsense".utf8).write(to: URL(filePath: served + ".pem"))
                server.server.reload()
                usleep(300_000)
                #expect(try server.client(as: "alice", tls: trustingNext)("GET", "a") == .text("1"))
            }
        }

        @Test("S11: a key that others can read, or of another certificate, is refused at the start")
        func badFiles() async throws {
            let other = try certificates.issue("another")
            var configuration = ServerConfiguration()
            configuration.tls = TLSFiles(certificate: pair.certificate, key: other.key)
            #expect(throws: ServerError.self) { try LeaderServer.check(configuration) }
            configuration.tls = TLSFiles(certificate: pair.certificate, key: pair.key)
            chmod(pair.key, 0o644)
            #expect(throws: SecretFileError.readableByOthers(pair.key, mode: 0o644)) {
                try LeaderServer.check(configuration)
            }
            for (certificate, key) in [
                ("/nowhere", other.key), (other.key, other.key), (other.certificate, other.certificate),
            ] {
                configuration.tls = TLSFiles(certificate: certificate, key: key)
                #expect(throws: (any Error).self) { try LeaderServer.check(configuration) }
            }
        }

        @Test("redis-cli with --tls", .enabled(if: BuiltBinary.tool("redis-cli") != nil))
        func cli() async throws {
            try await with { served in
                guard case .tcp(_, let port) = port(served) else { return }
                let base = ["--tls", "--cacert", certificates.authority, "-h", "localhost", "-p", "\(port)"]
                let result = try BuiltBinary.runTool(
                    BuiltBinary.tool("redis-cli")!, base + ["--user", "alice", "set", "a", "1"],
                    environment: ["REDISCLI_AUTH": "alice-password"])
                #expect(result.output == "OK\n", "\(result)")
                let nobody = try BuiltBinary.runTool(BuiltBinary.tool("redis-cli")!, base + ["get", "a"])
                #expect(nobody.output.hasPrefix("NOAUTH "), "\(nobody)")
            }
        }
    }
}
