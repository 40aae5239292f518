import Foundation

/// A cluster of real processes in a directory of its own: a leader, an agent, a repository. Everything on unix
/// sockets, and one loopback port for stock Redis tools; stopped by pid when it goes.
public final class TestCluster {
    public let directory: TemporaryDirectory
    public let port: Int
    public private(set) var leader: RunningProcess?
    public private(set) var agent: RunningProcess?
    /// Further lines of the configuration.
    public let settings: String
    private let cache: String
    /// The leader's data directory; changes when a restored one takes its place.
    public var data: String

    public var root: String { directory.path }
    public var configuration: String { root + "/holdfast.yaml" }
    public var socket: String { root + "/leader.sock" }
    public var repository: String { root + "/repository" }

    /// Writes the configuration and runs `init`.
    public init(settings: String = "", cache: String = "64MiB", initialize: Bool = true) throws {
        directory = try TemporaryDirectory("holdfast-cluster")
        port = try Self.freePort()
        data = directory.path + "/data"
        self.settings = settings
        self.cache = cache
        try writeConfiguration()
        if initialize { try expect(["init", "--data", data]) }
    }

    deinit {
        agent?.kill()
        leader?.kill()
    }

    public func writeConfiguration() throws {
        var text = """
            cluster: main
            data: \(data)
            leader: unix:\(socket)
            server: {listen: "127.0.0.1:\(port)", socket: \(socket), cache: \(cache)}
            state: \(root)/state
            """
        if !settings.contains("repository:") { text += "\nrepository: {path: \(repository)}" }
        if !settings.contains("archive:") { text += "\narchive: {timeout: 1s}" }
        try (text + "\n" + settings + "\n").write(toFile: configuration, atomically: true, encoding: .utf8)
    }

    /// A command with this cluster's configuration.
    public func run(_ arguments: [String], input: Data = Data(), environment: [String: String] = [:]) throws
        -> BuiltBinary.Result
    {
        try BuiltBinary.run(
            arguments, input: input, environment: environment.merging(["HOLDFAST_CONFIG": configuration]) { $1 })
    }

    /// A command that must succeed.
    @discardableResult
    public func expect(_ arguments: [String], input: Data = Data()) throws -> String {
        let result = try run(arguments, input: input)
        guard result.status == 0 else {
            throw NeverHappened(
                what: "holdfast \(arguments.joined(separator: " ")) ends with 0",
                errors: "it ended with \(result.status)\n\(result.errors)\(result.output)")
        }
        return result.output
    }

    /// Starts `serve` without waiting for anything.
    @discardableResult
    public func launchLeader(_ arguments: [String] = [], environment: [String: String] = [:]) throws -> RunningProcess {
        let process = try RunningProcess(
            BuiltBinary.path, ["serve"] + arguments,
            environment: environment.merging(["HOLDFAST_CONFIG": configuration]) { $1 })
        leader = process
        return process
    }

    /// Starts `serve` and waits until it answers.
    public func startLeader(_ arguments: [String] = [], environment: [String: String] = [:]) throws {
        let process = try launchLeader(arguments, environment: environment)
        try waitUntil("the leader answers", while: process) { try run(["status"]).status == 0 }
    }

    public func startAgent(environment: [String: String] = [:]) throws {
        agent = try RunningProcess(
            BuiltBinary.path, ["agent"],
            environment: environment.merging(["HOLDFAST_CONFIG": configuration]) { $1 })
    }

    public func stopLeader() -> Int32 {
        defer { leader = nil }
        return leader?.stop() ?? 0
    }

    public func killLeader() {
        leader?.kill()
        leader = nil
    }

    public func stopAgent() -> Int32 {
        defer { agent = nil }
        return agent?.stop() ?? 0
    }

    public func killAgent() {
        agent?.kill()
        agent = nil
    }

    /// One field of a command's JSON object, as text; `nil` when it is not there.
    public func field(_ name: String, of arguments: [String]) throws -> String? {
        let text = try expect(arguments + ["--format", "json"])
        let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
        return object?[name].map { "\($0)" }
    }

    /// The whole JSON object of a command.
    public func json(_ arguments: [String]) throws -> [String: Any] {
        let text = try expect(arguments + ["--format", "json"])
        guard let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any] else {
            throw NeverHappened(what: "\(arguments) prints one JSON object", errors: text)
        }
        return object
    }

    /// `dump` of a tree: sorted lines.
    public func dump(tree: Int = 0) throws -> String { try expect(["dump", "--tree", String(tree)]) }

    /// Names and contents of everything below a path: what "nothing was changed on disk" is judged by.
    public static func fingerprint(_ path: String) -> [String: Data] {
        var all: [String: Data] = [:]
        for case let name as String in FileManager.default.enumerator(atPath: path) ?? .init() {
            all[name] = FileManager.default.contents(atPath: path + "/" + name) ?? Data()
        }
        return all
    }

    /// A loopback port that nobody listens on now.
    public static func freePort() throws -> Int {
        let fd = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(fd) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let code = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(fd, $0, length) == 0 ? getsockname(fd, $0, &length) : -1
            }
        }
        guard code == 0 else { throw NeverHappened(what: "a free port", errors: "errno \(errno)") }
        return Int(UInt16(bigEndian: address.sin_port))
    }
}
