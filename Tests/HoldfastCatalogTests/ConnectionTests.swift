import Foundation
import HoldfastCore
import HoldfastTestSupport
import Logging
import Synchronization
import Testing

@testable import HoldfastCatalog

@Suite("Whatever is wrong with the catalog, a call ends, with the right status and without a secret")
struct ConnectionTests {
    private static let canary = "canary-secret-42"

    private func failure(_ uri: String, passwordFile: String? = nil, milliseconds: Int = 20_000) throws -> Diagnosis {
        let catalog = CatalogFixture.catalog(uri, passwordFile: passwordFile, milliseconds: milliseconds)
        let diagnosis = try catalogError { _ = try catalog.migrate() }.diagnosis
        #expect(!diagnosis.description.contains(Self.canary), "\(diagnosis)")
        return diagnosis
    }

    @Test(
        "a URI that libpq cannot read is a matter of configuration",
        arguments: [
            "", "main", "mysql://db/x", "postgresql://u:canary-secret-42@[::1", "postgresql://db/x?nonsense=1",
            "postgresql://u:canary-secret-42@db:port/x", "host=db password='canary-secret-42", "service=not-there",
            "postgresql://u:canary-secret-42@db/x?sslmode=canary-secret-42", "dbname=x \u{0}",
            "postgresql//u:canary-secret-42@db/x?a=b",
        ])
    func badURI(_ uri: String) throws { #expect(try failure(uri).status == .configuration) }

    @Test("a wrong password, a missing one and an unknown user are matters of permission")
    func wrongPassword() throws {
        let fixture = try CatalogFixture(migrated: false)
        let server = fixture.server
        let wrong = fixture.temporary.path + "/wrong"
        try writeFile(wrong, Self.canary + "\n", mode: 0o600)
        #expect(try failure(server.tcpURI(fixture.database), passwordFile: wrong).status == .permission)
        #expect(try failure(server.tcpURI(fixture.database)).status == .permission)
        let unknown = server.tcpURI(fixture.database, user: "nobody_here")
        #expect(try failure(unknown, passwordFile: wrong).status == .permission)
        let inURI = "postgresql://postgres:\(Self.canary)@127.0.0.1:\(server.port)/\(fixture.database)"
        #expect(try failure(inURI).status == .permission)
    }

    @Test("a password file that others can read, or that holds none, is refused")
    func passwordFile() throws {
        let fixture = try CatalogFixture(migrated: false)
        let path = fixture.temporary.path + "/password"
        let uri = fixture.server.tcpURI(fixture.database)
        #expect(try failure(uri, passwordFile: path).status == .configuration)
        try writeFile(path, PostgresServer.password, mode: 0o644)
        #expect(try failure(uri, passwordFile: path).why?.contains("lets others read it") == true)
        try writeFile(path, "\n", mode: 0o600)
        #expect(try failure(uri, passwordFile: path).status == .configuration)
        try writeFile(path, PostgresServer.password + "\r\n", mode: 0o600)
        _ = try CatalogFixture.catalog(uri, passwordFile: path).migrate()
    }

    @Test("a database that is not there is a matter of configuration; a server that is not there is unavailable")
    func absent() throws {
        let server = try PostgresServer.shared.get()
        #expect(try failure(server.socketURI("not_there")).status == .configuration)
        #expect(try failure("host=/tmp/holdfast-no-such-directory dbname=x").status == .unavailable)
        let listener = try Listener(answer: nil)
        let port = listener.port
        listener.stop()
        #expect(try failure("postgresql://127.0.0.1:\(port)/x").status == .unavailable)
        #expect(try failure("postgresql://no-such-host.invalid/x").status == .unavailable)
    }

    @Test("TLS that is required is used, and its certificate is verified when asked for")
    func tls() throws {
        let fixture = try CatalogFixture(migrated: false)
        let path = fixture.temporary.path + "/password"
        try writeFile(path, PostgresServer.password, mode: 0o600)
        do { try fixture.server.makeDatabase("tls_only") } catch let error as PostgresServer.Failure {
            guard error.description.contains("already exists") else { throw error }
        }
        let certificate = fixture.server.directory + "/server.crt"
        let plain = fixture.server.tcpURI("tls_only", options: "sslmode=disable")
        #expect(try failure(plain, passwordFile: path).status == .permission)
        let verified = "sslmode=verify-full&sslrootcert=\(certificate)"
        for options in ["sslmode=require", verified] {
            let uri = fixture.server.tcpURI("tls_only", options: options)
            let connection = try CatalogConnection(CatalogSettings(uri: uri, passwordFile: path))
            #expect(connection.place == "127.0.0.1:\(fixture.server.port)/tls_only")
        }
        let other = fixture.server.tcpURI("tls_only", options: "sslmode=verify-full&sslrootcert=/etc/hostname")
        #expect(try failure(other, passwordFile: path).status == .unavailable)
    }

    @Test("S12: a catalog that accepts and never answers is given up in time, at every stage")
    func silent() throws {
        let listener = try Listener(answer: nil)
        defer { listener.stop() }
        for mode in ["disable", "require"] {
            let diagnosis = try failure("postgresql://127.0.0.1:\(listener.port)/x?sslmode=\(mode)", milliseconds: 200)
            #expect(diagnosis.status == .unavailable)
            #expect(diagnosis.why == "connecting took longer than 200 ms")
        }
        // A login that succeeds, and then silence: AuthenticationOk, ReadyForQuery.
        let mute = try Listener(answer: [0x52, 0, 0, 0, 8, 0, 0, 0, 0, 0x5A, 0, 0, 0, 5, 0x49])
        defer { mute.stop() }
        #expect(try failure("postgresql://127.0.0.1:\(mute.port)/x?sslmode=disable", milliseconds: 200).status != .done)
    }

    @Test("S12: a server that stops answering in the middle of a session is given up in time")
    func stalled() throws {
        let server = try PostgresServer()
        defer { server.stop() }
        let fixture = try CatalogFixture(server: server)
        let settings = CatalogSettings(uri: server.socketURI(fixture.database), statementTimeoutMilliseconds: 300)
        let connection = try CatalogConnection(settings)
        // The newest: the one that made the schema may not have ended yet.
        let activity =
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'holdfast' ORDER BY backend_start DESC LIMIT 1"
        let pid = try #require(pid_t(fixture.psql(activity)))
        kill(pid, SIGSTOP)
        defer { kill(pid, SIGCONT) }
        let error = try catalogError { try connection.run("has_schema") }
        guard case .timedOut(_, _, let milliseconds) = error else { throw error }
        // The server's own bound, and a second for it to say so.
        #expect(milliseconds == 1300)
        // The connection is of no more use and says so at once.
        #expect(try catalogError { try connection.run("has_schema") }.diagnosis.status == .unavailable)
    }

    @Test(
        "S12: a catalog that answers nonsense is an error, not a crash",
        arguments: [
            Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8), [UInt8](repeating: 0, count: 64),
            [UInt8](repeating: 0xFF, count: 5000), [0x52, 0x7F, 0xFF, 0xFF, 0xFF], [0x45, 0, 0, 0, 4],
            Array("E\0\0\0\u{30}SFATAL\0C28P01\0Mcanary\u{1B}[31m\0\0".utf8),
        ])
    func nonsense(_ answer: [UInt8]) throws {
        let listener = try Listener(answer: answer)
        defer { listener.stop() }
        for mode in ["disable", "prefer", "require"] {
            let diagnosis = try failure("postgresql://127.0.0.1:\(listener.port)/x?sslmode=\(mode)", milliseconds: 1000)
            #expect([.unavailable, .permission].contains(diagnosis.status))
            #expect(!diagnosis.description.utf8.contains(0x1B))
        }
    }

    @Test("settings never show the URI or the password, however they are printed")
    func unprintable() {
        let settings = CatalogSettings(uri: "postgresql://u:\(Self.canary)@h/d", passwordFile: "/x")
        var dumped = ""
        dump(settings, to: &dumped)
        #expect(![dumped, "\(settings)", String(reflecting: settings)].contains { $0.contains(Self.canary) })
    }
}

/// A TCP listener on loopback that accepts everybody, and to what they send answers `answer` or nothing.
final class Listener: Sendable {
    let port: UInt16
    private let socket: Int32
    private let isStopped = Mutex(false)

    init(answer: [UInt8]?) throws {
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isReady = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(socket, $0, length) == 0 && listen(socket, 16) == 0 && getsockname(socket, $0, &length) == 0
            }
        }
        guard isReady else { throw Crash() }
        self.socket = socket
        port = UInt16(bigEndian: address.sin_port)
        Thread.detachNewThread {
            var open: [Int32] = []
            while true {
                let client = accept(socket, nil, nil)
                guard client >= 0 else { break }
                if let answer {
                    var request = [UInt8](repeating: 0, count: 1000)
                    _ = recv(client, &request, request.count, 0)
                    _ = send(client, answer, answer.count, Int32(MSG_NOSIGNAL))
                }
                open.append(client)
            }
            for client in open { close(client) }
        }
    }

    func stop() {
        isStopped.withLock { stopped in
            guard !stopped else { return }
            stopped = true
            shutdown(socket, Int32(SHUT_RDWR))
            close(socket)
        }
    }
}
