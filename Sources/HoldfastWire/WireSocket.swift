import Glibc

/// A point on the clock that does not stop when the machine sleeps; or none.
struct Deadline {
    private let nanoseconds: UInt64?
    let seconds: Double

    init(seconds: Double?) {
        self.seconds = seconds ?? .infinity
        nanoseconds = seconds.map { Self.now() + UInt64(max(0, min($0, 1e9)) * 1e9) }
    }

    /// For `poll`: -1 for ever, 0 when it has passed.
    var milliseconds: Int32 {
        guard let nanoseconds else { return -1 }
        let now = Self.now()
        guard nanoseconds > now else { return 0 }
        return Int32(clamping: (nanoseconds - now + 999_999) / 1_000_000)
    }

    private static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}

/// What has been received and not yet understood: one growable piece of memory.
struct InputBuffer: ~Copyable {
    private var memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
    private var start = 0
    private var end = 0

    deinit { memory.deallocate() }

    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: memory[start..<end]) }

    mutating func consume(_ count: Int) {
        start += count
        if start == end { (start, end) = (0, 0) }
    }

    /// Room for at least 64 KiB more.
    mutating func room() -> UnsafeMutableRawBufferPointer {
        let least = 64 << 10
        if memory.count - end < least {
            let live = end - start
            if memory.count - live >= least, start >= live {
                memmove(memory.baseAddress!, memory.baseAddress! + start, live)
            } else {
                let larger = UnsafeMutableRawBufferPointer.allocate(
                    byteCount: max(memory.count * 2, live + least), alignment: 16)
                larger.copyMemory(from: bytes)
                memory.deallocate()
                memory = larger
            }
            (start, end) = (0, live)
        }
        return UnsafeMutableRawBufferPointer(rebasing: memory[end...])
    }

    mutating func received(_ count: Int) { end += count }
}

/// Owns a connected, non-blocking socket, and what makes TLS of it.
final class WireSocket {
    private let descriptor: Int32
    /// nil: the connection is plain.
    private(set) var tls: WireTLS?
    /// Bytes that have been encrypted and whose cipher text is not all sent.
    var encrypted = 0

    deinit { Glibc.close(descriptor) }

    /// Throws `.cannotConnect`, `.unknownHost`, `.timedOut`, and with TLS `.badTLS`, `.notTrusted`, `.tlsFailed`.
    init(connecting server: WireServer, seconds: Double) throws(WireError) {
        let deadline = Deadline(seconds: seconds)
        let address = server.address
        switch address {
        case .unix(let path): descriptor = try Self.connect(unix: path, deadline, address)
        case .tcp(let host, let port):
            let tls = try server.tls.map { settings throws(WireError) in
                try WireTLS(settings, host: host, address: address)
            }
            descriptor = try Self.connect(host: host, port, deadline, address)
            self.tls = tls
            if let tls { try shakeHands(tls, deadline, address) }
        }
    }

    private static func connect(
        unix path: String, _ deadline: Deadline, _ address: WireAddress
    ) throws(WireError) -> Int32 {
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        return try withUnsafePointer(to: name) { pointer throws(WireError) in
            try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { name throws(WireError) in
                try connect(AF_UNIX, name, socklen_t(MemoryLayout<sockaddr_un>.size), deadline, address)
            }
        }
    }

    /// Tries the host's addresses in the resolver's order.
    private static func connect(
        host: String, _ port: UInt16, _ deadline: Deadline, _ address: WireAddress
    ) throws(WireError) -> Int32 {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, String(port), &hints, &list)
        guard code == 0 else { throw .unknownHost(address, String(cString: gai_strerror(code))) }
        defer { freeaddrinfo(list) }
        var last = WireError.unknownHost(address, "it has no address")
        var next = list
        while let entry = next?.pointee {
            do throws(WireError) {
                let descriptor = try connect(entry.ai_family, entry.ai_addr, entry.ai_addrlen, deadline, address)
                var one: Int32 = 1
                setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
                askWhetherItLives(descriptor)
                return descriptor
            } catch {
                last = error
            }
            next = entry.ai_next
        }
        throw last
    }

    /// A server whose machine is gone says nothing, and whoever waits without a limit, for a checkpoint say, would wait for
    /// ever: the system asks, and ends the connection after two minutes without an answer.
    private static func askWhetherItLives(_ descriptor: Int32) {
        func set(_ level: Int32, _ name: Int32, _ value: Int32) {
            var value = value
            setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
        }
        set(SOL_SOCKET, SO_KEEPALIVE, 1)
        set(Int32(IPPROTO_TCP), TCP_KEEPIDLE, 60)
        set(Int32(IPPROTO_TCP), TCP_KEEPINTVL, 15)
        set(Int32(IPPROTO_TCP), TCP_KEEPCNT, 4)
    }

    private static func connect(
        _ family: Int32, _ name: UnsafePointer<sockaddr>, _ length: socklen_t, _ deadline: Deadline,
        _ address: WireAddress
    ) throws(WireError) -> Int32 {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let descriptor = socket(family, type, 0)
        guard descriptor >= 0 else { throw .cannotConnect(address, errno) }
        func fail(_ error: WireError) -> WireError {
            Glibc.close(descriptor)
            return error
        }
        if Glibc.connect(descriptor, name, length) == 0 { return descriptor }
        // A unix socket whose queue is full says EAGAIN and must be asked again; TCP goes on by itself.
        while errno == EAGAIN {
            guard deadline.milliseconds != 0 else { throw fail(.timedOut(address, seconds: deadline.seconds)) }
            poll(nil, 0, 10)
            if Glibc.connect(descriptor, name, length) == 0 { return descriptor }
        }
        guard errno == EINPROGRESS || errno == EINTR else { throw fail(.cannotConnect(address, errno)) }
        var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        while true {
            let count = poll(&entry, 1, deadline.milliseconds)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw fail(.timedOut(address, seconds: deadline.seconds)) }
            break
        }
        var code: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size)
        guard code == 0 else { throw fail(.cannotConnect(address, code)) }
        return descriptor
    }

    struct Readiness {
        var readable: Bool
        var writable: Bool
    }

    func wait(
        writing: Bool, _ deadline: Deadline, _ address: WireAddress
    ) throws(WireError) -> Readiness {
        var entry = pollfd(fd: descriptor, events: Int16(writing ? POLLIN | POLLOUT : POLLIN), revents: 0)
        while true {
            let count = poll(&entry, 1, deadline.milliseconds)
            if count < 0 {
                if errno == EINTR { continue }
                throw .disconnected(address, errno)
            }
            guard count > 0 else { throw .timedOut(address, seconds: deadline.seconds) }
            let ended = Int32(entry.revents) & (POLLERR | POLLHUP | POLLNVAL) != 0
            return Readiness(
                readable: ended || Int32(entry.revents) & POLLIN != 0, writable: Int32(entry.revents) & POLLOUT != 0)
        }
    }

    enum Waited { case bytes, woken, quiet }

    /// Waits until there is something to read, or `wake` is called, or nothing came for `quietMilliseconds`.
    /// Throws `.timedOut` at the deadline.
    func wait(
        orAt wake: WireWake, _ deadline: Deadline, quietMilliseconds: Int?, _ address: WireAddress
    ) throws(WireError) -> Waited {
        let left = deadline.milliseconds
        guard left != 0 else { throw .timedOut(address, seconds: deadline.seconds) }
        let quiet = quietMilliseconds.map { Int32(clamping: $0) }
        let isShort = quiet.map { left < 0 || $0 < left } ?? false
        var entries = (
            pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
            pollfd(fd: wake.descriptor, events: Int16(POLLIN), revents: 0)
        )
        let count = withUnsafeMutablePointer(to: &entries) {
            $0.withMemoryRebound(to: pollfd.self, capacity: 2) { poll($0, 2, isShort ? quiet! : left) }
        }
        if count < 0 {
            // The caller comes again.
            if errno == EINTR { return .woken }
            throw .disconnected(address, errno)
        }
        // First what was asked for: a stream without a pause would else keep it waiting.
        if entries.1.revents != 0, wake.wasWoken() { return .woken }
        if entries.0.revents != 0 { return .bytes }
        guard isShort else { throw .timedOut(address, seconds: deadline.seconds) }
        return .quiet
    }

    /// How many bytes came; 0 at the end, -1 when none are there yet.
    func read(_ buffer: inout InputBuffer, _ address: WireAddress) throws(WireError) -> Int {
        if let tls { return try read(tls, &buffer, address) }
        let room = buffer.room()
        let count = try receive(into: room, address)
        if count > 0 { buffer.received(count) }
        return count
    }

    /// How many bytes went.
    func write(_ bytes: UnsafeRawBufferPointer, _ address: WireAddress) throws(WireError) -> Int {
        if let tls { return try write(tls, bytes, address) }
        return try send(bytes, address)
    }

    // MARK: The system's calls

    func receive(into room: UnsafeMutableRawBufferPointer, _ address: WireAddress) throws(WireError) -> Int {
        let count = recv(descriptor, room.baseAddress, room.count, 0)
        if count < 0 {
            if errno == EINTR || errno == EAGAIN { return -1 }
            throw .disconnected(address, errno)
        }
        return count
    }

    func send(_ bytes: UnsafeRawBufferPointer, _ address: WireAddress) throws(WireError) -> Int {
        let count = Glibc.send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
        if count < 0 {
            if errno == EINTR || errno == EAGAIN { return 0 }
            throw .disconnected(address, errno)
        }
        return count
    }
}
