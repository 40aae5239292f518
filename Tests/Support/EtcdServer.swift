import Foundation

/// A real etcd with one member on free loopback ports, in a directory of its own; stopped by its pid.
public final class EtcdServer {
    private let directory: TemporaryDirectory
    private var process: RunningProcess
    private let arguments: [String]
    public let endpoint: String

    /// Where this machine has the program; `nil`: nowhere.
    public static let program = BuiltBinary.tool("etcd")

    public init() throws {
        directory = try TemporaryDirectory("etcd")
        endpoint = "http://127.0.0.1:\(try TestCluster.freePort())"
        let peer = "http://127.0.0.1:\(try TestCluster.freePort())"
        arguments = [
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

    public func kill() { process.kill() }
    public func restart() throws { process = try Self.launch(arguments) }

    deinit { process.kill() }
}
