import Foundation
import HoldfastCore
import NIOSSL

/// `server.tls`: files in PEM.
package struct TLSFiles: Sendable, Equatable {
    package enum ClientCertificates: String, Sendable, CaseIterable {
        /// A client without a certificate is turned away in the handshake.
        case required
        /// A client's certificate is checked if it shows one.
        case optional
    }

    /// The server's certificate, and behind it those of the authorities between it and a root.
    package var certificate: String
    /// Its private key, without a passphrase; refused if others may read it.
    package var key: String
    /// The authorities that client certificates are to come from.
    package var authorities: String?
    /// nil: clients are not asked for one.
    package var clientCertificates: ClientCertificates?

    package init(
        certificate: String, key: String, authorities: String? = nil, clientCertificates: ClientCertificates? = nil
    ) {
        self.certificate = certificate
        self.key = key
        self.authorities = authorities
        self.clientCertificates = clientCertificates
    }

    var paths: [String] { [certificate, key] + (authorities.map { [$0] } ?? []) }

    /// What new connections use. Throws `ServerError.badTLS` or `SecretFileError`: a key that belongs to another certificate
    /// is refused here, and not at the first handshake.
    func load() throws -> LoadedTLS {
        let chain = try Self.certificates(in: certificate)
        let keyBytes = try SecretFile.read(key, limit: 1 << 20)
        let privateKey: NIOSSLPrivateKey
        do {
            privateKey = try NIOSSLPrivateKey(bytes: keyBytes, format: .pem)
        } catch {
            throw ServerError.badTLS(key, why: "it is no private key in PEM without a passphrase")
        }
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(privateKey))
        configuration.minimumTLSVersion = .tlsv12
        // How long a peer may take to say that it has seen the end.
        configuration.shutdownTimeout = .seconds(1)
        if let clientCertificates {
            guard let authorities else {
                throw ServerError.badTLS(certificate, why: "client certificates need authorities to check them with")
            }
            configuration.trustRoots = .certificates(try Self.certificates(in: authorities))
            configuration.sendCANameList = true
            configuration.certificateVerification =
                clientCertificates == .required ? .noHostnameVerification : .optionalVerification
        }
        do {
            let context = try NIOSSLContext(configuration: configuration)
            return LoadedTLS(
                context: context, expires: Date(timeIntervalSince1970: TimeInterval(chain[0].notValidAfter)))
        } catch {
            throw ServerError.badTLS(certificate, why: "it and the key in \(printable(key, limit: 300)) do not match")
        }
    }

    private static func certificates(in path: String) throws(ServerError) -> [NIOSSLCertificate] {
        guard let found = try? NIOSSLCertificate.fromPEMFile(path), !found.isEmpty else {
            throw .badTLS(path, why: "it cannot be read, or holds no certificate in PEM")
        }
        return found
    }
}

/// The files as they were read.
struct LoadedTLS: Sendable {
    let context: NIOSSLContext
    /// When the server's certificate does.
    let expires: Date
}
