import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWire
import Synchronization
import Testing

@testable import HoldfastServer

extension ServerTests {
    @Suite("Who may do what, and where the server listens")
    struct AccessTests {
        /// A call of each command that would be right if it were allowed.
        static let calls: [Command: String] = [
            .get: "GET a", .mget: "MGET a", .exists: "EXISTS a", .strlen: "STRLEN a", .getrange: "GETRANGE a 0 1",
            .type: "TYPE a", .dbsize: "DBSIZE", .randomkey: "RANDOMKEY", .scan: "SCAN 0", .keys: "KEYS *",
            .range: "RANGE a b", .set: "SET a 1", .setnx: "SETNX a 1", .mset: "MSET a 1", .del: "DEL x",
            .unlink: "UNLINK x",
            .append: "APPEND x 1", .incr: "INCR a", .decr: "DECR a", .incrby: "INCRBY a 1", .decrby: "DECRBY a 1",
            .getset: "GETSET a 1", .getdel: "GETDEL x", .flushdb: "FLUSHDB", .multi: "MULTI", .exec: "EXEC",
            .discard: "DISCARD", .watch: "WATCH a", .unwatch: "UNWATCH", .ping: "PING", .echo: "ECHO a",
            .select: "SELECT 0",
            .hello: "HELLO", .auth: "AUTH default x", .client: "CLIENT ID", .reset: "RESET", .command: "COMMAND COUNT",
            .config: "CONFIG GET save", .info: "INFO", .role: "ROLE", .wait: "WAIT 0 0", .waitlsn: "WAITLSN 0/0 1",
            .lastsave: "LASTSAVE",
            .status: "STATUS", .checkpoint: "CHECKPOINT", .wal: "WAL SWITCH", .restorepoint: "RESTOREPOINT p",
            .promote: "PROMOTE", .check: "CHECK", .backup: "BACKUP START l FAST", .slot: "SLOT LIST", .digest: "DIGEST",
            .replicate: "REPLICATE s 1 0/0",
            .shutdown: "SHUTDOWN", .quit: "QUIT",
        ]
        private static let administrative: Set<Command> = [
            .status, .checkpoint, .wal, .restorepoint, .promote, .check, .backup, .slot, .digest, .replicate, .shutdown,
        ]

        @Test("S5: every command by nobody and by the server's own user")
        func everyCommand() async throws {
            try await ServedEngine.with { served in
                for command in Command.allCases {
                    let call = try #require(Self.calls[command], "\(command) is not in the table")
                    let denied = "NOPERM this connection has no permissions to run the '\(command)' command"
                    let anonymous = try served.anonymous(.resp2).pipeline([call])[0].errorText
                    if Self.administrative.contains(command) {
                        #expect(anonymous == denied)
                    } else {
                        #expect(anonymous?.hasPrefix("NOPERM") != true, "\(command): \(anonymous ?? "")")
                    }
                    // SHUTDOWN and its closing connection have a test of their own.
                    if command == .shutdown { continue }
                    let allowed = try served.administrator(.resp2).pipeline([call])[0].errorText
                    #expect(allowed?.hasPrefix("NOPERM") != true, "\(command): \(allowed ?? "")")
                }
                let client = try served.anonymous()
                for call in ["CONFIG SET log.level debug", "CONFIG RESETSTAT", "CLIENT LIST"] {
                    #expect(try client.pipeline([call])[0].errorText?.hasPrefix("NOPERM") == true, "\(call)")
                }
                #expect(
                    try client.pipeline(["MULTI", "SET a 1", "CHECKPOINT", "EXEC"])[2].errorText?.hasPrefix("NOPERM")
                        == true)
                #expect(served.shutdowns == 0)
            }
        }

        @Test("settings that change at run time are checked, and reach the composition")
        func settings() async throws {
            try await ServedEngine.with { served in
                let client = try served.administrator()
                #expect(try client("CONFIG", "SET", "archive.timeout", "90s", "log.level", "debug") == .ok)
                #expect(served.appliedSettings?.archiveTimeoutSeconds == 90)
                #expect(served.appliedSettings?.logLevel == "debug")
                #expect(try client("CONFIG", "SET", "checkpoint.wal", "64MiB", "checkpoint.every", "2m") == .ok)
                #expect(served.appliedSettings?.checkpointBytes == 64 << 20)
                #expect(served.appliedSettings?.checkpointSeconds == 120)
                #expect(try client("CONFIG", "GET", "archive.*")["archive.timeout"] == .text("90s"))
                for bad in [
                    "archive.timeout -1", "archive.timeout x", "checkpoint.wal 1MiB", "checkpoint.every x",
                    "log.level loud", "maxmemory 1",
                    "listen 0.0.0.0:1",
                ] {
                    #expect(
                        try client.pipeline(["CONFIG SET \(bad)"])[0].errorText?.hasPrefix("CONFIG cannot set") == true,
                        "\(bad)")
                }
                #expect(served.appliedSettings?.archiveTimeoutSeconds == 90)
            }
        }

        @Test("of settings that two connections change at once none is taken back")
        func settingsAtOnce() async throws {
            try await ServedEngine.with { served in
                let one = try served.administrator(), other = try served.administrator()
                let calls = Atomic(0)
                served.onApply {
                    guard calls.add(1, ordering: .relaxed).newValue == 1 else { return }
                    // The other change comes while this one is applied: it may run beside, or wait.
                    other.wire.send("CONFIG", "SET", "synchronous.timeout", "7s")
                    try? other.wire.flush()
                    for _ in 0..<100 where calls.load(ordering: .relaxed) < 2 { usleep(10_000) }
                }
                #expect(try one("CONFIG", "SET", "synchronous.min_followers", "3") == .ok)
                #expect(try other.wire.receive() == .ok)
                let applied = try #require(served.appliedSettings).synchronous
                #expect(applied.minimumFollowers == 3 && applied.timeoutSeconds == 7)
                let shown = try one("CONFIG", "GET", "synchronous.*")
                #expect(shown["synchronous.min_followers"] == .text("3"))
                #expect(shown["synchronous.timeout"] == .text("7000ms"))
                // What writes go by.
                try one("CONFIG", "SET", "synchronous.timeout", "100ms")
                let text = try one("SET", "a", "1").errorText
                #expect(text?.contains("0 of the 3 followers that must have flushed it") == true)
            }
        }

        @Test("SHUTDOWN asks the composition, once, and answers nothing")
        func shutdown() async throws {
            try await ServedEngine.with { served in
                let client = try served.administrator()
                #expect(try client("SHUTDOWN", "ABORT") == .error("ERR No shutdown in progress."))
                #expect(throws: WireError.disconnected(served.addresses.unix!, 0)) { try client("SHUTDOWN", "NOSAVE") }
                #expect(served.shutdowns == 1)
            }
        }

        @Test(
            "S6: an address that other machines could reach is refused without TLS and users",
            arguments: [
                "0.0.0.0:0", "[::]:0", "192.168.1.1:0", "[::ffff:10.0.0.1]:0", "[::ffff:127.0.0.1]:0", "128.0.0.1:1",
            ])
        func notLocal(_ text: String) throws {
            let directory = try TemporaryDirectory("holdfast-users")
            let users = try TestUsers(in: directory, [("a", .reader)])
            let pair = try TestCertificates().issue("a")
            var configuration = ServerConfiguration()
            configuration.listen = try WireAddress(text)
            let error = #expect(throws: ServerError.self) { try LeaderServer.check(configuration) }
            #expect(error?.diagnosis.status == .configuration)
            configuration.usersFile = users.path
            #expect(throws: ServerError.notProtected(text)) { try LeaderServer.check(configuration) }
            configuration.tls = TLSFiles(certificate: pair.certificate, key: pair.key)
            try LeaderServer.check(configuration)
            configuration.usersFile = nil
            #expect(throws: ServerError.notProtected(text)) { try LeaderServer.check(configuration) }
        }

        @Test("what is not an address cannot be listened on", arguments: ["example.com:0", "127.0.0.1.example.com:0"])
        func notAnAddress(_ text: String) throws {
            #expect(throws: ServerError.notAnAddress(text)) { try Listeners.resolve(WireAddress(text)) }
        }

        @Test(
            "addresses of this machine",
            arguments: ["127.0.0.1:0", "[::1]:0", "127.1.2.3:0", "localhost:0", "LOCALHOST:1"])
        func local(_ text: String) throws { #expect(try Listeners.resolve(WireAddress(text)).isLoopback) }

        @Test("S11: the socket is its owner's alone, whatever the umask, and goes with the server")
        func socketMode() async throws {
            let old = umask(0)
            defer { umask(old) }
            let path = try await ServedEngine.with { served in
                let path = served.directory.path + "/s.sock"
                var status = stat()
                #expect(lstat(path, &status) == 0)
                #expect(status.st_mode & 0o777 == 0o600 && status.st_mode & S_IFMT == S_IFSOCK)
                let names = try FileManager.default.contentsOfDirectory(atPath: served.directory.path)
                #expect(names.sorted() == ["data", "s.sock"])
                return path
            }
            #expect(access(path, F_OK) != 0)
        }

        @Test("a socket is replaced if nobody listens on it, and only then")
        func socketFile() throws {
            let directory = try TemporaryDirectory("holdfast-socket")
            let path = directory.path + "/s"
            let first = try SocketFile.listen(at: path, mode: 0o600)
            #expect(throws: ServerError.socketInUse(path)) { try SocketFile.listen(at: path, mode: 0o600) }
            close(first)
            // What a killed server leaves: the file, and nobody behind it.
            let second = try SocketFile.listen(at: path, mode: 0o600)
            close(second)
            try FileManager.default.removeItem(atPath: path)
            try Data([1]).write(to: URL(filePath: path))
            #expect(throws: ServerError.notASocket(path)) { try SocketFile.listen(at: path, mode: 0o600) }
            #expect(try Data(contentsOf: URL(filePath: path)) == Data([1]), "what is there stays")
            let missing = directory.path + "/no/s"
            #expect(throws: ServerError.cannotListen(missing, ENOENT)) {
                try SocketFile.listen(at: missing, mode: 0o600)
            }
        }

        @Test("a port that is taken is told with its address")
        func portTaken() async throws {
            try await ServedEngine.with { served in
                let taken = served.addresses.tcp!
                let error = await #expect(throws: ServerError.self) {
                    try await ServedEngine.with(configure: { $0.listen = taken }) { _ in }
                }
                #expect(error == .cannotListen(taken.description, EADDRINUSE))
            }
        }

        @Test("a server that cannot have the socket leaves it to the one that has it")
        func socketOfAnother() async throws {
            try await ServedEngine.with { served in
                let path = served.directory.path + "/s.sock"
                let error = await #expect(throws: ServerError.self) {
                    try await ServedEngine.with(configure: { $0.socket = path }) { _ in }
                }
                #expect(error == .socketInUse(path))
                let client = try served.administrator()
                #expect(try client("PING") == .simple("PONG"))
            }
        }
    }
}
