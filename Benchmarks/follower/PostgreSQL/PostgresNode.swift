import Foundation
import HoldfastCore
import HoldfastTestSupport

/// One server: its data directory, its socket's directory, and its postmaster, stopped by pid when it goes.
final class PostgresNode {
    static let port = 5432
    static let superuser = "postgres"
    static let database = "bench"
    static let buffers = "1GB"
    static let mostLog = "2GB"

    let name: String
    private let root: String
    private let programs: PostgresPrograms
    /// Further settings of the next start, `name=value`.
    var settings: [String] = []
    private(set) var server: RunningProcess?

    var data: String { "\(root)/\(name)" }
    var sockets: String { "\(root)/\(name).sockets" }
    var archive: String { "\(root)/archive" }

    init(_ name: String, in root: String, _ programs: PostgresPrograms) throws {
        self.name = name
        self.root = root
        self.programs = programs
        try programs.makeDirectory(sockets)
    }

    deinit { kill() }

    /// A line behind those of its configuration file.
    func configure(_ line: String) throws {
        let file = try FileHandle(forWritingTo: URL(filePath: data + "/postgresql.conf"))
        try file.seekToEnd()
        try file.write(contentsOf: Data((line + "\n").utf8))
        try file.close()
    }

    // MARK: The process

    /// Not through pg_ctl, which looks only every tenth of a second.
    func launch() throws {
        let all =
            [
                "listen_addresses=", "unix_socket_directories=\(sockets)", "port=\(Self.port)",
                "shared_buffers=\(Self.buffers)", "max_wal_size=\(Self.mostLog)", "archive_mode=on",
                "archive_command=test ! -f \(archive)/%f && cp %p \(archive)/%f",
            ] + settings
        server = try programs.launch("postgres", ["-D", data] + all.flatMap { ["-c", $0] })
    }

    func start() throws {
        try launch()
        try waitForRead("select 1", in: "postgres")
    }

    /// PostgreSQL's fast shutdown, with a last checkpoint.
    func stop() {
        server?.signal(SIGINT)
        server?.wait()
        server = nil
    }

    /// PostgreSQL's immediate shutdown: as a crash, but for the shared memory that it gives back.
    func kill() {
        server?.signal(SIGQUIT)
        server?.wait()
        server = nil
    }

    func remove() {
        kill()
        for path in [data, sockets] { try? FileManager.default.removeItem(atPath: path) }
    }

    // MARK: Questions

    func connect(to database: String = PostgresNode.database) throws -> PostgresSession {
        try PostgresSession(socketDirectory: sockets, database: database)
    }

    func waitForRead(
        _ statement: String = "select 1 from records where k = '\(Content.firstKey)'",
        in database: String = PostgresNode.database
    ) throws {
        try soon("\(name) answers a read", while: server) {
            try connect(to: database).value(statement) == "1" ? () : nil
        }
    }

    /// The end of the log that it has on the disk.
    func end() throws -> LSN { LSN(try connect().value("select pg_current_wal_flush_lsn()")) ?? .zero }

    func waitApplied(_ lsn: LSN) throws {
        let session = try soon("\(name) answers", while: server) { try connect() }
        try soon("\(lsn) is applied", while: server) {
            LSN(try session.value("select pg_last_wal_replay_lsn()")) ?? .zero >= lsn ? () : nil
        }
    }

    /// Closes the segment, and waits until everything before is archived.
    func archiveAll() throws {
        let session = try connect()
        // The segment of the last byte before: nothing is switched when nothing was written since the last time.
        let last = try session.value("select pg_walfile_name(pg_switch_wal() - 1)")
        try soon("the log is archived", everyMilliseconds: 100, while: server) {
            try session.value("select last_archived_wal >= '\(last)' from pg_stat_archiver") == "t" ? () : nil
        }
    }
}
