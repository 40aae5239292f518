import Foundation
import HoldfastTestSupport
import HoldfastWire

@testable import HoldfastServer

/// A users file whose hashes cost nearly nothing: name, roles, and the name with `-password` as the password.
struct TestUsers {
    let path: String

    init(in directory: TemporaryDirectory, _ users: [(name: String, roles: Roles)]) throws {
        path = directory.path + "/users"
        for (name, roles) in users { try set(name, roles) }
    }

    func set(_ name: String, _ roles: Roles, password: String? = nil) throws {
        let hash = PasswordHash(of: Array((password ?? "\(name)-password").utf8), cost: 4)
        try UsersFile(path).edit { $0.set(UserList.User(name: name, roles: roles, hash: hash)) }
    }

    func remove(_ name: String) throws { try UsersFile(path).edit { _ = $0.remove(name) } }
}

extension ServedEngine {
    /// A client over TCP, as `user` and with TLS if said.
    func client(
        as user: String? = nil, password: String? = nil, tls: WireTLSSettings? = nil, host: String = "127.0.0.1",
        _ version: WireVersion = .resp2
    ) throws -> Client {
        guard case .tcp(_, let port)? = addresses.tcp else { throw ServerError.nothingToListenOn }
        var server = WireServer(.tcp(host: host, port: port), tls: tls)
        server.login = user.map { WireLogin(user: $0, password: password ?? "\($0)-password") }
        return try Client(server, version)
    }
}

extension Client {
    init(_ server: WireServer, _ version: WireVersion = .resp2) throws {
        var options = WireClient.Options()
        options.version = version
        options.replySeconds = 20
        wire = try WireClient(to: server, options: options)
    }
}

/// A TCP connection that sends bytes as they are, and waits for answers for 20 s at most.
final class RawTCPClient: Sendable {
    private let descriptor: Int32

    init(_ address: WireAddress) throws {
        guard case .tcp(_, let port) = address else { throw WireError.badAddress(address.description, "it is no port") }
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = port.bigEndian
        name.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
        var limit = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let code = withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard code == 0 else { throw WireError.cannotConnect(address, errno) }
    }

    deinit { close(descriptor) }

    func send(_ bytes: [UInt8]) { _ = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }
    func send(_ text: String) { send(Array(text.utf8)) }
    func endInput() { shutdown(descriptor, Int32(SHUT_WR)) }

    func receive(_ count: Int) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: count)
        let got = recv(descriptor, &buffer, count, Int32(MSG_WAITALL))
        return Array(buffer.prefix(max(0, got)))
    }

    /// Everything until the server closes; `timed out` when it does not.
    func rest() -> String {
        var all: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0, errno == EAGAIN { return "timed out" }
            guard count > 0 else { return String(decoding: all, as: UTF8.self) }
            all += buffer[..<count]
        }
    }
}
