import Foundation
import HoldfastTestSupport
import HostHarness
import Testing

/// What a suite that is skipped says.
let whyNoHosts = Comment(rawValue: HostNetwork.obstacle ?? "hosts can be made")

/// The hosts themselves: that what is cut is cut, and what is not is not.
@Suite("Hosts in network namespaces", .serialized, .enabled(if: HostNetwork.obstacle == nil, whyNoHosts))
struct HostTests {
    @Test("a cut holds in one direction, a partition in both and between its sides only, until all is healed")
    func cuts() throws {
        let network = try HostNetwork(["a", "b", "c"])
        let (a, b, c) = (try Post(network["a"]), try Post(network["b"]), try Post(network["c"]))
        func arrives(_ from: Post, _ to: Post) throws -> Bool {
            let heard = try Self.heard(from, to, count: 20, of: network) { try network.heal() }
            return heard == 20
        }
        #expect(try arrives(a, b) && arrives(b, a))
        try network.cut(from: "a", to: "b")
        #expect(try arrives(b, a), "the other way is open")
        try network.cut(from: "a", to: "b")
        #expect(try !arrives(a, b))
        #expect(try arrives(a, b), "all was healed")
        for (from, to, isCut) in [(a, b, true), (b, a, true), (c, a, true), (b, c, false), (c, b, false)] {
            try network.partition(["a"])
            #expect(try arrives(from, to) != isCut)
        }
        try network.partition(["a"], except: ["c"])
        #expect(try arrives(a, c))
    }

    @Test("of what passes a lossy link some is lost, and some of what is sent too fast")
    func loss() throws {
        let network = try HostNetwork(["a", "b"])
        let (a, b) = (try Post(network["a"]), try Post(network["b"]))
        try network.lose(50, from: "a", to: "b")
        let heard = try Self.heard(a, b, count: 200, of: network) { try network.heal() }
        #expect((1..<200).contains(heard), "\(heard) of 200 arrived")
        try network.limit("a", kilobytesPerSecond: 10)
        // The first 64 KiB pass at once.
        let fast = try Self.heard(a, b, count: 400, bytes: 1000, of: network) { try network.heal() }
        #expect((1..<400).contains(fast), "\(fast) of 400 arrived")
    }

    @Test(
        "a proxy keeps each stream's order, and lets one connection overtake another",
        .enabled(if: BuiltBinary.tool("redis-server") != nil, "redis-server is not installed"))
    func proxy() throws {
        let network = try HostNetwork(["a"])
        let host = network["a"]
        let redis = try host.start(BuiltBinary.tool("redis-server")!, ["--port", "6379", "--save", ""])
        let server = (address: "127.0.0.1", port: UInt16(6379))
        let jittery = try DelayingProxy(in: host, listen: ("127.0.0.1", 7001), to: server)
        let slow = try DelayingProxy(in: host, listen: ("127.0.0.1", 7002), to: server)
        jittery.delay(milliseconds: 0...20)
        slow.delay(milliseconds: 5000...5000)
        try waitUntil("redis answers", while: redis) {
            try host.perform {
                let connection = try? RawConnection(port: 6379)
                connection?.send("PING\r\n")
                return try connection?.line() == "+PONG"
            }
        }
        let numbers = try host.perform {
            let connection = try RawConnection(port: 7001)
            var numbers: [String?] = []
            for _ in 0..<20 {
                connection.send(String(repeating: "INCR n\r\n", count: 25))
                usleep(1000)
            }
            for _ in 0..<500 { numbers.append(try connection.line()) }
            return numbers
        }
        #expect(numbers == (1...500).map { ":\($0)" })
        let last = try host.perform {
            let (first, second) = (try RawConnection(port: 7002), try RawConnection(port: 7001))
            first.send("SET k first\r\n")
            second.send("SET k second\r\n")
            _ = (try second.line(), try first.line())
            second.send("GET k\r\n")
            return (try second.line(), try second.line()).1
        }
        #expect(last == "first", "what was sent first came last")
        redis.kill()
        _ = (jittery, slow)
    }

    /// How many of so many datagrams arrive of those sent before `change`; what is sent after it arrives.
    private static func heard(
        _ from: Post, _ to: Post, count: Int, bytes: Int = 1, of network: HostNetwork, _ change: () throws -> Void
    ) throws -> Int {
        for _ in 0..<count { from.send(1, bytes, to) }
        try change()
        // Datagrams on one link stay in order.
        var heard = 0
        for _ in 0..<500 {
            from.send(2, 1, to)
            while let first = to.receive() {
                if first == 2 { return heard }
                heard += 1
            }
        }
        throw NeverHappened(what: "a datagram arrives on a healed link", errors: "")
    }

    /// A socket for datagrams on a host.
    private final class Post: Sendable {
        private let socket: Int32
        private let address: String

        init(_ host: NetworkHost) throws {
            address = host.address
            socket = try host.perform { [address = host.address] in
                let socket = Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
                let code = Self.with(address) { bind(socket, $0, $1) }
                guard code == 0 else { throw NeverHappened(what: "a socket on \(address)", errors: "errno \(errno)") }
                return socket
            }
        }

        deinit { close(socket) }

        private static func with<R>(_ text: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = UInt16(4000).bigEndian
            inet_pton(AF_INET, text, &address.sin_addr)
            return withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        }

        func send(_ mark: UInt8, _ count: Int, _ other: Post) {
            let bytes = [UInt8](repeating: mark, count: count)
            // One that finds no room is lost, as on any network.
            _ = Self.with(other.address) { sendto(socket, bytes, count, 0, $0, $1) }
        }

        /// The mark of the next datagram, waiting a moment for it.
        func receive() -> UInt8? {
            var look = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
            guard poll(&look, 1, 100) > 0 else { return nil }
            var mark: UInt8 = 0
            return recv(socket, &mark, 1, 0) >= 0 ? mark : nil
        }
    }
}
