import COpenSSL
import Glibc
import HoldfastCore

/// The client's side of TLS, between the bytes of a socket and those of the wire; it does no input or output itself.
///
/// OpenSSL, because it is in the process anyway (libpq brings it) and the system keeps it patched; the server's side has
/// the library of SwiftNIO. Both of OpenSSL's ends are memory: so the socket's deadlines stay where they are, and a peer
/// that is gone raises no signal.
///
///     socket ── received(_:) ──▶ decrypt(into:) ──▶ parser
///     socket ◀── outgoing ────── encrypt(_:) ◀───── requests
///
/// One owner, one thread at a time.
final class WireTLS {
    enum Progress {
        case done
        /// More must be received first.
        case needMore
        /// The server has said that nothing follows.
        case ended
    }

    private let context: OpaquePointer
    private let ssl: OpaquePointer
    /// Owned by `ssl`.
    private let input: OpaquePointer
    private let output: OpaquePointer
    private let address: WireAddress

    /// Throws `.badTLS` for files that cannot be used.
    init(_ settings: WireTLSSettings, host: String, address: WireAddress) throws(WireError) {
        self.address = address
        context = try Self.context(settings, address)
        guard let ssl = SSL_new(context), let input = BIO_new(BIO_s_mem()), let output = BIO_new(BIO_s_mem()) else {
            preconditionFailure("there is no memory for a TLS connection")
        }
        (self.ssl, self.input, self.output) = (ssl, input, output)
        hf_bio_never_ends(input)
        hf_bio_never_ends(output)
        SSL_set_bio(ssl, input, output)
        hf_ssl_partial_writes(ssl)
        SSL_set_connect_state(ssl)
        try expect(host)
    }

    deinit {
        SSL_free(ssl)
        SSL_CTX_free(context)
    }

    private static func context(
        _ settings: WireTLSSettings, _ address: WireAddress
    ) throws(WireError) -> OpaquePointer {
        ERR_clear_error()
        guard let context = SSL_CTX_new(TLS_client_method()), hf_ssl_set_minimum_tls12(context) == 1 else {
            preconditionFailure("OpenSSL knows TLS 1.2")
        }
        func bad(_ path: String, _ why: String) -> WireError {
            SSL_CTX_free(context)
            return .badTLS(path, why)
        }
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
        if let authorities = settings.authorities {
            guard SSL_CTX_load_verify_locations(context, authorities, nil) == 1 else {
                throw bad(authorities, "it cannot be read, or holds no certificate in PEM")
            }
        } else {
            guard SSL_CTX_set_default_verify_paths(context) == 1 else {
                throw bad("the system's certificates", "they cannot be read")
            }
        }
        if let certificate = settings.certificate, let key = settings.key {
            guard SSL_CTX_use_certificate_chain_file(context, certificate) == 1 else {
                throw bad(certificate, "it cannot be read, or holds no certificate in PEM")
            }
            // Read here for its mode only. OpenSSL would ask a terminal for a passphrase: the callback has none.
            do {
                _ = try SecretFile.read(key, limit: 1 << 20)
            } catch {
                SSL_CTX_free(context)
                throw .unsafeSecret(error)
            }
            SSL_CTX_set_default_passwd_cb(context) { _, _, _, _ in -1 }
            guard SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1 else {
                throw bad(key, "it is not the certificate's private key, in PEM without a passphrase")
            }
        }
        return context
    }

    /// Whom the certificate must name: the host as it was asked for, and never the certificate's common name alone.
    private func expect(_ host: String) throws(WireError) {
        SSL_set_hostflags(ssl, UInt32(X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
        // The certificate's addresses for an address, its names for a name; only a name is told to the server.
        if X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1 { return }
        guard SSL_set1_host(ssl, host) == 1, hf_ssl_set_server_name(ssl, host) == 1 else {
            throw .badTLS(host, "it is no name that a certificate could have")
        }
    }

    // MARK: Bytes

    func received(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count > 0 else { return }
        let count = BIO_write(input, bytes.baseAddress, Int32(bytes.count))
        precondition(count == bytes.count, "memory takes everything")
    }

    /// What is to be sent; valid until anything else is called.
    var outgoing: UnsafeRawBufferPointer {
        var start: UnsafeMutablePointer<CChar>?
        let count = hf_bio_memory(output, &start)
        return UnsafeRawBufferPointer(start: start, count: max(0, count))
    }

    /// So many bytes of `outgoing` are gone.
    func sent(_ count: Int) {
        var rest = count
        withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 1) { memory in
            while rest > 0 {
                let read = BIO_read(output, memory.baseAddress, Int32(min(rest, memory.count)))
                precondition(read > 0)
                rest -= Int(read)
            }
        }
    }

    // MARK: Steps

    /// The next step of the handshake. Throws `.notTrusted` or `.tlsFailed`.
    func handshake() throws(WireError) -> Progress {
        ERR_clear_error()
        return try progress(SSL_do_handshake(ssl))
    }

    /// Everything that has been received so far.
    func decrypt(into buffer: inout InputBuffer) throws(WireError) -> (bytes: Int, progress: Progress) {
        var bytes = 0
        while true {
            let room = buffer.room()
            ERR_clear_error()
            let count = SSL_read(ssl, room.baseAddress, Int32(clamping: room.count))
            guard count > 0 else { return (bytes, try progress(count)) }
            buffer.received(Int(count))
            bytes += Int(count)
        }
    }

    /// Encrypts some of `bytes`, and returns how many.
    func encrypt(_ bytes: UnsafeRawBufferPointer) throws(WireError) -> Int {
        ERR_clear_error()
        let count = SSL_write(ssl, bytes.baseAddress, Int32(clamping: bytes.count))
        if count <= 0 { _ = try progress(count) }
        return max(0, Int(count))
    }

    private func progress(_ result: Int32) throws(WireError) -> Progress {
        if result > 0 { return .done }
        switch SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return .needMore
        case SSL_ERROR_ZERO_RETURN: return .ended
        default: throw failure()
        }
    }

    private func failure() -> WireError {
        let verdict = SSL_get_verify_result(ssl)
        if verdict != X509_V_OK { return .notTrusted(address, String(cString: X509_verify_cert_error_string(verdict))) }
        let code = ERR_get_error()
        let reason = ERR_reason_error_string(code).map { String(cString: $0) } ?? "the connection failed"
        // What a server that speaks no TLS answers looks like a wrong version.
        let isPlain = reason.contains("wrong version number") || reason.contains("packet length too long")
        return .tlsFailed(address, isPlain ? "what answers there does not speak TLS (\(reason))" : reason)
    }
}
