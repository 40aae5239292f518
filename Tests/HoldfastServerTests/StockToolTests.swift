import Foundation
import HoldfastTestSupport
import HoldfastWire
import Testing

@testable import HoldfastServer

/// Programs of Redis, where this machine has them (`deploy/test` installs them).
private enum StockTool {
    static let server = BuiltBinary.tool("redis-server")
    static let cli = BuiltBinary.tool("redis-cli")
    static let benchmark = BuiltBinary.tool("redis-benchmark")
    /// A Python that has the client library.
    static let python: String? = {
        guard let python = BuiltBinary.tool("python3"),
            let result = try? BuiltBinary.runTool(python, ["-c", "import redis"]), result.status == 0
        else { return nil }
        return python
    }()
}

extension ServerTests {
    @Suite("The tools and clients of Redis work unchanged")
    struct StockToolTests {
        private func tcpPort(_ served: ServedEngine) -> String {
            guard case .tcp(_, let port) = served.addresses.tcp else { return "" }
            return "\(port)"
        }

        @Test("redis-cli on TCP and on the socket", .enabled(if: StockTool.cli != nil))
        func cli() async throws {
            try await ServedEngine.with { served in
                let port = ["-p", tcpPort(served)]
                let socket = ["-s", served.directory.path + "/s.sock"]
                let mass = (0..<2000).map { "*3\r\n$3\r\nSET\r\n$\("m\($0)".utf8.count)\r\nm\($0)\r\n$1\r\nx\r\n" }
                    .joined()
                // Arguments, standard input, what the output begins with.
                let calls: [([String], String, String)] = [
                    (port + ["set", "greeting", "hello world"], "", "OK\n"),
                    (["-3"] + port + ["get", "greeting"], "", "hello world\n"),
                    (port, "multi\nincr n\nincr n\nexec\n", "OK\nQUEUED\nQUEUED\n1\n2\n"),
                    (port + ["--scan", "--pattern", "gre*"], "", "greeting\n"),
                    (port + ["checkpoint"], "", "NOPERM "), (socket + ["checkpoint"], "", "redo_lsn\n"),
                    (port + ["--pipe"], mass, "All data transferred. Waiting for the last reply..."),
                    (port + ["dbsize"], "", "2002\n"), (port + ["-x", "set", "binary"], "a\r\n\0b", "OK\n"),
                    (port + ["strlen", "binary"], "", "5\n"),
                ]
                for (arguments, input, beginning) in calls {
                    let result = try BuiltBinary.runTool(StockTool.cli!, arguments, input: Data(input.utf8))
                    #expect(result.output.hasPrefix(beginning), "\(arguments): \(result.output) \(result.errors)")
                }
            }
        }

        @Test("redis-benchmark", .enabled(if: StockTool.benchmark != nil), arguments: ServedEngine.Writes.allCases)
        func benchmark(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes) { served in
                for pipeline in ["1", "16"] {
                    let result = try BuiltBinary.runTool(
                        StockTool.benchmark!,
                        [
                            "-p", tcpPort(served), "-n", "1000", "-c", "10", "-P", pipeline, "-t",
                            "ping,set,get,incr,mset", "-q", "-r", "100",
                        ])
                    #expect(result.status == 0)
                    #expect(
                        !(result.output + result.errors).lowercased().contains("error"),
                        "\(result.output)\(result.errors)")
                }
                #expect((try served.anonymous()("DBSIZE").integer ?? 0) > 100)
            }
        }

        @Test("redis-py: pipelines, transactions, optimistic locking, scans", .enabled(if: StockTool.python != nil))
        func python() async throws {
            try await ServedEngine.with { served in
                let script = """
                    import redis, sys
                    for protocol in (2, 3):
                        try: r = redis.Redis(port=int(sys.argv[1]), protocol=protocol)
                        except TypeError: r = redis.Redis(port=int(sys.argv[1]))
                        r.flushdb()
                        assert r.set('a', b'\\x00\\xff') is True and r.get('a') == b'\\x00\\xff'
                        assert r.set('a', 1, nx=True) is None
                        assert r.mset({'k%d' % i: i for i in range(500)}) is True
                        assert r.incr('k1', 5) == 6 and r.exists('k1', 'none') == 1
                        with r.pipeline() as p:
                            p.set('t', 1); p.incr('t'); p.get('t')
                            assert p.execute() == [True, 2, b'2']
                        with r.pipeline() as p:
                            p.watch('t'); r.set('t', 9); p.multi(); p.set('t', 10)
                            try: p.execute(); sys.exit('no WatchError')
                            except redis.WatchError: pass
                        assert len(set(r.scan_iter(match='k*', count=7))) == 500
                        assert sorted(r.keys('k49?')) == [b'k49%d' % i for i in range(10)]
                        assert r.info()['role'] == 'master' and r.info('keyspace')['db0']['keys'] == 502
                        assert r.config_get('databases') == {'databases': '16'}
                        assert r.client_setname('me') and r.client_getname() == 'me'
                        assert r.dbsize() == 502 and r.ping() and r.echo('x') == b'x' and r.lastsave()
                        try: r.lpush('l', 1); sys.exit('no error')
                        except redis.ResponseError as e: assert 'not supported' in str(e)
                    print('fine')
                    """
                let result = try BuiltBinary.runTool(StockTool.python!, ["-c", script, tcpPort(served)])
                #expect(result.output == "fine\n", "\(result.output)\(result.errors)")
            }
        }

        @Test(
            "random streams of commands are answered byte for byte as redis-server answers them",
            .enabled(if: StockTool.server != nil), arguments: ServedEngine.Writes.allCases)
        func differential(_ writes: ServedEngine.Writes) async throws {
            let seed = SeededGenerator.announcedSeed("differential")
            try await ServedEngine.with(writes) { served in
                let socket = served.directory.path + "/redis.sock"
                let redis = try RunningProcess(
                    StockTool.server!,
                    ["--port", "0", "--unixsocket", socket, "--save", "", "--dir", served.directory.path])
                defer { redis.kill() }
                try waitUntil("redis-server listens", while: redis) {
                    (try? Client(.unix(path: socket), .resp2)) != nil
                }
                var stream = CommandStream(seed: seed)
                let pairs = try (0..<2).map { _ in
                    (ours: try served.anonymous(.resp2), theirs: try Client(.unix(path: socket), .resp2))
                }
                for round in 0..<400 {
                    let index = round % 5 == 4 ? 1 : 0
                    let requests = stream.next(connection: index)
                    let ours = try pairs[index].ours.wire.pipeline(requests)
                    let theirs = try pairs[index].theirs.wire.pipeline(requests)
                    for (request, (ours, theirs)) in zip(requests, zip(ours, theirs)) where ours != theirs {
                        let shown = request.map { String(decoding: $0, as: UTF8.self) }
                        Issue.record("round \(round), \(shown): \(ours) and not \(theirs)")
                        return
                    }
                }
            }
        }
    }
}

/// Random commands that both servers know, on few keys, so that they meet.
private struct CommandStream {
    private var random: SeededGenerator
    private var queueing = [false, false]

    init(seed: UInt64) { random = SeededGenerator(seed: seed) }

    mutating func next(connection: Int) -> [[[UInt8]]] {
        (0..<pick([1, 1, 3, 10, 30])).map { _ in
            var words = command()
            if queueing[connection], ["AUTH", "HELLO", "CLIENT", "WAIT"].contains(words[0]) { words = ["PING"] }
            if words == ["MULTI"] { queueing[connection] = true }
            if words == ["EXEC"] || words == ["DISCARD"] { queueing[connection] = false }
            return words.map { Array($0.utf8) }
        }
    }

    private mutating func pick<T>(_ values: [T]) -> T { values.randomElement(using: &random)! }
    private mutating func key() -> String {
        pick(["k0", "k1", "k2", "k3", "k4", "", "\u{0}\u{1}", "a long key, with blanks"])
    }
    private mutating func number() -> String {
        pick(["0", "1", "-1", "5", "-3", "100", "9223372036854775807", "-9223372036854775808", "x", "1.5", "", "01"])
    }

    private mutating func value() -> String {
        pick([
            "1", "-5", "9223372036854775807", "hello", "", " 1", "01", "-0", "\r\n", "é",
            String(repeating: "x", count: Int.random(in: 0..<3000, using: &random)),
        ])
    }

    private mutating func command() -> [String] {
        switch Int.random(in: 0..<32, using: &random) {
        case 0...2: ["GET", key()]
        case 3...6:
            ["sEt", key(), value()] + pick([[], [], ["NX"], ["xx"], ["GET"], ["NX", "GET"], ["NX", "XX"], ["foo"]])
        case 7: ["SETNX", key(), value()]
        case 8: ["MGET", key(), key(), key()]
        case 9: ["MSET", key(), value(), key(), value()] + pick([[], [], ["odd"]])
        case 10: ["DEL", key(), key(), key()]
        case 11: ["UNLINK", key()]
        case 12: ["EXISTS", key(), key()]
        case 13: ["STRLEN", key()]
        case 14: ["APPEND", key(), value()]
        case 15: ["GETRANGE", key(), number(), number()]
        case 16: [pick(["INCR", "DECR"]), key()]
        case 17: [pick(["INCRBY", "DECRBY"]), key(), number()]
        case 18: ["GETSET", key(), value()]
        case 19: ["GETDEL", key()]
        case 20:
            pick([["DBSIZE"], ["TYPE", key()], ["PING"], ["PING", "x"], ["PING", "x", "y"], ["ECHO", value()]])
        case 21: ["SELECT", pick(["0", "0", "1", "15", "16", "-1", "x"])]
        case 22, 23: ["MULTI"]
        case 24, 25: ["EXEC"]
        case 26: ["DISCARD"]
        case 27: ["WATCH", key(), key()]
        case 28: ["UNWATCH"]
        case 29: pick([["FLUSHDB"], ["FLUSHDB", "ASYNC"], ["FLUSHDB", "FOO"], ["nosuch", "a", key()]])
        // At most one key matches, so that the order does not matter.
        case 30: ["KEYS", pick(["k1", "k[2]", "k[^0123]", "a*blanks", "\\k0", "", "nothing*"])]
        default:
            pick([
                ["GET"], ["SET", "a"], ["INCR", "a", "b"], ["EXEC", "1"], ["SCAN"], ["SCAN", "x"],
                ["SCAN", "0", "COUNT", "0"],
                ["SCAN", "0", "COUNT"], ["SCAN", "0", "FOO", "1"], ["AUTH", "x"], ["AUTH", "u", "x"], ["HELLO", "9"],
                ["HELLO", "x"], ["CLIENT", "FOO"], ["CLIENT", "GETNAME"], ["CLIENT", "SETNAME", "a b"],
                ["CLIENT", "SETNAME"],
                ["WAIT", "0", "0"], ["WAIT", "a", "0"], ["SELECT"],
            ])
        }
    }
}
