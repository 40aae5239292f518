import NIOSSL

/// How a node comes to etcd: whose certificates it takes, which one it shows, and as whom it logs in.
package struct EtcdAccess: Sendable {
    /// A user of etcd's own (`etcdctl user add`).
    package struct Login: Sendable, CustomStringConvertible, CustomReflectable {
        let user: String
        let password: String

        package init(user: String, password: String) {
            self.user = user
            self.password = password
        }

        // A password gets into no message.
        package var description: String { user }
        package var customMirror: Mirror { Mirror(self, children: []) }
    }

    let login: Login?
    let tls: TLSConfiguration

    /// Files are read here, so that one that is wrong is known at once and not at the first call.
    /// - Parameters:
    ///   - authorities: a file in PEM; `nil`: those of the system.
    ///   - certificate: of this node, in PEM, with `key`.
    package init(
        authorities: String? = nil, certificate: String? = nil, key: String? = nil, login: Login? = nil
    ) throws(EtcdError) {
        self.login = login
        var tls = TLSConfiguration.makeClientConfiguration()
        tls.minimumTLSVersion = .tlsv12
        if let authorities { tls.trustRoots = .certificates(try Self.certificates(authorities)) }
        if let certificate, let key {
            tls.certificateChain = try Self.certificates(certificate).map { .certificate($0) }
            do {
                tls.privateKey = .privateKey(try NIOSSLPrivateKey(file: key, format: .pem))
            } catch {
                throw .badCredentials(
                    path: key, why: "it cannot be read, or is no private key in PEM without a passphrase")
            }
            do { _ = try NIOSSLContext(configuration: tls) } catch {
                throw .badCredentials(path: key, why: "it does not belong to the certificate in \(certificate)")
            }
        }
        self.tls = tls
    }

    private static func certificates(_ path: String) throws(EtcdError) -> [NIOSSLCertificate] {
        guard let found = try? NIOSSLCertificate.fromPEMFile(path), !found.isEmpty else {
            throw .badCredentials(path: path, why: "it cannot be read, or holds no certificate in PEM")
        }
        return found
    }
}
