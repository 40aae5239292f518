import HoldfastCore
import HoldfastWire

extension Configuration {
    /// A server at `address`, with what `client:` says of TLS and of the user. Throws `SecretFileError`.
    package func server(at address: WireAddress) throws -> WireServer {
        // The unix socket knows who is there, and nobody listens in.
        guard case .tcp = address else { return WireServer(address) }
        var server = WireServer(address)
        if client.usesTLS ?? (client.authorities != nil) {
            server.tls = WireTLSSettings(
                authorities: client.authorities, certificate: client.certificate, key: client.key)
        }
        if let user = client.user, let file = client.passwordFile {
            server.login = WireLogin(user: user, password: try SecretFile.password(file))
        }
        return server
    }

    /// The leader, as `requiredLeader` finds it.
    package func leaderServer() throws -> WireServer { try server(at: requiredLeader()) }
}
