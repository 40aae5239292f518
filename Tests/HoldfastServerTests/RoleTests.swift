import Foundation
import HoldfastTestSupport
import HoldfastWire
import Testing

@testable import HoldfastServer

extension ServerTests {
    @Suite("Each role may do what is documented, and no more")
    struct RoleTests {
        private static let users: [(name: String, roles: Roles)] =
            Roles.named.map { ($0.name, $0.role) } + [("both", [.reader, .backup])]

        /// What each role may do, as it is documented; `admin` may do everything.
        private static let documented: [(commands: [Command], roles: Roles)] = [
            (
                [.get, .mget, .exists, .strlen, .getrange, .type, .dbsize, .randomkey, .scan, .keys, .range, .watch],
                [.reader, .writer]
            ),
            (
                [
                    .set, .setnx, .mset, .del, .unlink, .append, .incr, .decr, .incrby, .decrby, .getset, .getdel,
                    .flushdb,
                ], [.writer]
            ),
            (
                [
                    .multi, .exec, .discard, .unwatch, .ping, .echo, .select, .client, .command, .config, .info, .role,
                    .wait, .waitlsn, .lastsave,
                ], [.reader, .writer, .replication, .backup]
            ),
            ([.hello, .auth, .quit, .reset], [.reader, .writer, .replication, .backup, .nobody]),
            ([.status], [.replication, .backup]), ([.backup, .wal, .restorepoint], [.backup]),
            ([.slot, .replicate, .digest], [.replication]), ([.checkpoint, .promote, .check, .shutdown], []),
        ]

        @Test("S5: every command by every role and by nobody")
        func everyCommand() async throws {
            let directory = try TemporaryDirectory("holdfast-users")
            let users = try TestUsers(in: directory, Self.users)
            #expect(Set(Self.documented.flatMap(\.commands)) == Set(Command.allCases))
            try await ServedEngine.with(configure: {
                $0.usersFile = users.path
                $0.requiresUser = true
            }) { served in
                for (commands, roles) in Self.documented {
                    for command in commands {
                        // The usual call is a failed login, and those take longer and longer.
                        let call =
                            command == .auth ? "AUTH reader reader-password" : try #require(AccessTests.calls[command])
                        for (name, role) in Self.users {
                            // SHUTDOWN by who may has a test of its own.
                            let may = !roles.isDisjoint(with: role) || role == .admin
                            if command == .shutdown, may { continue }
                            let reply = try served.client(as: name).pipeline([call])[0].errorText ?? ""
                            let denied = "NOPERM this connection has no permissions to run the '\(command)' command"
                            if may {
                                #expect(!reply.hasPrefix("NO"), "\(name): \(call): \(reply)")
                            } else {
                                #expect(reply == denied, "\(name): \(call): \(reply)")
                            }
                        }
                        let reply = try served.client().pipeline([call])[0].errorText ?? ""
                        if roles.contains(.nobody) {
                            #expect(command == .hello || !reply.hasPrefix("NO"), "nobody: \(call): \(reply)")
                        } else {
                            #expect(reply == "NOAUTH Authentication required.", "nobody: \(call): \(reply)")
                        }
                    }
                }
                for (name, role) in Self.users {
                    for call in [
                        "CONFIG SET log.level info", "CONFIG RESETSTAT", "CLIENT LIST",
                        // Small letters whose capitals are S and I.
                        "CONFIG \u{17F}ET log.level info", "CONFIG re\u{17F}et\u{17F}tat", "CLIENT l\u{131}\u{17F}t",
                    ] {
                        let reply = try served.client(as: name).pipeline([call])[0].errorText ?? ""
                        #expect(reply.hasPrefix("NOPERM") == (role != .admin), "\(name): \(call): \(reply)")
                    }
                }
                #expect(served.shutdowns == 0)
            }
        }

        @Test("S5: a role holds in pipelines, bursts of reads and transactions")
        func inPipelines() async throws {
            let directory = try TemporaryDirectory("holdfast-users")
            let users = try TestUsers(in: directory, Self.users)
            try await ServedEngine.with(configure: { $0.usersFile = users.path }) { served in
                let reader = try served.client(as: "reader")
                let replies = try reader.pipeline([
                    "GET a", "GET a", "SET a 1", "GET a", "DEL a", "MULTI", "SET a 1", "EXEC",
                ])
                #expect(
                    replies.map { $0.errorText?.prefix(6) } == [
                        nil, nil, "NOPERM", nil, "NOPERM", nil, "NOPERM", "EXECAB",
                    ])
                let backup = try served.client(as: "backup")
                #expect(
                    try backup.pipeline(["PING", "GET a", "GET a"]).map { $0.errorText != nil } == [false, true, true])
                let nobody = try served.client()
                #expect(try nobody.pipeline(["SET a 2", "GET a"])[1] == .text("2"), "loopback needs no user")
                _ = try nobody.pipeline(["AUTH reader reader-password"])
                #expect(try nobody.pipeline(["SET a 3"])[0].errorText?.hasPrefix("NOPERM") == true)
                #expect(try nobody.pipeline(["RESET", "SET a 4"]) == [.simple("RESET"), .ok])
            }
        }

        @Test("S5: EXEC by somebody who may not is refused as every command is")
        func exec() async throws {
            let directory = try TemporaryDirectory("holdfast-users")
            let users = try TestUsers(in: directory, Self.users)
            try await ServedEngine.with(configure: {
                $0.usersFile = users.path
                $0.requiresUser = true
            }) { served in
                let replies = try served.client().pipeline(["EXEC", "EXEC a"]).map(\.errorText)
                #expect(
                    replies
                        == ["NOAUTH Authentication required.", "ERR wrong number of arguments for 'exec' command"])
            }
        }

        @Test("insecure: everybody may do everything, on any address")
        func insecure() async throws {
            try await ServedEngine.with(configure: {
                $0.listen = .tcp(host: "0.0.0.0", port: 0)
                $0.isInsecure = true
            }) { served in
                let replies = try served.client().pipeline(["CHECKPOINT", "CONFIG SET log.level info"])
                #expect(replies[0].errorText == nil && replies[1] == .ok)
            }
        }

        @Test("the README's table of roles is that of the code")
        func readme() throws {
            let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
                .deletingLastPathComponent()
            let readme = try String(contentsOf: root.appending(path: "README.md"), encoding: .utf8)
            let table = CommandTable.shared.rolesAsMarkdown
            #expect(readme.contains(table), "put this into the section Security:\n\(table)")
        }
    }
}
