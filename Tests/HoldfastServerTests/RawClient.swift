import Glibc
import HoldfastWire

/// A connection that sends bytes as they are.
final class RawClient: Sendable {
    private let descriptor: Int32

    init(_ address: WireAddress) throws {
        guard case .unix(let path) = address else {
            throw WireError.badAddress(address.description, "raw clients use sockets")
        }
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let connected = withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard connected == 0 else { throw WireError.cannotConnect(address, errno) }
    }

    deinit { close(descriptor) }

    func send(_ bytes: [UInt8]) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return }
            sent += count
        }
    }

    func send(_ text: String) { send(Array(text.utf8)) }

    func endInput() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// Everything until the server closes.
    func rest() -> String {
        var all: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            guard count > 0 else { return String(decoding: all, as: UTF8.self) }
            all += buffer[..<count]
        }
    }

    /// The next `count` bytes.
    func receive(_ count: Int) -> [UInt8] {
        var all: [UInt8] = []
        while all.count < count {
            var buffer = [UInt8](repeating: 0, count: min(65536, count - all.count))
            let step = read(descriptor, &buffer, buffer.count)
            guard step > 0 else { break }
            all += buffer[..<step]
        }
        return all
    }

    /// Everything up to the first `text`.
    func receive(until text: String) throws -> String {
        var all = ""
        while !all.hasSuffix(text) {
            let next = receive(1)
            guard !next.isEmpty else { throw WireError.disconnected(.unix(path: ""), 0) }
            all += String(decoding: next, as: UTF8.self)
        }
        return all
    }
}
