import HoldfastCore

/// Where a server listens: `HOST:PORT` or `unix:PATH`.
package enum WireAddress: Sendable, Hashable, CustomStringConvertible {
    case tcp(host: String, port: UInt16)
    case unix(path: String)

    /// The longest path that fits a socket's address.
    static let pathBytes = 107

    /// Reads `127.0.0.1:6420`, `[::1]:6420`, `db.example:6420`, `unix:/run/holdfast/main.sock`.
    package init(_ text: some StringProtocol) throws(WireError) {
        let text = String(text)
        if text.hasPrefix("unix:") {
            let path = String(text.dropFirst(5))
            guard !path.isEmpty, path.utf8.count <= Self.pathBytes, !path.utf8.contains(0) else {
                throw .badAddress(text, "a socket's path has 1 to \(Self.pathBytes) bytes")
            }
            self = .unix(path: path)
            return
        }
        guard let colon = text.lastIndex(of: ":") else { throw .badAddress(text, "it has no port") }
        var host = String(text[..<colon])
        guard let port = UInt16(text[text.index(after: colon)...]) else {
            throw .badAddress(text, "a port is a number up to 65535")
        }
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
        } else if host.contains(":") {
            throw .badAddress(text, "an IPv6 address stands in brackets")
        }
        guard !host.isEmpty, host.utf8.count <= 255, !host.utf8.contains(0) else {
            throw .badAddress(text, "it has no host")
        }
        self = .tcp(host: host, port: port)
    }

    package var description: String {
        switch self {
        case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unix(let path): "unix:\(path)"
        }
    }
}
