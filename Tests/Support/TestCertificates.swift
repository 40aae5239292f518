import Foundation

/// An authority of its own and what it issues, made with `openssl`, which tests need.
public final class TestCertificates: Sendable {
    public struct Pair: Sendable {
        public let certificate: String
        public let key: String
        /// The files live as long as this.
        private let directory: TemporaryDirectory?

        public init(certificate: String, key: String, in directory: TemporaryDirectory? = nil) {
            self.certificate = certificate
            self.key = key
            self.directory = directory
        }
    }

    private let directory: TemporaryDirectory
    private static let openssl = BuiltBinary.tool("openssl") ?? "openssl"
    /// The authority's certificate.
    public var authority: String { directory.path + "/ca.pem" }

    public init(_ name: String = "Test Authority") throws {
        directory = try TemporaryDirectory("holdfast-certificates")
        try Self.run(
            [
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                directory.path + "/ca.key", "-out", directory.path + "/ca.pem", "-days", "30", "-subj", "/CN=\(name)",
            ])
    }

    /// A certificate for `names` (`DNS:…`, `IP:…`); with negative `days` one that has expired.
    public func issue(
        _ file: String, names: String = "DNS:localhost,IP:127.0.0.1", days: Int = 30, subject: String = "/CN=holdfast"
    ) throws -> Pair {
        let base = directory.path + "/" + file
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        try Self.run(
            ["req"] + curve + ["-nodes", "-keyout", base + ".key", "-out", base + ".csr", "-subj", subject])
        try "subjectAltName=\(names)\n".write(toFile: base + ".ext", atomically: true, encoding: .utf8)
        try Self.run([
            "x509", "-req", "-in", base + ".csr", "-CA", authority, "-CAkey", directory.path + "/ca.key", "-out",
            base + ".pem", "-days", "\(days)", "-extfile", base + ".ext",
        ])
        chmod(base + ".key", 0o600)
        return Pair(certificate: base + ".pem", key: base + ".key", in: directory)
    }

    private static func run(_ arguments: [String]) throws {
        let result = try BuiltBinary.runTool(openssl, arguments)
        guard result.status == 0 else { throw NeverHappened(what: "openssl \(arguments[0])", errors: result.errors) }
    }
}
