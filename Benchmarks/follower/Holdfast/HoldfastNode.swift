import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWire

/// One node of the cluster: its configuration, its data directory, and its processes, stopped by pid when it goes.
final class HoldfastNode {
    static let cache = "1GiB"

    let name: String
    /// The processors that its processes run on, as `taskset` reads them; nil: all.
    var processors: String?
    private let root: String
    private(set) var server: RunningProcess?
    private(set) var agent: RunningProcess?

    var data: String { "\(root)/\(name)" }
    var socket: String { "\(root)/\(name).sock" }
    var address: String { "unix:\(socket)" }
    private var configuration: String { "\(root)/\(name).yaml" }

    /// - Parameter settings: further lines of the configuration.
    init(_ name: String, in root: String, settings: String = "") throws {
        self.name = name
        self.root = root
        try configure(settings)
    }

    deinit { kill() }

    func configure(_ settings: String) throws {
        try """
        cluster: bench
        data: \(data)
        leader: \(address)
        server: {socket: \(socket), cache: \(Self.cache)}
        repository: {path: \(root)/repository}
        archive: {timeout: 5s}
        state: \(root)/state-\(name)
        \(settings)

        """.write(toFile: configuration, atomically: true, encoding: .utf8)
    }

    /// A command with this node's configuration, to its end.
    @discardableResult
    func run(_ arguments: [String]) throws -> String {
        let process = try launch(arguments)
        let status = process.wait(seconds: 3600)
        guard status == 0 else {
            throw NeverHappened(
                what: "holdfast \(arguments.joined(separator: " ")) ends with 0",
                errors: "\(status): \(process.errors)\(process.output)")
        }
        return process.output
    }

    func launch(_ arguments: [String]) throws -> RunningProcess {
        let words = arguments + ["--config", configuration]
        guard let processors else { return try RunningProcess(BuiltBinary.path, words) }
        return try RunningProcess("/usr/bin/taskset", ["-c", processors, BuiltBinary.path] + words)
    }

    /// The shell's words for `holdfast`, with this configuration behind.
    func command(_ words: String) -> String { "\(BuiltBinary.path) \(words) --config \(configuration)" }

    // MARK: Processes

    func launchServer(_ arguments: [String] = []) throws { server = try launch(["serve"] + arguments) }
    func startAgent() throws { agent = try launch(["agent"]) }

    func start() throws {
        try launchServer()
        try waitForRead()
    }

    /// In order, after a last checkpoint.
    func stop() {
        agent?.stop()
        server?.stop()
        (agent, server) = (nil, nil)
    }

    func kill() {
        killAgent()
        server?.kill()
        server = nil
    }

    func killAgent() {
        agent?.kill()
        agent = nil
    }

    func remove() {
        kill()
        for path in [data, socket, configuration, "\(root)/state-\(name)"] {
            try? FileManager.default.removeItem(atPath: path)
        }
    }

    // MARK: Questions

    func connect() throws -> WireClient { try WireClient(to: WireAddress(address)) }

    func status() throws -> WireValue { try connect().call("STATUS") }

    /// Its durable end.
    func end() throws -> LSN { LSN(try status()["lsn"]?.text ?? "") ?? .zero }

    /// Until it answers with the content's first record.
    func waitForRead() throws {
        try soon("\(name) answers a read", while: server) {
            try connect().call("GET", Content.firstKey).bytes.map { _ in }
        }
    }

    /// Until it has applied everything below `lsn`.
    func waitApplied(_ lsn: LSN) throws {
        let client = try soon("\(name) answers", while: server) { try connect() }
        let reply = try client.call("WAITLSN", lsn.description, "0", patience: .seconds(600))
        guard reply.integer == 1 else { throw NeverHappened(what: "\(lsn) is applied", errors: "\(reply)") }
    }

    /// Until everything below `lsn` is in the repository.
    func waitArchived(_ lsn: LSN) throws {
        try soon("the log is archived", everyMilliseconds: 100, while: agent) {
            LSN(try status()["archived_lsn"]?.text ?? "") ?? .zero >= lsn ? () : nil
        }
    }

    /// Closes the segment, and waits until it is archived.
    func archiveAll() throws {
        try connect().call("WAL", "SWITCH", patience: .unlimited)
        // What is archived is whole segments, to the last that was closed.
        let end = try end()
        try waitArchived(LSN(end.rawValue - end.rawValue % UInt64(SegmentNumber.bytes)))
    }

    /// Where its stream began at its last start; nil: it has not.
    var streamStart: LSN? {
        guard let line = server?.errors.split(separator: "\n").last(where: { $0.contains(" streaming") }),
            let field = line.range(of: #"\blsn"?[=:]\s*"?"#, options: .regularExpression)
        else { return nil }
        return LSN(line[field.upperBound...].prefix { $0 == "/" || $0.isHexDigit })
    }

    /// Whether it has everything and its stream has begun.
    func isStreaming() throws -> Bool { try status()["phase"]?.text == "streaming" }
}
