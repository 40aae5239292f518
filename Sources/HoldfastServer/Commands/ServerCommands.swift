import HoldfastCore
import HoldfastEngine
import HoldfastWire

/// The commands that ask how the server is, and those that set it. They run on the pool for reads, with a copy of what the
/// event loop knows.
struct ServerCommands: Sendable {
    /// What the event loop has to do when the command has run. Written by the pool's thread before it hands back to
    /// the loop, read by the loop after: never by both at once.
    final class Outcome: @unchecked Sendable {
        var changesSettings = false
        var shutdown = false
    }

    let engine: Engine
    let composition: any ServerComposition
    let role: Roles
    let report: ServerReport
    let settings: ChangingSettings

    func run(_ specification: CommandSpecification, _ arguments: [[UInt8]], _ out: ReplyWriter, _ outcome: Outcome) {
        let words = arguments.map { String(decoding: $0, as: UTF8.self) }
        let mark = out.count
        do {
            switch specification.command {
            case .info: out.verbatim(try Information(self).text(words.dropFirst().map { $0.lowercased() }))
            case .status: out.fields(try status())
            case .role:
                if let follower = engine.status.follower {
                    let (host, port) = Information.hostAndPort(follower.leader ?? "")
                    out.array(5)
                    out.bulk("slave")
                    out.bulk(host)
                    out.integer(Int64(port))
                    out.bulk(follower.phase == .streaming ? "connected" : "connect")
                    out.integer(Int64(clamping: follower.positions.flushed.rawValue))
                    return
                }
                out.array(3)
                out.bulk("master")
                out.integer(Int64(clamping: engine.status.durableLSN.rawValue))
                out.array(report.followers.count)
                for follower in report.followers {
                    let (ip, port) = follower.host
                    out.array(3)
                    out.bulk(ip)
                    out.bulk("\(port)")
                    out.bulk("\(follower.positions.flushed.rawValue)")
                }
            case .lastsave:
                // None since the start: recovery ended with everything on the disk.
                let last = engine.status.lastCheckpointTime / 1_000_000
                out.integer(last > 0 ? last : systemClockMicroseconds() / 1_000_000 - Int64(report.uptimeSeconds))
            case .config: try config(words, out, outcome)
            case .shutdown:
                guard words.dropFirst().allSatisfy({ ["NOSAVE", "SAVE", "NOW", "FORCE"].contains($0.uppercased()) })
                else {
                    return out.error(
                        words[1].uppercased() == "ABORT" ? "ERR No shutdown in progress." : Replies.syntax)
                }
                outcome.shutdown = true
            default: preconditionFailure("\(specification.name) is no command of the server")
            }
        } catch {
            out.truncate(to: mark)
            out.error(ErrorReplies.text(error))
        }
    }

    private func config(_ words: [String], _ out: ReplyWriter, _ outcome: Outcome) throws {
        // One word for the right and for what is run: small letters beyond ASCII may have capitals within.
        let word = words[1].uppercased()
        guard CommandTable.allows(.config, word.lowercased(), role) else {
            return out.error(CommandTable.refusal(role, "config|\(word.lowercased())"))
        }
        switch word {
        case "GET" where words.count >= 3:
            let patterns = words.dropFirst(2).map { GlobPattern($0.utf8, ignoresCase: true) }
            let found = SettingNames.all(settings.current, report).filter { name, _ in
                Array(name.utf8).withUnsafeBytes { name in patterns.contains { $0.matches(name) } }
            }
            out.fields(found.map { ($0.name, .simple($0.value)) })
        case "SET" where words.count >= 4 && words.count.isMultiple(of: 2):
            try settings.change { changed in
                for index in stride(from: 2, to: words.count, by: 2) {
                    try SettingNames.set(words[index].lowercased(), words[index + 1], in: &changed)
                }
                try composition.apply(changed)
            }
            outcome.changesSettings = true
            out.ok()
        case "RESETSTAT" where words.count == 2: out.ok()
        case "REWRITE": out.error("ERR CONFIG REWRITE is not supported by Holdfast: edit the configuration file")
        case "GET", "SET", "RESETSTAT": out.error(Replies.arity("config|\(words[1].lowercased())"))
        default: out.error("ERR unknown subcommand '\(printable(words[1]))'. Try CONFIG HELP.")
        }
    }

    /// What a follower says besides.
    private func followerFields(_ status: EngineStatus) -> [(name: String, value: WireValue)] {
        guard let follower = status.follower else { return [] }
        // Of a follower that has everything there is no lag, however long ago the last commit was.
        let isBehind = follower.positions.applied < follower.leaderLSN
        let lag = isBehind && status.lastCommitTime > 0 ? max(0, systemClockMicroseconds() - status.lastCommitTime) : 0
        return [
            ("phase", .simple(follower.phase.rawValue)), ("leader", .simple(follower.leader ?? "")),
            ("received_lsn", .simple(follower.positions.received.description)),
            ("lag_milliseconds", .integer(lag / 1000)), ("stream_faults", .integer(Int64(follower.faults))),
        ]
    }

    /// The fields of `holdfast status`.
    private func status() throws -> [(name: String, value: WireValue)] {
        let status = engine.status
        let archive = composition.archiveReport()
        let role =
            switch status.role {
            case .leader: "leader"
            case .follower: "follower"
            // Replay ends before the server listens: what answers now is paused at its target.
            case .recovering: "paused"
            }
        var warnings = (archive?.warnings ?? []) + status.warnings
        if let refusal = status.writeRefusal { warnings.append(refusal) }
        if let problem = status.follower?.problem { warnings.append(problem) }
        if case .pending(let problem?) = report.content { warnings.append("not verified yet: \(problem)") }
        if case .differs(let why) = report.content { warnings.append(why) }
        if report.isDegraded { warnings.append(Self.degraded) }
        return [
            ("role", .simple(role)), ("timeline", .integer(Int64(status.timeline.rawValue))),
            ("token", .simple(status.timelineToken.description)), ("lsn", .simple(status.durableLSN.description)),
            ("replay_lsn", .simple(status.publishedLSN.description)),
            ("leader_lsn", .simple((status.follower?.leaderLSN ?? status.durableLSN).description)),
            ("lag_bytes", .integer(Int64(status.follower?.lagBytes ?? 0))),
            ("archived_lsn", .simple(archive?.archivedLSN ?? "")),
            ("system_identifier", .simple(status.systemIdentifier.description)),
            ("data", .simple(report.identity.data)), ("data_device", .integer(report.identity.device)),
            ("data_inode", .integer(report.identity.inode)),
            ("published_lsn", .simple(status.publishedLSN.description)),
            ("redo_lsn", .simple(status.redoPoint.description)), ("archiving", .boolean(status.isArchiving)),
            ("archive_waiting", .integer(Int64(archive?.queuedSegments ?? status.segmentsToArchive))),
            ("archive_oldest", .simple(archive?.oldestSegment ?? "")),
            ("warnings", .array(warnings.map { .simple($0) })),
            ("uptime_seconds", .integer(Int64(report.uptimeSeconds))), ("version", .simple(report.identity.version)),
            ("transaction", .integer(Int64(clamping: status.lastTransaction.rawValue))),
            (
                "last_checkpoint",
                .simple(
                    status.lastCheckpointTime == 0 ? "" : Timestamp.text(microseconds: status.lastCheckpointTime))
            ),
            ("backups", .integer(Int64(status.runningBackups))),
            ("followers", .array(report.followers.map(\.value))),
        ] + followerFields(status) + contentFields()
    }

    /// What came of a comparison with the leader, where one was asked for.
    private func contentFields() -> [(name: String, value: WireValue)] {
        switch report.content {
        case .open: []
        case .pending: [("verified", .simple("pending"))]
        case .differs: [("verified", .simple("differs"))]
        case .equal(let lsn, let records, let digest):
            [
                ("verified", .simple("equal")), ("verified_lsn", .simple(lsn.description)),
                ("verified_records", .integer(Int64(clamping: records))), ("verified_digest", .simple(digest)),
            ]
        }
    }

    static let degraded = "writes are acknowledged without followers: too few have confirmed them in time"
}
