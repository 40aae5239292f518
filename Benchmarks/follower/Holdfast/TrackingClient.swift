import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWire

/// A connection on which the leader tells, behind each reply to a write, the LSN where that write ends
/// (`CLIENT TRACKLSN on`). Blocking; closed when it goes.
final class TrackingClient {
    private let descriptor: Int32
    private var parser = ReplyParser()
    private var input: [UInt8] = []

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
        send("HELLO 3")
        _ = try receive()
        send("CLIENT TRACKLSN on")
        _ = try receive()
    }

    deinit { close(descriptor) }

    /// Writes one record; returns when that was acknowledged, and where it ends in the log.
    func set(_ key: String, _ value: String) throws -> (acknowledged: ContinuousClock.Instant, end: LSN) {
        send("SET \(key) \(value)")
        let reply = try receive()
        let acknowledged = ContinuousClock.now
        guard reply == .simple("OK") else { throw NeverHappened(what: "a write is accepted", errors: "\(reply)") }
        guard case .push(let words) = try receive(), words.count == 2, let end = LSN(words[1].text ?? "") else {
            throw NeverHappened(what: "the leader tells where a write ends", errors: "")
        }
        return (acknowledged, end)
    }

    private func send(_ line: String) {
        let bytes = Array((line + "\r\n").utf8)
        _ = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    }

    private func receive() throws -> WireValue {
        while true {
            switch input.withUnsafeBytes({ parser.next(in: $0) }) {
            case .reply(let value, let bytes):
                input.removeFirst(bytes)
                return value
            case .failed(let why): throw NeverHappened(what: "a reply of RESP", errors: why)
            case .needMore:
                var chunk = [UInt8](repeating: 0, count: 4096)
                let count = recv(descriptor, &chunk, chunk.count, 0)
                guard count > 0 else { throw NeverHappened(what: "a reply", errors: "errno \(errno)") }
                input += chunk[..<count]
            }
        }
    }
}
