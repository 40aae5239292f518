import Glibc
import HoldfastCore
import HoldfastEngine
import HoldfastWire
import NIOCore

/// The text of `INFO`: the sections and names of Redis where it has them, so that its tools read them.
struct Information {
    private let commands: ServerCommands
    private let status: EngineStatus

    init(_ commands: ServerCommands) throws {
        self.commands = commands
        status = commands.engine.status
    }

    private static let sections = [
        "server", "clients", "memory", "persistence", "stats", "replication", "archive", "keyspace",
    ]

    /// `sections` in lower case; none, `default`, `all` and `everything` mean all.
    func text(_ wanted: [String]) throws -> String {
        let all = wanted.isEmpty || !Set(wanted).isDisjoint(with: ["default", "all", "everything"])
        return try Self.sections.filter { all || wanted.contains($0) }.map { section in
            let lines = try lines(section).map { "\($0.0):\($0.1)\r\n" }
            return "# \(section.prefix(1).uppercased() + section.dropFirst())\r\n" + lines.joined()
        }.joined(separator: "\r\n")
    }

    private func lines(_ section: String) throws -> [(String, String)] {
        let report = commands.report
        switch section {
        case "server":
            return [
                ("redis_version", "7.0.15"), ("redis_mode", "standalone"),
                ("holdfast_version", report.identity.version),
                ("os", "Linux"), ("arch_bits", "64"), ("multiplexing_api", "epoll"), ("process_id", "\(getpid())"),
                ("tcp_port", "\(report.statistics.port)"), ("uptime_in_seconds", "\(report.uptimeSeconds)"),
                ("uptime_in_days", "\(report.uptimeSeconds / 86400)"),
                ("system_identifier", "\(status.systemIdentifier)"),
                ("data_directory", report.identity.data),
            ]
        case "clients":
            return [
                ("connected_clients", "\(report.clients)"), ("maxclients", "\(report.maximumClients)"),
                ("blocked_clients", "\(report.blockedClients)"), ("live_snapshots", "\(status.liveSnapshots)"),
            ]
        case "memory":
            let used = Self.residentBytes()
            return [
                ("used_memory", "\(used)"), ("used_memory_human", Self.human(used)), ("used_memory_rss", "\(used)"),
                ("maxmemory", "0"), ("maxmemory_policy", "noeviction"), ("cache_bytes", "\(status.cacheBytes)"),
                ("cache_bytes_used", "\(status.cacheBytesUsed)"), ("cache_dirty_bytes", "\(status.dirtyBytes)"),
                ("version_bytes", "\(status.versionBytes)"), ("version_bytes_used", "\(status.versionBytesUsed)"),
            ]
        case "persistence":
            return [
                ("loading", "0"),
                (
                    "rdb_changes_since_last_save",
                    "\(max(0, Int(clamping: status.appendedLSN.rawValue) - Int(clamping: status.redoPoint.rawValue)))"
                ),
                ("rdb_bgsave_in_progress", "0"), ("rdb_last_save_time", "\(status.lastCheckpointTime / 1_000_000)"),
                ("rdb_last_bgsave_status", "ok"), ("aof_enabled", "1"), ("aof_rewrite_in_progress", "0"),
                ("aof_last_write_status", status.writeRefusal == nil ? "ok" : "err"),
                ("checkpoints", "\(status.checkpoints)"), ("redo_lsn", "\(status.redoPoint)"),
                ("lsn", "\(status.durableLSN)"), ("published_lsn", "\(status.publishedLSN)"),
                ("appended_lsn", "\(status.appendedLSN)"), ("last_transaction", "\(status.lastTransaction)"),
                ("wal_sync_microseconds", "\(Int(report.syncMicroseconds))"),
                ("wal_sync_on_event_loop", report.syncsOnLoop ? "1" : "0"),
                ("running_backups", "\(status.runningBackups)"),
            ] + (status.writeRefusal.map { [("write_refusal", Self.oneLine($0))] } ?? [])
        case "stats":
            return [
                ("total_connections_received", "\(report.statistics.connections)"),
                ("rejected_connections", "\(report.statistics.refusedConnections)"),
                ("total_commands_processed", "\(report.statistics.commands)"),
                ("cache_hits", "\(status.cacheHits)"), ("cache_misses", "\(status.cacheMisses)"),
                ("expired_keys", "0"), ("evicted_keys", "0"),
            ]
        case "replication":
            let role = status.follower.map(Self.lines(ofFollower:)) ?? [("role", "master")]
            return role + [("connected_slaves", "\(report.followers.count)")]
                + report.followers.enumerated().map { Self.line(of: $0.element, number: $0.offset) } + [
                    ("master_failover_state", "no-failover"),
                    (
                        "master_replid",
                        status.timelineToken.description.lowercased() + String(repeating: "0", count: 24)
                    ),
                    ("master_repl_offset", "\(status.durableLSN.rawValue)"),
                    ("timeline", "\(status.timeline.rawValue)"),
                    ("node_role", status.role.rawValue), ("synchronous_degraded", report.isDegraded ? "1" : "0"),
                ] + status.warnings.enumerated().map { ("warning_\($0.offset)", Self.oneLine($0.element)) }
        case "archive":
            let archive = commands.composition.archiveReport()
            return [
                ("archiving", status.isArchiving ? "1" : "0"),
                ("archive_waiting_segments", "\(archive?.queuedSegments ?? status.segmentsToArchive)"),
                ("archive_waiting_bytes", "\(archive?.queuedBytes ?? status.segmentsToArchive * SegmentNumber.bytes)"),
                ("archive_oldest_segment", archive?.oldestSegment ?? ""),
                ("archived_lsn", archive?.archivedLSN ?? ""),
                ("last_archived_segment", archive?.lastArchivedSegment ?? ""),
            ]
                + (archive?.warnings ?? []).enumerated().map {
                    ("archive_warning_\($0.offset)", Self.oneLine($0.element))
                }
        default:
            return try commands.engine.read { snapshot in
                try (0..<CommandSession.databases).compactMap { (number) -> (String, String)? in
                    let count = try snapshot.count(number)
                    return count > 0 ? ("db\(number)", "keys=\(count),expires=0,avg_ttl=0") : nil
                }
            }
        }
    }

    /// As a replica of Redis shows itself.
    private static func lines(ofFollower follower: FollowerStatus) -> [(String, String)] {
        let (host, port) = hostAndPort(follower.leader ?? "")
        return [
            ("role", "slave"), ("master_host", host), ("master_port", "\(port)"),
            ("master_link_status", follower.phase == .streaming ? "up" : "down"),
            ("slave_repl_offset", "\(follower.positions.flushed.rawValue)"), ("slave_read_only", "1"),
        ]
    }

    /// Of what a follower follows; a unix socket has no port.
    static func hostAndPort(_ leader: String) -> (host: String, port: Int) {
        guard case .tcp(let host, let port) = try? WireAddress(leader) else { return (leader, 0) }
        return (host, Int(port))
    }

    /// As Redis shows a replica.
    private static func line(of follower: FollowerReport, number: Int) -> (String, String) {
        let (ip, port) = follower.host
        return (
            "slave\(number)",
            "ip=\(ip),port=\(port),state=\(follower.state == "streaming" ? "online" : "catchup"),"
                + "offset=\(follower.positions.flushed.rawValue),lag=\(follower.silenceSeconds)"
        )
    }

    private static func oneLine(_ text: String) -> String {
        text.replacing("\n", with: "; ").replacing("\r", with: " ")
    }

    private static func human(_ bytes: Int) -> String {
        let megabytes = Double(bytes) / Double(1 << 20)
        return "\((megabytes * 100).rounded() / 100)M"
    }

    /// From `/proc/self/statm`; 0 where that cannot be read.
    private static func residentBytes() -> Int {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        guard fgets(&line, 255, file) != nil else { return 0 }
        let words = String(decoding: line.map { UInt8(bitPattern: $0) }, as: UTF8.self).split(separator: " ")
        return words.count > 1 ? (Int(words[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE))) : 0
    }
}
