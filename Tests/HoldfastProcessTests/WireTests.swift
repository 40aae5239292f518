import Foundation
import HoldfastTestSupport
import Testing

/// Bytes that no client library would send, against the process that serves.
@Suite("The wire as strangers and stock clients use it", .serialized)
struct WireTests {
    @Test("S9: malformed, huge and cut frames, wrong arity and types: an error, and the server stays up")
    func frames() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        let witness = try RawConnection(port: cluster.port)
        witness.request("SET", "text", "abc")
        #expect(try witness.line() == "+OK")
        let sizeBefore = try residentKiB(cluster)
        // Each of them ends its connection, with the reason.
        for frame in [
            "*2147483647\r\n", "*4294967295\r\n", "*9223372036854775807\r\n", "*99999999999999999999\r\n",
            "*x\r\n", "*1\r\n$-1\r\n", "*1\r\n$-5\r\n", "*1\r\n$2147483648\r\n", "*1\r\n$9223372036854775807\r\n",
            "*1\r\n$3\r\nGETxx", "*1\r\n:1\r\n", "*1\r\n*1\r\n$4\r\nPING\r\n", "*2\r\n$3\r\nGET\r\n$1\r\nab\r\n",
        ] {
            for port in [true, false] {
                let connection = try port ? RawConnection(port: cluster.port) : RawConnection(unix: cluster.socket)
                connection.send(frame)
                connection.endInput()
                let reply = try connection.rest()
                #expect(reply.hasPrefix("-"), "\(frame.debugDescription): \(reply)")
                #expect(reply.hasSuffix("\r\n") && reply.filter { $0 == "\r\n" }.count == 1, "\(reply)")
            }
        }
        // A line without end.
        let endless = try RawConnection(port: cluster.port)
        endless.send([UInt8](repeating: 65, count: 4 << 20))
        #expect(try endless.rest().hasPrefix("-"))
        // Cut in the middle, at every byte: nothing of it is done, and nothing is answered but what was whole.
        let whole = Array("*3\r\n$3\r\nSET\r\n$3\r\ncut\r\n$1\r\n1\r\n".utf8)
        for length in 1..<whole.count {
            let connection = try RawConnection(port: cluster.port)
            connection.send(Array(whole[..<length]))
            connection.endInput()
            #expect(try !connection.rest().contains("OK"))
        }
        witness.request("EXISTS", "cut")
        #expect(try witness.line() == ":0")
        // Promised but never sent: a length is not memory.
        let promises = try (0..<50).map { _ in
            let connection = try RawConnection(port: cluster.port)
            connection.send("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$60000000\r\nabc")
            return connection
        }
        let patient = try RawConnection(port: cluster.port)
        for (words, prefix) in [
            (["GET"], "-ERR wrong number"), (["SET", "a"], "-ERR wrong number"), (["INCR", "text"], "-ERR"),
            (["SELECT", "x"], "-ERR"), (["SELECT", "-1"], "-ERR"), (["NOSUCH", "x"], "-ERR unknown command"),
            (["SCAN", "x"], "-ERR"), (["EXEC"], "-ERR EXEC without MULTI"), (["SET", "a", "1", "NX", "XX"], "-ERR"),
            (["PING"], "+PONG"),
        ] {
            patient.send("*\(words.count)\r\n" + words.map { "$\($0.utf8.count)\r\n\($0)\r\n" }.joined())
            let line = try patient.line()
            #expect(line?.hasPrefix(prefix) == true, "\(words): \(line ?? "closed")")
        }
        #expect(try residentKiB(cluster) < sizeBefore + 256 * 1024, "memory for lengths that were only promised")
        withExtendedLifetime(promises) {}
        witness.request("GET", "text")
        #expect(try witness.line() == "$3")
        #expect(try witness.line() == "abc")
        #expect(cluster.leader?.isRunning == true)
        #expect(cluster.stopLeader() == 0)
    }

    private func residentKiB(_ cluster: TestCluster) throws -> Int {
        let pid = try #require(cluster.leader?.pid)
        let status = try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
        let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") })
        return try #require(line.split(separator: " ").dropFirst().first.flatMap { Int($0) })
    }

    @Test("S5: loopback TCP does records and nothing physical; the socket does both")
    func physicalOverTCP() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        let tcp = try RawConnection(port: cluster.port)
        let local = try RawConnection(unix: cluster.socket)
        for words in [
            ["BACKUP", "START", "x"], ["WAL", "SWITCH"], ["CHECKPOINT"], ["SHUTDOWN"], ["PROMOTE"],
            ["RESTOREPOINT", "x"],
            ["CONFIG", "SET", "archive.timeout", "1s"],
        ] {
            tcp.send("*\(words.count)\r\n" + words.map { "$\($0.utf8.count)\r\n\($0)\r\n" }.joined())
            let reply = try tcp.line()
            #expect(reply?.hasPrefix("-NOPERM") == true, "\(words): \(reply ?? "closed")")
        }
        for command in [["backup"], ["checkpoint"], ["promote"], ["restorepoint", "x"]] {
            let result = try cluster.run(command + ["--connect", "127.0.0.1:\(cluster.port)"])
            #expect(result.status == 77, "\(command): \(result.errors)")
            #expect(result.errors.contains("NOPERM") && result.errors.contains("hint:"), "\(result.errors)")
        }
        local.request("CHECKPOINT")
        let reply = try local.line()
        #expect(reply?.hasPrefix("-") == false, "\(reply ?? "closed")")
    }

    @Test("an address beyond loopback is refused before anything listens", arguments: ["0.0.0.0", "192.0.2.1", "[::]"])
    func foreignAddress(host: String) throws {
        let cluster = try TestCluster()
        let result = try cluster.run(["serve", "--listen", "\(host):\(cluster.port)"])
        #expect(result.status == 78, "\(result.errors)")
        #expect(result.errors.contains(host), "\(result.errors)")
        #expect(result.errors.contains("hint:"), "\(result.errors)")
        #expect(!FileManager.default.fileExists(atPath: cluster.socket))
    }

    @Test("A10: one directory has one server, whatever it listens on; the lock dies with its process")
    func twoServers() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        try cluster.load("a\t1\n")
        for command in [
            ["serve", "--socket", cluster.root + "/other.sock", "--listen", "127.0.0.1:0"],
            ["check", "--data", cluster.data],
            ["dump", "--data", cluster.data], ["load", "--data", cluster.data],
        ] {
            let result = try cluster.run(command, input: Data("b\t2\n".utf8))
            #expect(result.status == 75, "\(command): \(result.errors)")
            #expect(result.errors.contains(cluster.data), "\(result.errors)")
        }
        let restore = try cluster.run(["restore", "--data", cluster.data])
        #expect([65, 73, 75].contains(restore.status), "\(restore.errors)")
        cluster.killLeader()
        try cluster.startLeader()
        #expect(try cluster.dump() == "a\t1\n")
    }

    @Test("redis-cli and a Redis client library, unchanged", .enabled(if: BuiltBinary.tool("redis-cli") != nil))
    func stockClients() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        let cli = try #require(BuiltBinary.tool("redis-cli"))
        func redis(_ words: String...) throws -> String {
            try BuiltBinary.runTool(cli, ["-p", String(cluster.port)] + words).output.trimmingCharacters(in: .newlines)
        }
        #expect(try redis("SET", "a", "1") == "OK")
        #expect(try redis("INCR", "a") == "2")
        #expect(try redis("MSET", "b", "x", "c", "y") == "OK")
        #expect(try redis("MGET", "a", "b", "none") == "2\nx")
        #expect(try Set(redis("--scan").split(separator: "\n")) == ["a", "b", "c"])
        #expect(try redis("-3", "GET", "b") == "x")
        #expect(try redis("-n", "3", "SET", "other", "tree") == "OK")
        #expect(try redis("-n", "3", "DBSIZE") == "1")
        #expect(try redis("INFO", "server").contains("redis_version"))
        let script = """
            import redis
            r = redis.Redis(port=\(cluster.port))
            p = r.pipeline(transaction=True)
            p.set('tx', b'\\x00\\xff\\r\\n').get('tx').delete('a')
            assert p.execute() == [True, b'\\x00\\xff\\r\\n', 1], 'pipeline'
            with r.pipeline() as p:
                p.watch('b')
                redis.Redis(port=\(cluster.port)).set('b', 'changed')
                p.multi(); p.set('b', 'lost')
                try:
                    p.execute(); raise SystemExit('no WatchError')
                except redis.WatchError: pass
            assert sorted(r.scan_iter()) == [b'b', b'c', b'tx'], 'scan'
            print('fine')
            """
        if try BuiltBinary.runTool("/usr/bin/env", ["python3", "-c", "import redis"]).status == 0 {
            let result = try BuiltBinary.runTool("/usr/bin/env", ["python3", "-c", script])
            #expect(result.output == "fine\n", "\(result.errors)")
            #expect(try redis("GET", "b") == "changed")
        }
    }
}
