import Foundation
import HoldfastTestSupport

/// A socket on which a test sends any bytes it likes, and reads what comes back. Closed when it goes.
final class RawConnection {
    private let descriptor: Int32
    private var buffer: [UInt8] = []
    /// Longer than any answer takes; a test that gets there fails.
    private static let timeoutMilliseconds: Int32 = 20_000

    init(port: Int) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard code == 0 else { throw NeverHappened(what: "a connection to port \(port)", errors: "errno \(errno)") }
    }

    init(unix path: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard code == 0 else { throw NeverHappened(what: "a connection to \(path)", errors: "errno \(errno)") }
    }

    deinit { close(descriptor) }

    /// Sends all of it, or as much as the other end takes before it hangs up.
    func send(_ text: String) { send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress! + sent, $0.count - sent, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return }
            sent += count
        }
    }

    /// A command as clients send it.
    func request(_ words: String...) {
        send("*\(words.count)\r\n" + words.map { "$\($0.utf8.count)\r\n\($0)\r\n" }.joined())
    }

    /// No more will be sent.
    func endInput() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// The next line without its end; `nil` when the other end has closed.
    func line() throws -> String? {
        while true {
            if let end = buffer.firstIndex(of: 10) {
                let line = buffer[..<end].filter { $0 != 13 }
                buffer.removeFirst(end + 1)
                return String(decoding: line, as: UTF8.self)
            }
            guard try fill() else { return nil }
        }
    }

    func bytes(_ count: Int) throws -> [UInt8] {
        while buffer.count < count, try fill() {}
        let taken = Array(buffer.prefix(count))
        buffer.removeFirst(taken.count)
        return taken
    }

    /// The next line with its end, whatever its bytes; `nil` when the other end has closed before its end.
    func lineBytes() throws -> [UInt8]? {
        var searched = 0
        while true {
            if let end = buffer[searched...].firstIndex(of: 10) { return try bytes(end + 1) }
            searched = buffer.count
            guard try fill() else { return nil }
        }
    }

    /// Everything until the other end closes.
    func rest() throws -> String {
        while try fill() {}
        return String(decoding: buffer, as: UTF8.self)
    }

    private func fill() throws -> Bool {
        var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard Glibc.poll(&poll, 1, Self.timeoutMilliseconds) > 0 else {
            throw NeverHappened(what: "an answer on a socket", errors: String(decoding: buffer, as: UTF8.self))
        }
        var chunk = [UInt8](repeating: 0, count: 65536)
        let count = recv(descriptor, &chunk, chunk.count, 0)
        guard count > 0 else { return false }
        buffer += chunk[..<count]
        return true
    }
}
