import HoldfastWire
import Testing

@testable import HoldfastServer

extension ServerTests {
    @Suite("Commands answer as Redis does")
    struct CommandTests {
        @Test("strings, one after the other", arguments: ServedEngine.Writes.allCases)
        func strings(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes) { served in
                let client = try served.anonymous()
                let script: [(String, WireValue)] = [
                    ("GET a", .null), ("SET a 1", .ok), ("GET a", .text("1")), ("SET a 2 NX", .null),
                    ("SET b 2 XX", .null),
                    ("SET b 2 NX", .ok), ("SET a 3 GET", .text("1")), ("SET a 4 XX GET", .text("3")),
                    ("SET a 5 NX GET", .text("4")),
                    ("SETNX a 9", .integer(0)), ("SETNX c 9", .integer(1)), ("MSET d 1 e 2", .ok),
                    ("MGET a d e x", .array([.text("4"), .text("1"), .text("2"), .null])), ("STRLEN a", .integer(1)),
                    ("APPEND a 567", .integer(4)), ("APPEND new x", .integer(1)), ("GETRANGE a 1 -2", .text("56")),
                    ("GETRANGE a 5 9", .text("")), ("INCR a", .integer(4568)), ("DECRBY a 68", .integer(4500)),
                    ("DECR n", .integer(-1)),
                    ("INCRBY n 11", .integer(10)), ("GETSET n z", .text("10")),
                    ("INCR n", .error("ERR value is not an integer or out of range")),
                    ("GETDEL n", .text("z")), ("GETDEL n", .null), ("EXISTS a a n", .integer(2)),
                    ("DEL a n b", .integer(2)),
                    ("UNLINK c", .integer(1)), ("TYPE d", .simple("string")), ("TYPE n", .simple("none")),
                    ("DBSIZE", .integer(3)),
                    ("SELECT 3", .ok), ("DBSIZE", .integer(0)), ("SET a other", .ok), ("SELECT 0", .ok),
                    ("GET a", .null),
                    ("FLUSHDB", .ok), ("DBSIZE", .integer(0)), ("RANDOMKEY", .null), ("SELECT 3", .ok),
                    ("GET a", .text("other")),
                    ("RANDOMKEY", .text("a")),
                ]
                for (line, reply) in script { #expect(try client.pipeline([line]) == [reply], "\(line)") }
            }
        }

        @Test("one pipeline gives the same replies in the same order", arguments: ServedEngine.Writes.allCases)
        func pipeline(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes) { served in
                let client = try served.anonymous(.resp2)
                var lines: [String] = []
                var expected: [WireValue] = []
                for index in 0..<300 {
                    lines += ["SET k\(index % 7) \(index)", "GET k\(index % 7)", "PING \(index)", "EXISTS none"]
                    expected += [.ok, .text("\(index)"), .text("\(index)"), .integer(0)]
                    if index % 50 == 0 {
                        lines += [
                            "KEYS k\(index % 7)", "SELECT 0", "nosuch", "RANGE k\(index % 7) k\(index % 7)x LIMIT 1",
                        ]
                        expected += [
                            .array([.text("k\(index % 7)")]), .ok,
                            .error("ERR unknown command 'nosuch', with args beginning with: "),
                            .array([.text("k\(index % 7)"), .text("\(index)")]),
                        ]
                    }
                }
                #expect(try client.pipeline(lines) == expected)
            }
        }

        @Test("ranges both ways, with bounds and limits")
        func range() async throws {
            try await ServedEngine.with { served in
                let client = try served.anonymous()
                for key in ["a", "b", "c", "d"] { try client("SET", key, key.uppercased()) }
                func flat(_ text: String) -> WireValue { .array(text.map { .text(String($0)) }) }
                #expect(try client("RANGE", "b", "d") == flat("bBcC"))
                #expect(try client("RANGE", "", "") == flat("aAbBcCdD"))
                #expect(try client("RANGE", "b", "", "LIMIT", "1") == flat("bB"))
                #expect(try client("RANGE", "", "d", "REV", "LIMIT", "2") == flat("cCbB"))
                #expect(try client("RANGE", "x", "") == .array([]))
                #expect(try client("RANGE", "d", "b") == .array([]))
                #expect(try client("RANGE", "", "", "LIMIT", "0") == .array([]))
                #expect(try client("RANGE", "", "", "LIMIT", "-1").errorText != nil)
                #expect(try client("RANGE", "", "", "LIMIT").errorText == "ERR syntax error")
            }
        }

        @Test("what is not there says so by name")
        func unsupported() async throws {
            try await ServedEngine.with { served in
                let client = try served.administrator()
                #expect(try client("LPUSH", "a", "b") == .error("ERR LPUSH is not supported by Holdfast"))
                #expect(
                    try client("SET", "a", "b", "EX", "10")
                        == .error("ERR SET with EX is not supported: records do not expire"))
                #expect(try client("CLIENT", "KILL", "1") == .error("ERR CLIENT KILL is not supported by Holdfast"))
                #expect(try client("DBSIZE") == .integer(0), "nothing was written")
            }
        }

        @Test(
            "wrong numbers of arguments",
            arguments: [
                "GET", "SET a", "MSET a", "MSET a 1 b", "SCAN", "EXEC x", "ECHO", "RANGE a", "BACKUP", "CONFIG",
                "WAIT 1", "WAITLSN 0/0", "REPLICATE a 1", "SLOT",
            ])
        func arity(_ line: String) async throws {
            try await ServedEngine.with { served in
                let reply = try served.administrator().pipeline([line])[0].errorText ?? ""
                #expect(
                    reply.contains(
                        "wrong number of arguments for '\(line.split(separator: " ")[0].lowercased())' command"),
                    "\(reply)")
            }
        }

        @Test("keys and values at their limits, and beyond")
        func limits() async throws {
            try await ServedEngine.with { served in
                let client = try served.anonymous()
                func words(_ name: String, _ more: [UInt8]...) -> [[UInt8]] { [Array(name.utf8)] + more }
                let key = [UInt8](repeating: 0xFF, count: 2048)
                #expect(try client.call(words("SET", key, [1])) == .ok)
                #expect(try client.call(words("GET", key)) == .bulk([1]))
                #expect(
                    try client.call(words("SET", key + [0], [1])) == .error("ERR the key is longer than 2048 bytes"))
                #expect(try client.call(words("GET", key + [0])) == .null)
                #expect(try client.call(words("DEL", key + [0])) == .integer(0))
                #expect(try client.call(words("SET", [], [])) == .ok, "empty keys and values are keys and values")
                #expect(try client.call(words("GET", [])) == .bulk([]))
                let large = [UInt8](repeating: 7, count: 5 << 20)
                #expect(try client.call(words("SET", [1], large)) == .ok)
                #expect(try client.call(words("GET", [1])) == .bulk(large))
                #expect(try client.call(words("STRLEN", [1])) == .integer(5 << 20))
            }
        }

        @Test("SCAN returns whatever is there throughout, and once, while others come and go")
        func scan() async throws {
            try await ServedEngine.with { served in
                let client = try served.anonymous()
                for index in 0..<500 { try client("SET", "stay\(index)", "") }
                var seen: [String] = []
                var cursor = "0"
                var step = 0
                repeat {
                    let reply = try client("SCAN", cursor, "COUNT", "13", "MATCH", "stay*").elements ?? []
                    cursor = reply.first?.text ?? "0"
                    seen += (reply.last?.elements ?? []).compactMap(\.text)
                    try client("SET", "go\(step)", "")
                    try client("SET", "tmp\(step)", "")
                    try client("DEL", "go\(step - 1)")
                    step += 1
                } while cursor != "0"
                #expect(seen.sorted() == (0..<500).map { "stay\($0)" }.sorted())
                #expect(step > 500 / 13)
                #expect(try client("SCAN", "12345").errorText?.contains("begin again with SCAN 0") == true)
            }
        }

        @Test("a cursor that was pushed out is refused, never skipped over")
        func cursors() {
            let cursors = ScanCursors()
            let first = cursors.cursor(at: [1], 0)
            #expect(cursors.place(of: first, 0) == [1])
            #expect(cursors.place(of: first, 1) == nil)
            for index in 0..<ScanCursors.capacity { _ = cursors.cursor(at: [UInt8(index & 0xFF)], 0) }
            #expect(cursors.place(of: first, 0) == nil)
        }

        @Test("RESP 2 and 3 on one port, chosen by HELLO and taken back by RESET")
        func protocols() async throws {
            try await ServedEngine.with { served in
                let client = try served.anonymous(.resp2)
                #expect(try client("GET", "x") == .null)
                #expect(try client("HELLO", "3")["proto"] == .integer(3))
                #expect(
                    try client("CONFIG", "GET", "databases")
                        == .map([WirePair(key: .text("databases"), value: .text("16"))]))
                #expect(try client("RESET") == .simple("RESET"))
                #expect(try client("CONFIG", "GET", "databases") == .array([.text("databases"), .text("16")]))
                #expect(try client("HELLO", "4") == .error("NOPROTO unsupported protocol version"))
                #expect(try client("QUIT") == .ok)
                #expect(throws: WireError.self) { try client("PING") }
            }
        }

        @Test("INFO has the sections and fields that tools look for")
        func info() async throws {
            try await ServedEngine.with { served in
                let client = try served.anonymous()
                try client("SET", "a", "b")
                let text = try client("INFO").text ?? ""
                for line in [
                    "# Server", "redis_version:7.", "# Clients", "connected_clients:1", "# Persistence", "loading:0",
                    "# Replication", "role:master", "# Archive", "archiving:0", "# Keyspace", "db0:keys=1,expires=0",
                ] {
                    #expect(text.contains(line), "\(line)")
                }
                #expect(try client("INFO", "keyspace").text == "# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n")
                #expect(try client("ROLE").elements?.first == .text("master"))
                #expect(try client("WAIT", "0", "0") == .integer(0))
                #expect(try client("WAIT", "1", "20") == .integer(0))
                #expect(try client("LASTSAVE").integer != nil)
                #expect((try client("COMMAND").elements?.count ?? 0) == Command.allCases.count)
                #expect(try client("COMMAND", "COUNT") == .integer(Int64(Command.allCases.count)))
            }
        }
    }
}

@Suite("Patterns match as Redis' do")
struct GlobTests {
    @Test(
        "patterns",
        arguments: [
            ("*", "", true), ("", "", true), ("", "a", false), ("a*c", "abbc", true), ("a*c", "abbd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false), ("[abc]", "b", true), ("[^abc]", "b", false), ("[a-c]x", "bx", true),
            ("[c-a]", "b", true),
            ("\\*", "*", true), ("\\*", "x", false), ("[\\]]", "]", true), ("*a*b*c*", "xxaxxbxxcxx", true),
            ("[ab", "a", true),
            ("**", "anything", true), ("a\\", "a\\", true), ("[]", "a", false), ("*[0-9]", "a1", true),
        ])
    func patterns(_ pattern: String, _ text: String, _ matches: Bool) {
        let found = Array(text.utf8).withUnsafeBytes { GlobPattern(pattern.utf8).matches($0) }
        #expect(found == matches)
    }

    @Test("S9: a pattern of many stars takes steps in proportion, not without end")
    func stars() {
        let pattern = GlobPattern(Array(String(repeating: "a*", count: 500).utf8) + [0x62])
        let text = [UInt8](repeating: 0x61, count: 5000)
        #expect(!text.withUnsafeBytes { pattern.matches($0) })
    }
}
