import Foundation
import Synchronization

/// A throw-away PostgreSQL cluster in a temporary directory: unix socket (its owner is trusted), and TCP on loopback with
/// a SCRAM password, with and without TLS. It is run by an unprivileged user, since PostgreSQL refuses root.
///
/// A server lives until `stop` or the end of the process.
public final class PostgresServer: Sendable {
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    public static let superuser = "postgres"
    public static let password = "correct horse battery staple"

    public let port: UInt16
    /// Holds the unix socket, the certificate (`server.crt`) and the log.
    public let directory: String
    private let temporary: TemporaryDirectory
    private let postmaster = Mutex<pid_t?>(nil)

    /// One server for all tests that do not stop it; each test makes a database of its own.
    public static let shared: Result<PostgresServer, any Error> = Result { try PostgresServer() }

    /// Makes a cluster and starts it.
    public init() throws {
        temporary = try TemporaryDirectory("holdfast-postgres")
        directory = temporary.path
        port = try Self.freePort()
        try Self.run(["/bin/chmod", "0755", directory], asOwner: false)
        if geteuid() == 0 { try Self.run(["/bin/chown", Self.owner, directory], asOwner: false) }
        let passwords = directory + "/password"
        try Data(Self.password.utf8).write(to: URL(fileURLWithPath: passwords))
        try Self.run([
            Self.program("initdb"), "-D", directory + "/data", "-U", Self.superuser, "--pwfile", passwords, "-N",
            "-A", "scram-sha-256", "-E", "UTF8", "--locale", "C",
        ])
        try Self.run([
            "/usr/bin/openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", directory + "/data/server.key", "-out",
            directory + "/data/server.crt",
        ])
        try Self.run(["/bin/chmod", "0600", directory + "/data/server.key"])
        try Self.run(["/bin/cp", directory + "/data/server.crt", directory + "/server.crt"])
        try write(
            """
            listen_addresses = '127.0.0.1'
            port = \(port)
            unix_socket_directories = '\(directory)'
            ssl = on
            fsync = off
            max_connections = 60
            shared_buffers = 16MB
            """, to: "postgresql.auto.conf")
        try write(
            """
            local   all         postgres                   trust
            local   all         all                        scram-sha-256
            hostssl tls_only    all      127.0.0.1/32      scram-sha-256
            host    tls_only    all      127.0.0.1/32      reject
            host    all         all      127.0.0.1/32      scram-sha-256
            """, to: "pg_hba.conf")
        try start()
        Self.stopAtExit(self)
    }

    deinit { stop() }

    // MARK: starting and stopping

    /// Starts it and waits until it answers.
    public func start() throws {
        try Self.run([
            Self.program("pg_ctl"), "-D", directory + "/data", "-l", directory + "/log", "-w", "-t", "60", "start",
        ])
        let file = try String(contentsOfFile: directory + "/data/postmaster.pid", encoding: .utf8)
        guard let line = file.split(separator: "\n").first, let pid = pid_t(line) else {
            throw Failure(description: "postmaster.pid holds no process id")
        }
        postmaster.withLock { $0 = pid }
    }

    /// Ends the server that this object started, sessions and all, and waits until it is gone.
    public func stop() {
        guard
            let pid = postmaster.withLock({ state -> pid_t? in
                defer { state = nil }
                return state
            })
        else { return }
        // SIGINT: PostgreSQL's fast shutdown.
        kill(pid, SIGINT)
        for _ in 0..<1000 where kill(pid, 0) == 0 { usleep(10_000) }
        if kill(pid, 0) == 0 { kill(pid, SIGQUIT) }
    }

    private static let running = Mutex<[WeakServer]>([])
    private struct WeakServer { weak var server: PostgresServer? }

    private static func stopAtExit(_ server: PostgresServer) {
        running.withLock { list in
            if list.isEmpty { atexit { PostgresServer.stopAll() } }
            list.append(WeakServer(server: server))
        }
    }

    private static func stopAll() {
        for entry in running.withLock({ $0 }) {
            guard let server = entry.server else { continue }
            server.stop()
            // The object itself is never released when it is the shared one.
            try? FileManager.default.removeItem(atPath: server.directory)
        }
    }

    // MARK: use

    /// A URI of the unix socket; the superuser's by default.
    public func socketURI(_ database: String, user: String = PostgresServer.superuser) -> String {
        "postgresql:///\(database)?host=\(directory)&port=\(port)&user=\(user)"
    }

    /// A URI of loopback TCP, without a password; `options` are libpq's, as in a query.
    public func tcpURI(
        _ database: String, user: String = PostgresServer.superuser, options: String = "sslmode=disable"
    ) -> String {
        "postgresql://\(user)@127.0.0.1:\(port)/\(database)?\(options)"
    }

    /// Makes an empty database.
    public func makeDatabase(_ name: String) throws { try psql("postgres", "CREATE DATABASE \"\(name)\"") }

    /// What psql prints for `sql`, unaligned, one row a line, columns separated by `|`. Stops at the first error.
    @discardableResult
    public func psql(_ database: String, _ sql: String, user: String? = nil) throws -> String {
        var sql = sql
        if let user { sql = "SET SESSION AUTHORIZATION \"\(user)\"; " + sql }
        return try Self.run(
            [
                Self.program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", directory, "-p", "\(port)",
                "-U", Self.superuser, "-d", database, "-c", sql,
            ], asOwner: false
        ).trimmingCharacters(in: .newlines)
    }

    // MARK: the system

    /// The program of the newest PostgreSQL installed, or of `HOLDFAST_PGBIN`.
    public static func program(_ name: String) -> String {
        if let folder = getenv("HOLDFAST_PGBIN") { return String(cString: folder) + "/" + name }
        let root = "/usr/lib/postgresql"
        let versions = ((try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []).compactMap { Int($0) }
        return "\(root)/\(versions.max() ?? 15)/bin/\(name)"
    }

    private static let owner = "nobody"

    private func write(_ text: String, to file: String) throws {
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: "\(directory)/data/\(file)"))
        defer { try? handle.close() }
        try handle.truncate(atOffset: 0)
        try handle.write(contentsOf: Data((text + "\n").utf8))
    }

    private static func freePort() throws -> UInt16 {
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { throw Failure(description: "no socket: \(errno)") }
        defer { close(socket) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(socket, $0, length) == 0 && getsockname(socket, $0, &length) == 0
            }
        }
        guard bound else { throw Failure(description: "no free port: \(errno)") }
        return UInt16(bigEndian: address.sin_port)
    }

    /// Runs a command to its end and returns what it printed.
    @discardableResult
    private static func run(_ command: [String], asOwner: Bool = true) throws -> String {
        let asUser = asOwner && geteuid() == 0 ? ["/usr/sbin/runuser", "-u", owner, "--"] : []
        let result = try BuiltBinary.runTool("/usr/bin/env", ["-C", "/"] + asUser + command)
        guard result.status == 0 else {
            throw Failure(description: "\(command[0]) ended with status \(result.status): \(result.errors)")
        }
        return result.output
    }
}
