import Foundation
import HoldfastTestSupport
import Synchronization

/// Passes connections on to an address, each piece of a stream later by a delay of its own. Pieces of one stream stay in
/// order, as TCP keeps them; those of two connections overtake each other.
public final class DelayingProxy: Sendable {
    /// What its threads share.
    private final class Shared: Sendable {
        let isStopping = Atomic(false)
        let delay = Mutex(0...0)
    }

    private let shared = Shared()

    /// Listens in `host`, and connects from there.
    /// - Throws: `NeverHappened` when that address cannot be listened to.
    public init(
        in host: NetworkHost, listen: (address: String, port: UInt16), to: (address: String, port: UInt16)
    ) throws {
        let (shared, began) = (shared, Began())
        try host.detachThread {
            let socket = Self.listen(on: listen.address, listen.port)
            began.code.withLock { $0 = socket >= 0 ? 0 : -socket }
            guard socket >= 0 else { return }
            defer { close(socket) }
            while !shared.isStopping.load(ordering: .relaxed) {
                var look = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
                guard poll(&look, 1, 200) > 0 else { continue }
                let client = accept(socket, nil, nil)
                guard client >= 0 else { continue }
                // A namespace is its creator's: the thread is in the host too.
                Thread.detachNewThread {
                    defer { close(client) }
                    Self.prepare(client)
                    let server = Self.connect(to: to.address, to.port, shared)
                    guard server >= 0 else { return }
                    defer { close(server) }
                    Self.pass(client, server, shared)
                }
            }
        }
        try waitUntil("the proxy listens") { began.code.withLock { $0 != nil } }
        let code = began.code.withLock { $0 ?? 0 }
        guard code == 0 else {
            throw NeverHappened(what: "a proxy listens to \(listen.address):\(listen.port)", errors: "errno \(code)")
        }
    }

    deinit { shared.isStopping.store(true, ordering: .relaxed) }

    /// Of each piece; what is under way keeps its own.
    public func delay(milliseconds: ClosedRange<Int>) {
        precondition(milliseconds.lowerBound >= 0)
        shared.delay.withLock { $0 = milliseconds }
    }

    /// How listening began: 0, or the error's number.
    private final class Began: Sendable { let code = Mutex<Int32?>(nil) }

    // MARK: Streams

    /// One direction of a connection.
    private struct Stream {
        let from: Int32
        let to: Int32
        var waiting: [(due: UInt64, bytes: [UInt8])] = []
        var waitingBytes = 0
        var isEnded = false
        var isOver = false
        private static let limit = 1 << 20

        init(_ from: Int32, _ to: Int32) { (self.from, self.to) = (from, to) }

        var wantsMore: Bool { !isEnded && waitingBytes < Self.limit }
        func isDue(_ now: UInt64) -> Bool { waiting.first.map { $0.due <= now } ?? false }

        /// false: the connection is broken.
        mutating func take(_ buffer: inout [UInt8], _ delay: ClosedRange<Int>) -> Bool {
            let count = recv(from, &buffer, buffer.count, 0)
            if count < 0 { return errno == EAGAIN || errno == EINTR }
            if count == 0 {
                isEnded = true
                return true
            }
            let due = monotonicNanoseconds() + UInt64(Int.random(in: delay)) * 1_000_000
            waiting.append((max(due, waiting.last?.due ?? 0), Array(buffer[..<count])))
            waitingBytes += count
            return true
        }

        /// false: the connection is broken.
        mutating func give() -> Bool {
            let bytes = waiting[0].bytes
            let count = send(to, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            if count < 0 { return errno == EAGAIN || errno == EINTR }
            waitingBytes -= count
            if count == bytes.count { waiting.removeFirst() } else { waiting[0].bytes.removeFirst(count) }
            return true
        }
    }

    private static func pass(_ client: Int32, _ server: Int32, _ shared: Shared) {
        var streams = [Stream(client, server), Stream(server, client)]
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while !shared.isStopping.load(ordering: .relaxed), !streams.allSatisfy(\.isOver) {
            let now = monotonicNanoseconds()
            var wait: UInt64 = 200_000_000
            for stream in streams {
                if let due = stream.waiting.first?.due, due > now { wait = min(wait, due - now) }
            }
            // A descriptor of which nothing is asked is left out: one that has hung up would be told of for ever.
            var looks = streams.flatMap { stream in
                [
                    pollfd(fd: stream.wantsMore ? stream.from : -1, events: Int16(POLLIN), revents: 0),
                    pollfd(fd: stream.isDue(now) ? stream.to : -1, events: Int16(POLLOUT), revents: 0),
                ]
            }
            guard poll(&looks, nfds_t(looks.count), Int32((wait + 999_999) / 1_000_000)) >= 0 || errno == EINTR else {
                return
            }
            let delay = shared.delay.withLock { $0 }
            for index in streams.indices {
                if looks[2 * index].revents != 0, !streams[index].take(&buffer, delay) { return }
                if looks[2 * index + 1].revents != 0, !streams[index].give() { return }
                if streams[index].isEnded, streams[index].waiting.isEmpty, !streams[index].isOver {
                    shutdown(streams[index].to, Int32(SHUT_WR))
                    streams[index].isOver = true
                }
            }
        }
    }

    // MARK: Sockets

    private static func withAddress<R>(
        _ text: String, _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        inet_pton(AF_INET, text, &address.sin_addr)
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    private static func open() -> Int32 {
        Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    }

    private static func prepare(_ socket: Int32) {
        _ = fcntl(socket, F_SETFD, FD_CLOEXEC)
        _ = fcntl(socket, F_SETFL, O_NONBLOCK)
        var one: Int32 = 1
        setsockopt(socket, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
    }

    /// - Returns: a descriptor, or the error's number below 0.
    private static func listen(on address: String, _ port: UInt16) -> Int32 {
        let socket = open()
        guard socket >= 0 else { return -errno }
        var one: Int32 = 1
        setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &one, 4)
        guard withAddress(address, port, { bind(socket, $0, $1) }) == 0, Glibc.listen(socket, 128) == 0 else {
            let code = errno
            close(socket)
            return -code
        }
        return socket
    }

    /// - Returns: a descriptor, or -1.
    private static func connect(to address: String, _ port: UInt16, _ shared: Shared) -> Int32 {
        let socket = open()
        guard socket >= 0 else { return -1 }
        prepare(socket)
        let code = withAddress(address, port) { Glibc.connect(socket, $0, $1) }
        if code != 0, errno == EINPROGRESS {
            var look = pollfd(fd: socket, events: Int16(POLLOUT), revents: 0)
            var tries = 50
            while tries > 0, !shared.isStopping.load(ordering: .relaxed), poll(&look, 1, 200) <= 0 { tries -= 1 }
            var (problem, size): (Int32, socklen_t) = (0, 4)
            getsockopt(socket, SOL_SOCKET, SO_ERROR, &problem, &size)
            if look.revents != 0, problem == 0 { return socket }
        } else if code == 0 {
            return socket
        }
        close(socket)
        return -1
    }
}
