import Foundation

/// A real redis-server on a unix socket in a directory of its own, which keeps nothing; stopped by its pid.
public final class RedisServer {
    private let directory: TemporaryDirectory
    private let process: RunningProcess

    /// Where this machine has the program; `nil`: nowhere.
    public static let program = BuiltBinary.tool("redis-server")
    public var socket: String { directory.path + "/redis.sock" }

    public init() throws {
        guard let program = Self.program else { throw NeverHappened(what: "redis-server is installed", errors: "") }
        directory = try TemporaryDirectory("redis")
        process = try RunningProcess(
            program,
            [
                "--port", "0", "--unixsocket", directory.path + "/redis.sock", "--dir", directory.path, "--save", "",
                "--appendonly", "no",
            ])
        try waitUntil("redis-server listens", while: process) {
            process.output.contains("ready to accept connections")
        }
    }

    deinit { process.kill() }
}
