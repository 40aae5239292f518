import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWire
import Logging
import NIOCore
import NIOPosix
import Testing

@testable import HoldfastServer

@Suite("Passwords, users and failed logins")
struct PasswordTests {
    @Test("a password's hash is read as it was written, and only its password matches")
    func roundTrip() throws {
        let hash = PasswordHash(of: Array("correct horse".utf8), cost: 4)
        let read = try #require(PasswordHash(hash.encoded))
        #expect(read == hash && hash.encoded.hasPrefix("$scrypt$ln=4,r=8,p=1$"))
        #expect(read.matches(Array("correct horse".utf8)))
        for wrong in ["", "correct horsf", "correct hors", "correct horse ", "\0"] {
            #expect(!read.matches(Array(wrong.utf8)), "\(wrong)")
        }
        #expect(PasswordHash(of: Array("a".utf8), cost: 4) != PasswordHash(of: Array("a".utf8), cost: 4), "salted")
        #expect(!PasswordHash(of: [], cost: 4).matches([]), "an empty password is never right")
        #expect(!"\(hash) \(String(reflecting: hash))".contains("$"), "nothing prints it")
    }

    @Test("scrypt is that of RFC 7914")
    func vector() throws {
        let salt = Data("SodiumChloride".utf8).base64EncodedString().replacing("=", with: "")
        let known = try #require(PasswordHash("$scrypt$ln=14,r=8,p=1$\(salt)$\(Self.pleaseletmein)"))
        #expect(known.matches(Array("pleaseletmein".utf8)))
        #expect(!known.matches(Array("pleaseletmeout".utf8)))
    }

    /// Its third test vector: pleaseletmein, SodiumChloride, N 16384, r 8, p 1.
    private static let pleaseletmein: String = {
        let text =
            "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
            + "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
        let digits = Array(text)
        let bytes = stride(from: 0, to: digits.count, by: 2).map { UInt8(String(digits[$0...$0 + 1]), radix: 16)! }
        return Data(bytes).base64EncodedString().replacing("=", with: "")
    }()

    @Test(
        "S9: hashes that ask for more than this server gives, or that are cut, are none",
        arguments: [
            "", "$", "plain", "$scrypt$ln=20,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            "$scrypt$ln=19,r=32,p=16$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            "$scrypt$ln=-1,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            "$scrypt$ln=9223372036854775807,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            "$scrypt$ln=15,r=8,p=1$$", "$scrypt$ln=15,r=8,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAA",
            "$scrypt$ln=15,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAA", "$argon2id$v=19$m=65536,t=3,p=4$AAAA$AAAA",
        ])
    func badHash(_ text: String) { #expect(PasswordHash(text) == nil) }

    @Test("a users file is read whole or refused with the line that is wrong")
    func usersFile() throws {
        let hash = PasswordHash(of: Array("x".utf8), cost: 4).encoded
        let list = try UserList("# users\n\na:reader:\(hash)\nb:writer,backup:\(hash)\n")
        #expect(list.users.map(\.name) == ["a", "b"] && list.find("b")?.roles == [.writer, .backup])
        #expect(try UserList(list.text).users == list.users)
        for (line, why) in [
            ("a", "it is not name:roles:hash"), ("a:reader", "it is not name:roles:hash"),
            ("a:reader:\(hash):x", "it is not name:roles:hash"), ("-a:reader:\(hash)", "its name is not a name"),
            ("a::\(hash)", "its roles are not some of reader, writer, replication, backup, admin"),
            ("a:nobody:\(hash)", "its roles are not some of reader, writer, replication, backup, admin"),
            ("a:reader:secret", "its hash is not one of holdfast user add"),
            ("b:reader:\(hash)", "a user is listed twice"),
        ] {
            let error = #expect(throws: UserList.BadLine.self) { try UserList("b:reader:\(hash)\n" + line) }
            #expect(error == UserList.BadLine(number: 2, why: why))
        }
    }

    @Test(
        "S11: a users file that others can read is refused; one that is written is its owner's alone, whatever the umask"
    )
    func modes() throws {
        let directory = try TemporaryDirectory("holdfast-users")
        let old = umask(0)
        defer { umask(old) }
        let users = try TestUsers(in: directory, [("a", .reader)])
        var status = stat()
        #expect(stat(users.path, &status) == 0 && status.st_mode & 0o777 == 0o600)
        #expect(try UsersFile(users.path).read().users.map(\.name) == ["a"])
        for mode: mode_t in [0o604, 0o644, 0o666, 0o602] {
            chmod(users.path, mode)
            #expect(throws: SecretFileError.readableByOthers(users.path, mode: UInt32(mode))) {
                try UsersFile(users.path).read()
            }
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["users"])
    }

    @Test("an unknown user takes as long as a wrong password")
    func sameWork() throws {
        var list = UserList()
        list.set(UserList.User(name: "a", roles: .reader, hash: PasswordHash(of: [1], cost: 12)))
        func seconds(_ name: String) -> Double {
            let times = (0..<7).map { _ in
                let start = ContinuousClock.now
                #expect(list.verified(name, [2]) == nil)
                return (ContinuousClock.now - start) / .seconds(1)
            }
            return times.sorted()[3]
        }
        _ = seconds("a")
        let (known, unknown) = (seconds("a"), seconds("b"))
        #expect(unknown > known / 2 && unknown < known * 2, "\(known) s and \(unknown) s")
    }

    @Test("S6: the wait after failures doubles, is bounded, holds for attempts that come together, and is forgotten")
    func delays() {
        var failures = LoginFailures()
        let start = NIODeadline.now()
        let patience = TimeAmount.seconds(10)
        #expect(failures.wait("a", now: start, patience: patience) == .zero)
        let delays = (0..<8).map { _ in failures.note("a", now: start).nanoseconds / 1_000_000 }
        #expect(delays == [250, 500, 1000, 2000, 4000, 5000, 5000, 5000])
        #expect(failures.wait("b", now: start, patience: patience) == .zero, "another address does not wait")
        let waits = (0..<4).map { _ in failures.wait("a", now: start, patience: patience)?.nanoseconds }
        #expect(waits == [5_000_000_000, 10_000_000_000, nil, nil])
        #expect(failures.wait("a", now: start + .seconds(120), patience: patience) == .zero)
        for number in 0..<5000 { _ = failures.note("\(number)", now: start + .milliseconds(Int64(number))) }
        #expect(failures.wait("0", now: start, patience: patience) == .zero, "the table is bounded")
    }
}

extension ServerTests {
    @Suite("Logging in, and what is not allowed before")
    struct LoginTests {
        private func with(
            login: LoginLimits = LoginLimits(), requiresUser: Bool = true,
            _ body: (ServedEngine, TestUsers) async throws -> Void
        ) async throws {
            let directory = try TemporaryDirectory("holdfast-users")
            let users = try TestUsers(in: directory, [("alice", .writer), ("default", .reader), ("root", .admin)])
            try await ServedEngine.with(configure: {
                $0.usersFile = users.path
                $0.requiresUser = requiresUser
                $0.login = login
                $0.reloadSeconds = 0.05
            }) { served in try await body(served, users) }
        }

        @Test("AUTH and HELLO as the clients of Redis send them")
        func commands() async throws {
            try await with { served, _ in
                let client = try served.client()
                #expect(
                    try client.pipeline(["PING", "HELLO 3", "HELLO"]).allSatisfy {
                        $0.errorText?.hasPrefix("NOAUTH ") == true
                    })
                #expect(
                    try client.pipeline(["AUTH alice alice-password", "SET a 1", "GET a"]) == [.ok, .ok, .text("1")])
                #expect(try client.pipeline(["AUTH a b c"])[0].errorText == "ERR syntax error")
                #expect(
                    try client.pipeline(["AUTH default-password", "SET a 1"])[1].errorText?.hasPrefix("NOPERM") == true)
                let greeted = try served.client()
                let reply = try greeted.pipeline([
                    "HELLO 3 AUTH root root-password SETNAME me", "CLIENT GETNAME", "CLIENT INFO",
                ])
                #expect(reply[0]["proto"]?.integer == 3 && reply[1] == .text("me"))
                #expect(reply[2].text?.contains("user=root ") == true)
                #expect(try greeted.pipeline(["RESET", "GET a"])[1].errorText == "NOAUTH Authentication required.")
            }
        }

        @Test("S6: a wrong password, an unknown user and no password get the same answer, and change nothing")
        func wrong() async throws {
            try await with { served, _ in
                let client = try served.client()
                let wrong = "WRONGPASS invalid username-password pair or user is disabled."
                for call in ["AUTH alice wrong", "AUTH nobody alice-password", "HELLO 3 AUTH alice x"] {
                    #expect(
                        try client.pipeline([call, "GET a"]).map(\.errorText) == [
                            wrong, "NOAUTH Authentication required.",
                        ])
                }
            }
        }

        @Test("S6: failures slow the address down that they come from, and nobody else")
        func bruteForce() async throws {
            try await with { served, _ in
                // Begun at once, on connections of their own.
                let start = ContinuousClock.now
                let clients = try (0..<6).map { _ in try served.client() }
                for client in clients {
                    client.wire.send("AUTH", "alice", "wrong")
                    try client.wire.flush()
                }
                _ = try clients[0].wire.receive()
                let right = ContinuousClock.now
                try served.client(as: "alice")("SET", "a", "2")
                #expect((ContinuousClock.now - right) / .seconds(1) > 0.2, "the right password waits too")
                for client in clients.dropFirst() { _ = try client.wire.receive() }
                let four = (ContinuousClock.now - start) / .seconds(1)
                #expect(four > 2, "six tries in \(four) s")
                let again = ContinuousClock.now
                let other = try served.administrator()
                #expect(try other("PING") == .simple("PONG"))
                #expect(try other.pipeline(["AUTH alice alice-password", "SET a 1"]) == [.ok, .ok])
                #expect((ContinuousClock.now - again) / .seconds(1) < 1, "the unix socket is another address")
            }
        }

        @Test("S6: who does not log in is closed in time, idle or dripping, and others are served")
        func slow() async throws {
            var login = LoginLimits()
            login.seconds = 1
            try await with(login: login) { served, _ in
                let logged = try served.client(as: "alice")
                let start = ContinuousClock.now
                let idle = try RawTCPClient(served.addresses.tcp!)
                let half = try RawTCPClient(served.addresses.tcp!)
                half.send("*3\r\n$4\r\nAUTH\r\n$5\r\nali")
                let drip = try RawTCPClient(served.addresses.tcp!)
                let dripping = Thread { for _ in 0..<40 { drip.send("P"); usleep(100_000) } }
                dripping.start()
                let answers = try await onThread { [idle, half, drip].map { $0.rest() } }
                #expect(answers == ["", "", ""])
                let seconds = (ContinuousClock.now - start) / .seconds(1)
                #expect(seconds > 0.9 && seconds < 3, "\(seconds) s")
                #expect(try logged("SET", "a", "1") == .ok, "who has logged in stays")
            }
        }

        @Test("S6: connections before the login are counted, and those after it are not among them")
        func counted() async throws {
            var login = LoginLimits()
            login.connectionsOfAddress = 3
            login.seconds = 60
            try await with(login: login) { served, _ in
                let users = try (0..<5).map { _ in try served.client(as: "alice") }
                var waiting = try (0..<3).map { _ in try RawTCPClient(served.addresses.tcp!) }
                for client in waiting {
                    client.send("PING\r\n")
                    #expect(String(decoding: client.receive(7), as: UTF8.self) == "-NOAUTH")
                }
                let refused = try RawTCPClient(served.addresses.tcp!)
                #expect(refused.rest() == "-ERR max number of clients reached\r\n")
                #expect(try users[4]("SET", "a", "1") == .ok)
                waiting.removeAll()
                try waitUntil("a place is free") { (try? served.client(as: "alice")("PING")) == .simple("PONG") }
            }
        }

        @Test("S6: before the login frames are small, and what is too large closes the connection")
        func frames() async throws {
            try await with { served, _ in
                for (bytes, answer) in [
                    ("*3\r\n$4\r\nAUTH\r\n$100000\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
                    ("*1000000\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
                    (String(repeating: "a", count: 20_000), "-ERR Protocol error: too big inline request\r\n"),
                    ("\u{16}\u{3}\u{1}", "-ERR Protocol error: TLS is not spoken here\r\n"),
                ] {
                    let client = try RawTCPClient(served.addresses.tcp!)
                    client.send(bytes)
                    #expect(client.rest() == answer)
                }
                let client = try served.client(as: "alice")
                #expect(try client("SET", "a", String(repeating: "v", count: 100_000)) == .ok)
            }
        }

        @Test("S6: random bytes on the port end their connection at most")
        func garbage() async throws {
            var login = LoginLimits()
            login.seconds = 1
            try await with(login: login) { served, _ in
                var generator = SeededGenerator(seed: SeededGenerator.announcedSeed("garbage"))
                for _ in 0..<200 {
                    let client = try RawTCPClient(served.addresses.tcp!)
                    client.send(
                        (0..<Int.random(in: 1...2000, using: &generator)).map { _ in
                            UInt8.random(in: 0...255, using: &generator)
                        })
                }
                try waitUntil("they are gone") {
                    (try? served.client(as: "alice")("SET", "a", "1")) == .ok
                }
            }
        }

        @Test(
            "S5: who is removed, or gets other roles, while the password is checked is not let in",
            arguments: [true, false])
        func changedMeanwhile(_ isRemoved: Bool) async throws {
            let directory = try TemporaryDirectory("holdfast-users")
            let users = try TestUsers(in: directory, [("alice", .admin)])
            var configuration = ServerConfiguration()
            configuration.usersFile = users.path
            let access = try ServerAccess(configuration)
            let group = MultiThreadedEventLoopGroup(numberOfThreads: 1), pool = NIOThreadPool(numberOfThreads: 1)
            pool.start()
            let loop = group.any(), isReleased = DispatchSemaphore(value: 0)
            pool.submit { _ in isReleased.wait() }
            let isLetIn = loop.makePromise(of: Bool.self)
            try await loop.submit {
                let gate = LoginGate(access: access, limits: LoginLimits(), loop: loop, pool: pool)
                gate.check("alice", Array("alice-password".utf8), from: "a", isWanted: { true }) { outcome in
                    if case .user = outcome { isLetIn.succeed(true) } else { isLetIn.succeed(false) }
                }
            }.get()
            if isRemoved { try users.remove("alice") } else { try users.set("alice", .reader) }
            _ = access.reload(onlyChanged: false, Logger(label: "test"))
            isReleased.signal()
            #expect(try await isLetIn.futureResult.get() == false)
            try await pool.shutdownGracefully()
            try await group.shutdownGracefully()
        }

        @Test("a users file that changes is read again; users that are gone or changed are disconnected")
        func reload() async throws {
            try await with { served, users in
                let alice = try served.client(as: "alice")
                let root = try served.client(as: "root")
                try users.set("bob", .reader)
                try waitUntil("bob may log in") { (try? served.client(as: "bob")("GET", "a")) == .null }
                try users.remove("alice")
                try waitUntil("alice is disconnected") { (try? alice("GET", "a")) == nil }
                #expect(throws: WireError.self) { _ = try served.client(as: "alice") }
                // What cannot be read changes nothing; nor does a file that is being written, and empty as yet.
                try "".write(toFile: users.path, atomically: false, encoding: .utf8)
                usleep(200_000)
                try "nonsense\n".write(toFile: users.path, atomically: false, encoding: .utf8)
                usleep(200_000)
                #expect(try root("CHECKPOINT").errorText == nil)
                #expect(try served.client(as: "bob")("GET", "a") == .null)
            }
        }
    }
}
