import Foundation
import HoldfastTestSupport
import Testing

/// `holdfast serve` and redis-server, given the same bytes in the same order.
@Suite("Replies are those of Redis", .serialized, .enabled(if: RedisServer.program != nil))
struct DifferentialTests {
    /// A connection to each of the two, and what its open transaction has queued.
    private final class Pair {
        let ours: RawConnection
        let theirs: RawConnection
        private var queued: [[String]] = []
        private var isQueueing = false
        /// The requests before, for the message of a failure.
        private(set) var history: [String] = []

        init(_ cluster: TestCluster, _ redis: RedisServer) throws {
            ours = try RawConnection(port: cluster.port)
            theirs = try RawConnection(unix: redis.socket)
        }

        /// Sends the same requests to both and returns the first pair of replies that nothing explains.
        func exchange(_ requests: [CommandStream.Words]) throws -> String? {
            let requests = withoutRefusals(requests)
            ours.send(requests)
            theirs.send(requests)
            for words in requests {
                var shown = words.map { String(decoding: $0.prefix(4096), as: UTF8.self) }
                history.append(
                    words.map {
                        $0.count > 40 ? "(\($0.count) bytes)" : String(decoding: $0, as: UTF8.self).debugDescription
                    }.joined(separator: " "))
                shown[0] = shown[0].uppercased()
                guard let mine = try ours.reply(), let other = try theirs.reply() else {
                    return "a connection was closed\n" + story()
                }
                if !agree(shown, mine, other) { return "ours: \(mine)\ntheirs: \(other)\n" + story() }
                if mine.text == "QUEUED" { queued.append(shown) }
                if shown[0] == "MULTI", mine.text == "OK" { isQueueing = true }
                if ["EXEC", "DISCARD", "RESET"].contains(shown[0]), !mine.isError {
                    (queued, isQueueing) = ([], false)
                }
                if mine.text?.hasPrefix("EXECABORT") == true { (queued, isQueueing) = ([], false) }
            }
            return nil
        }

        /// Without the requests that only Redis allows in a transaction: they would undo it on one side.
        private func withoutRefusals(_ requests: [CommandStream.Words]) -> [CommandStream.Words] {
            var mayQueue = isQueueing
            return requests.filter { words in
                let name = String(decoding: words[0], as: UTF8.self).uppercased()
                if name == "MULTI" { mayQueue = true }
                return !(mayQueue && KnownDifference.endsTransaction.contains(name))
            }
        }

        private func story() -> String { history.suffix(12).joined(separator: "\n") }

        private func agree(_ words: [String], _ mine: RawReply, _ other: RawReply) -> Bool {
            if mine == other { return true }
            if words[0] == "EXEC", mine.bytes == other.bytes, mine.elements.count == queued.count {
                return zip(queued, zip(mine.elements, other.elements)).allSatisfy { agree($0, $1.0, $1.1) }
            }
            return KnownDifference.all.contains { $0.explains(words, mine, other) }
        }
    }

    private func words(_ line: String) -> CommandStream.Words {
        line.split(separator: " ").map { Array($0.utf8) }
    }

    @Test(
        "random commands on up to four connections: every string command, transactions, both versions of RESP",
        arguments: SyncSpeed.possible)
    func randomStreams(speed: SyncSpeed) throws {
        let seed = SeededGenerator.announcedSeed("differential")
        let cluster = try TestCluster()
        try speed.start(cluster)
        let redis = try RedisServer()
        var stream = CommandStream(seed: seed)
        var requests = 0
        for _ in 0..<(speed == .slow ? Self.rounds / 3 : Self.rounds) {
            let pairs = try (0...stream.below(4)).map { _ in try Pair(cluster, redis) }
            for _ in 0..<100 {
                let pipeline = stream.pipeline()
                requests += pipeline.count
                if let difference = try pairs[stream.below(pairs.count)].exchange(pipeline) {
                    Issue.record("\(difference)")
                    return
                }
            }
        }
        // What is left in the trees that the stream selects.
        let last = try Pair(cluster, redis)
        for database in ["0", "1", "2", "15"] {
            #expect(try last.exchange([words("SELECT \(database)"), words("KEYS *"), words("DBSIZE")]) == nil)
            last.theirs.send([words("KEYS *")])
            let keys = try #require(try last.theirs.reply()).elements.compactMap(\.bulk)
            #expect(try last.exchange(keys.map { [Array("GET".utf8), $0] }) == nil)
        }
        print("differential: \(requests) requests")
        #expect(cluster.stopLeader() == 0)
    }

    /// Connections are made anew as often; more with `HOLDFAST_DIFFERENTIAL_ROUNDS`.
    private static let rounds =
        ProcessInfo.processInfo.environment["HOLDFAST_DIFFERENTIAL_ROUNDS"].flatMap { Int($0) } ?? 30

    @Test("what is no request, and requests typed as a line")
    func frames() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        let redis = try RedisServer()
        let frames = [
            "*1\r\n$-1\r\n", "*1\r\n$-5\r\n", "*1\r\n$x\r\n", "*1\r\n$9223372036854775807\r\n", "*x\r\n",
            "*2147483648\r\n", "*99999999999999999999\r\n", "*1\r\n:1\r\n", "*1\r\nPING\r\n", "*0\r\nPING\r\n",
            "*-1\r\nPING\r\n", "\r\n\nPING\r\n", "PING\n", "  ping   'a b'  \r\n", "ECHO \"a\\x00\\n\\q\\\"b\"\r\n",
            "ECHO 'it\\'s'\r\n", "ECHO \"open\r\n", "ECHO 'open\r\n", "ECHO \"a\"b\r\n", "ECHO \"\\xzz\"\r\n",
            "SET line 'x y'\r\nGET line\r\n", "ECHO\ta\r\n", "\"ECHO\" ''\r\n", "ECHO a\\x41\r\n", "QUIT\r\nPING\r\n",
            "*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n", "*1\r\n$4\r\nPING\r\n*x\r\n",
        ]
        for frame in frames {
            let replies = try [RawConnection(port: cluster.port), RawConnection(unix: redis.socket)].map { connection in
                connection.send(frame)
                connection.endInput()
                return try connection.rest()
            }
            #expect(replies[0] == replies[1], "\(frame.debugDescription)")
        }
    }

    @Test("each documented difference is one, and is answered as documented")
    func documented() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        let redis = try RedisServer()
        for difference in KnownDifference.all where !difference.example.isEmpty {
            let ours = try RawConnection(port: cluster.port)
            let theirs = try RawConnection(unix: redis.socket)
            let requests = (["MSET b 1 a 2 e 3 d 4 c 5 f 6 g 7"] + difference.example).map { words($0) }
            for connection in [ours, theirs] { connection.send(requests) }
            let replies = try [ours, theirs].map { connection in
                for _ in requests.dropLast() { _ = try connection.reply() }
                return try #require(try connection.reply())
            }
            let shown = requests.last!.map { String(decoding: $0, as: UTF8.self) }
            #expect(replies[0] != replies[1], "\(difference.name) is none any more")
            #expect(difference.explains(shown, replies[0], replies[1]), "\(difference.name): \(replies[0])")
        }
    }
}
