import HoldfastCore
import HoldfastServer
import HoldfastWire

/// The keys that say who may connect to the server, and as whom this program connects to one.
extension ConfigurationGrammar {
    /// `server.tls`
    static func tls(_ reader: SettingsReader) throws(ConfigurationError) -> TLSFiles? {
        let isGiven = reader.isGiven
        let certificate = try reader.path("cert_file")
        let key = try reader.path("key_file")
        let authorities = try reader.path("ca_file")
        let clients = try reader.choice("client_certificates", TLSFiles.ClientCertificates.self)
        try reader.finish()
        guard isGiven else { return nil }
        guard let certificate, let key else {
            throw .badValue(
                "server.tls", reader.origin(of: certificate == nil ? "key_file" : "cert_file"),
                why: "it needs cert_file and key_file", next: "give both")
        }
        guard clients == nil || authorities != nil else {
            throw .badValue(
                "server.tls.client_certificates", reader.origin(of: "client_certificates"),
                why: "there is nothing to check them with", next: "give ca_file too")
        }
        return TLSFiles(certificate: certificate, key: key, authorities: authorities, clientCertificates: clients)
    }

    /// `client`
    static func client(_ reader: SettingsReader) throws(ConfigurationError) -> ClientSettings {
        var client = ClientSettings()
        client.usesTLS = try reader.boolean("tls")
        client.authorities = try reader.path("ca_file")
        client.certificate = try reader.path("cert_file")
        client.key = try reader.path("key_file")
        client.user = try reader.name("user", of: "user")
        client.passwordFile = try reader.path("password_file")
        try reader.finish()
        guard (client.certificate == nil) == (client.key == nil) else {
            let given = client.key == nil ? "cert_file" : "key_file"
            throw .badValue(
                "client.\(given)", reader.origin(of: given), why: "a certificate and its key go together",
                next: "give cert_file and key_file")
        }
        guard (client.user == nil) == (client.passwordFile == nil) else {
            let given = client.user == nil ? "password_file" : "user"
            throw .badValue(
                "client.\(given)", reader.origin(of: given), why: "a user and a password go together",
                next: "give user and password_file")
        }
        return client
    }
}

/// `client:`: as whom commands, the agent and followers connect over TCP. The unix socket knows its users by itself.
package struct ClientSettings: Sendable, Equatable {
    /// nil: exactly when there is a `ca_file`.
    package var usesTLS: Bool?
    package var authorities: String?
    package var certificate: String?
    package var key: String?
    package var user: String?
    package var passwordFile: String?

    package init() {}
}
