import BenchmarkSupport
import Foundation
import HoldfastCore
import HoldfastTestSupport

/// A primary with the content in two tables, its log archived by `cp`.
final class PostgresContender: Contender {
    let name = "PostgreSQL"
    let isPeer = true
    let content: Content
    let programs: PostgresPrograms
    private let directory: TemporaryDirectory
    private var nodes = 0
    private let keptLogMegabytes: Int
    var leader: PostgresNode
    /// Kept from one measurement to the next.
    var followers: [PostgresNode] = []

    static let clients = 50

    var settings: String {
        "\(programs.version), shared_buffers \(PostgresNode.buffers), max_wal_size \(PostgresNode.mostLog), wal_keep_size "
            + "\(keptLogMegabytes)MB, log archived with cp, the rest by default; load: pgbench, \(Self.clients) clients, "
            + "prepared updates one by one"
    }

    /// - Parameter keptLogMegabytes: log that a server keeps for standbys.
    init(_ content: Content, _ programs: PostgresPrograms, keptLogMegabytes: Int) throws {
        self.content = content
        self.programs = programs
        self.keptLogMegabytes = keptLogMegabytes
        directory = try TemporaryDirectory("bench-follower-pg")
        try programs.give(directory.path)
        leader = try PostgresNode("n0", in: directory.path, programs)
        try programs.makeDirectory(leader.archive)
        try programs.run(
            "initdb",
            ["-D", leader.data, "-A", "trust", "-U", PostgresNode.superuser, "-E", "UTF8", "--locale", "C"])
        // In the file, which every copy has too: pg_rewind starts a server that must not give up log behind the fork.
        try leader.configure("wal_keep_size = \(keptLogMegabytes)MB")
        try leader.start()
        try leader.connect(to: "postgres").value("create database \(PostgresNode.database)")
        let session = try leader.connect()
        for table in ["records", "load"] { try session.value("create table \(table) (k text primary key, v text)") }
        try session.value("create table probe (n bigint)")
        try session.value("insert into probe values (0)")
        let time = try seconds {
            try load(content.recordsGenerator, table: "records")
            try load(content.loadGenerator, table: "load")
        }
        try session.value("vacuum analyze")
        try session.value("checkpoint")
        let size = try session.value("select pg_database_size('\(PostgresNode.database)') / 1000000")
        say("PostgreSQL: \(size) MB of pages, loaded in \(String(format: "%.1f s", time))")
        try script.write(toFile: scriptPath, atomically: true, encoding: .utf8)
        try programs.give(scriptPath)
    }

    /// Before the directory goes.
    deinit { for node in followers + [leader] { node.kill() } }

    private func load(_ generator: String, table: String) throws {
        let path = directory.path + "/generate.py"
        try generator.write(toFile: path, atomically: true, encoding: .utf8)
        let psql = programs.client(
            "psql",
            "-X -q -v ON_ERROR_STOP=1 -h \(leader.sockets) -p \(PostgresNode.port) -U \(PostgresNode.superuser) "
                + "-d \(PostgresNode.database) -c '\\copy \(table) from pstdin'")
        try shell("python3 \(path) | \(psql)")
    }

    // MARK: Nodes

    /// A standby of the primary: a copy of it, which is not started yet.
    func copyLeader() throws -> PostgresNode {
        nodes += 1
        let node = try PostgresNode("n\(nodes)", in: directory.path, programs)
        try programs.run(
            "pg_basebackup",
            ["-D", node.data, "-Fp", "-c", "fast", "-X", "stream", "-R"] + Self.connection(to: leader))
        return node
    }

    static func connection(to node: PostgresNode) -> [String] {
        ["-h", node.sockets, "-p", "\(PostgresNode.port)", "-U", PostgresNode.superuser]
    }

    /// A standby that has all that the primary has.
    func makeFollower() throws -> PostgresNode {
        let node = try copyLeader()
        try node.start()
        try waitCaughtUp(node)
        return node
    }

    func waitCaughtUp(_ node: PostgresNode) throws {
        try node.waitApplied(leader.end())
        try soon("\(node.name) streams", while: node.server) {
            try node.connect().value("select status from pg_stat_wal_receiver") == "streaming" ? () : nil
        }
    }

    func pauseFollowers() { for follower in followers { follower.stop() } }

    func dropFollowers() throws {
        for follower in followers { follower.remove() }
        followers = []
        try emptyArchive()
    }

    /// No standby needs what is archived: it would fill the disk.
    private func emptyArchive() throws {
        try leader.archiveAll()
        try shell("find \(leader.archive) -type f -delete")
    }

    func lead(_ node: PostgresNode) throws {
        leader.remove()
        leader = node
        try emptyArchive()
    }

    // MARK: Writing

    private var scriptPath: String { directory.path + "/update.sql" }

    private var script: String {
        """
        \\set i random(0, \(content.loadRecords - 1))
        \\set r random(100000000000, 999999999999)
        update load set v = repeat(:r::bigint::text, 8) || 'xxxx' where k = 'key:' || lpad(:i::int::text, 12, '0');

        """
    }

    func startLoad() throws -> RunningProcess { try startLoad(seconds: 1_000_000) }

    func startLoad(seconds: Int) throws -> RunningProcess {
        try programs.launch(
            "pgbench",
            ["-n", "-M", "prepared", "-c", "\(Self.clients)", "-f", scriptPath, "-T", "\(seconds)"]
                + Self.connection(to: leader) + [PostgresNode.database])
    }

    /// Has the primary write so much log, a thousand random records in each transaction.
    func writeLog(megabytes: Int) throws -> (from: LSN, to: LSN, changes: Int) {
        let session = try leader.connect()
        let from = try leader.end()
        var changes = 0, to = from
        while to - from < megabytes << 20 {
            changes +=
                Int(
                    try session.value(
                        """
                        update load set v = repeat(lpad((random() * 1e11)::bigint::text, 12, '0'), 8) || 'xxxx' \
                        where k in (select 'key:' || \
                        lpad((random() * \(content.loadRecords - 1))::int::text, 12, '0') from generate_series(1, 1000))
                        """)) ?? 0
            to = try leader.end()
        }
        return (from, to, changes)
    }
}
