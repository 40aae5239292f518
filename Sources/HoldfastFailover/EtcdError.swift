import HoldfastCore

/// What went wrong between this node and etcd.
package enum EtcdError: DiagnosableError, Equatable {
    /// No endpoint answered in time: each with its reason.
    case unreachable([String])
    /// etcd refused: its code (gRPC's numbers) and words.
    case refused(code: Int, String)
    /// An answer that is no answer of etcd's.
    case unexpectedAnswer(String)
    /// A file for TLS that cannot be used.
    case badCredentials(path: String, why: String)
    /// The lease is gone: whatever hung on it is, too.
    case leaseGone

    package var diagnosis: Diagnosis {
        switch self {
        case .unreachable(let reasons):
            Diagnosis(
                "etcd cannot be reached", at: printable(reasons.joined(separator: "; "), limit: 400),
                why: "no endpoint answered in time", next: "check failover.etcd, and that etcd has a quorum",
                status: .unavailable)
        case .refused(let code, let text):
            Diagnosis(
                "etcd refused a request", why: "\(printable(text, limit: 300)) (code \(code))",
                next: Self.advice(text), status: .unavailable)
        case .badCredentials(let path, let why):
            Diagnosis(
                "etcd cannot be spoken to over TLS", at: printable(path, limit: 300), why: why,
                next: "correct failover.ca_file, cert_file or key_file", status: .configuration)
        case .unexpectedAnswer(let text):
            Diagnosis(
                "etcd answered something else", why: printable(text, limit: 300),
                next: "check that failover.etcd names client URLs of etcd 3.4 or later", status: .unavailable)
        case .leaseGone:
            Diagnosis(
                "this node's lease in etcd is gone", why: "it was not renewed in time, or somebody revoked it",
                status: .unavailable)
        }
    }

    /// By its words: etcd's codes are the same for much else.
    private static func advice(_ text: String) -> String {
        if text.contains("CommonName") {
            return "where etcd has users, its gateway takes no client certificate with a common name: give "
                + "failover.user and a certificate without one"
        }
        let isAboutUsers = ["authentication", "permission denied", "user name", "auth token"].contains {
            text.contains($0)
        }
        return isAboutUsers
            ? "check failover.user and password_file, and the user's role in etcd"
            : "check etcd's health: etcdctl endpoint status"
    }
}
