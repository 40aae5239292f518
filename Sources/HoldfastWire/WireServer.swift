/// A server as a client sees it: where it is, and how each proves to the other who it is.
package struct WireServer: Sendable, Equatable {
    package var address: WireAddress
    /// nil: plain. The unix socket always is.
    package var tls: WireTLSSettings?
    /// nil: nobody's.
    package var login: WireLogin?

    package init(_ address: WireAddress, tls: WireTLSSettings? = nil, login: WireLogin? = nil) {
        self.address = address
        self.tls = tls
        self.login = login
    }
}

/// How a client speaks TLS: 1.2 or later. That the server's certificate is valid, comes from a trusted authority and names
/// the host that was asked for is always checked.
package struct WireTLSSettings: Sendable, Equatable {
    /// PEM file of the authorities to trust; nil: the system's.
    package var authorities: String?
    /// PEM files of the client's own certificate and key, if the server wants one.
    package var certificate: String?
    package var key: String?

    package init(authorities: String? = nil, certificate: String? = nil, key: String? = nil) {
        self.authorities = authorities
        self.certificate = certificate
        self.key = key
    }
}

/// A user and its password, which nothing prints, however it is asked to.
package struct WireLogin: Sendable, Equatable, CustomStringConvertible, CustomReflectable {
    package var user: String
    package var password: String

    package init(user: String, password: String) {
        self.user = user
        self.password = password
    }

    package var description: String { "login of \(user)" }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

extension WireAddress {
    /// A unix socket, `localhost`, 127.0.0.0/8 or ::1: what goes there stays on this machine.
    package var isLoopback: Bool {
        switch self {
        case .unix: return true
        case .tcp(let host, _):
            if host.lowercased() == "localhost" || host == "::1" { return true }
            let parts = host.split(separator: ".", omittingEmptySubsequences: false)
            return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
        }
    }
}
