import Foundation

/// A real etcd with one member on free loopback ports, in a directory of its own; stopped by its pid.
public final class EtcdServer {
    private let directory: TemporaryDirectory
    private var process: RunningProcess
    private let arguments: [String]
    /// Its files live as long as this.
    private let pair: TestCertificates.Pair?
    public let endpoint: String

    /// Where this machine has the program; `nil`: nowhere.
    public static let program = BuiltBinary.tool("etcd")

    /// - Parameters:
    ///   - pair: its certificate: with one it is reached over TLS only.
    ///   - authorities: those of clients: with a file only clients that show a certificate are served.
    public init(_ pair: TestCertificates.Pair? = nil, authorities: String? = nil) throws {
        directory = try TemporaryDirectory("etcd")
        endpoint = "\(pair == nil ? "http" : "https")://127.0.0.1:\(try TestCluster.freePort())"
        let peer = "http://127.0.0.1:\(try TestCluster.freePort())"
        var tls: [String] = []
        if let pair { tls += ["--cert-file", pair.certificate, "--key-file", pair.key] }
        if let authorities { tls += ["--client-cert-auth", "--trusted-ca-file", authorities] }
        self.pair = pair
        arguments =
            tls + [
                "--name", "test", "--data-dir", directory.path + "/data", "--listen-client-urls", endpoint,
                "--advertise-client-urls", endpoint, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", "test=\(peer)",
            ]
        process = try Self.launch(arguments)
    }

    private static func launch(_ arguments: [String]) throws -> RunningProcess {
        guard let program else { throw NeverHappened(what: "etcd is installed", errors: "") }
        let process = try RunningProcess(program, arguments)
        try waitUntil("etcd serves", while: process) { process.errors.contains("ready to serve client requests") }
        return process
    }

    /// Runs `etcdctl` against it.
    public func control(_ arguments: [String], input: String = "") throws {
        let result = try BuiltBinary.runTool(
            BuiltBinary.tool("etcdctl") ?? "etcdctl", ["--endpoints", endpoint] + arguments, input: Data(input.utf8))
        guard result.status == 0 else { throw NeverHappened(what: "etcdctl \(arguments)", errors: result.errors) }
    }

    public func kill() { process.kill() }
    public func restart() throws { process = try Self.launch(arguments) }

    deinit { process.kill() }
}
