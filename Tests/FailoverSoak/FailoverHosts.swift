import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import HoldfastWire
import HostHarness

/// Three nodes with automatic failover, each on a host of its own with its agent; etcd and the clients have hosts too. The
/// repository is a directory that each reaches by a link of its own, which can be taken away.
///
/// Nodes reach etcd, and each other for replication, through proxies that can be told to delay.
final class FailoverHosts {
    static let nodeNames = ["a", "b", "c"]
    private static let serverPort: UInt16 = 6420, streamPort: UInt16 = 6421, etcdPort: UInt16 = 2379

    let network: HostNetwork
    private let directory: TemporaryDirectory
    private let etcd: RunningProcess
    private var servers: [String: RunningProcess] = [:]
    private var agents: [String: RunningProcess] = [:]
    /// What ended processes have logged, oldest first.
    private var pastLogs: [String: [String]] = [:]
    private var proxies: [DelayingProxy] = []

    /// Returns when `a` leads and both others stream from it.
    init(minimumFollowers: Int, ttlSeconds: Int) throws {
        guard let program = EtcdServer.program else { throw NeverHappened(what: "etcd is installed", errors: "") }
        directory = try TemporaryDirectory("holdfast-hosts")
        network = try HostNetwork(Self.nodeNames + ["etcd", "clients"])
        let host = network["etcd"]
        let urls = (client: "http://\(host.address):\(Self.etcdPort)", peer: "http://127.0.0.1:2380")
        etcd = try host.start(
            program,
            [
                "--name", "test", "--data-dir", directory.path + "/etcd", "--listen-client-urls", urls.client,
                "--advertise-client-urls", urls.client, "--listen-peer-urls", urls.peer,
                "--initial-advertise-peer-urls", urls.peer, "--initial-cluster", "test=\(urls.peer)",
            ])
        let (started, place) = (etcd, directory.path)
        try waitUntil("etcd serves", while: started) { started.errors.contains("ready to serve client requests") }
        try FileManager.default.createDirectory(atPath: place + "/repository", withIntermediateDirectories: false)
        for name in Self.nodeNames {
            let host = network[name]
            try connectRepository(name)
            proxies.append(
                try DelayingProxy(
                    in: host, listen: ("127.0.0.1", Self.etcdPort), to: (network["etcd"].address, Self.etcdPort)))
            proxies.append(
                try DelayingProxy(
                    in: host, listen: (host.address, Self.streamPort), to: (host.address, Self.serverPort)))
            try """
            cluster: main
            data: \(place)/\(name)
            leader: unix:\(socket(name))
            server: {socket: \(socket(name)), listen: "\(address(name))", cache: 32MiB}
            state: \(place)/state-\(name)
            repository: {path: \(place)/repository-of-\(name)}
            archive: {timeout: 1s}
            synchronous: {min_followers: \(minimumFollowers), timeout: 2s, on_timeout: refuse}
            failover:
              etcd: ["http://127.0.0.1:\(Self.etcdPort)"]
              ttl: \(ttlSeconds)s
              node: \(name)
              max_lag: none
              address: "\(host.address):\(Self.streamPort)"

            """.write(toFile: configuration(name), atomically: true, encoding: .utf8)
        }
        try expect("a", ["init", "--data", place + "/a"])
        try serve("a")
        try startAgent("a")
        try expect("a", ["backup"])
        for name in ["b", "c"] {
            try expect(name, ["restore", "--follow", address("a").description, "--slot", name, "--node", name])
            try serve(name)
            try startAgent(name)
        }
        try waitUntil("a leads and two follow") {
            try field("a", "node_role") == "leader" && field("a", "connected_slaves") == "2"
        }
    }

    deinit {
        for process in Array(servers.values) + Array(agents.values) {
            process.signal(SIGCONT)
            process.kill()
        }
        etcd.kill()
    }

    // MARK: Where things are

    private func socket(_ name: String) -> String { "\(directory.path)/\(name).sock" }
    private func configuration(_ name: String) -> String { "\(directory.path)/\(name).yaml" }
    /// Where clients reach a node.
    func address(_ name: String) -> WireAddress { .tcp(host: network[name].address, port: Self.serverPort) }

    // MARK: Processes

    func server(_ name: String) throws -> RunningProcess {
        guard let server = servers[name] else { throw NeverHappened(what: "\(name) was started", errors: "") }
        return server
    }

    /// Starts a node, and waits until it answers.
    func serve(_ name: String) throws {
        let process = try launch(name)
        try waitUntil("\(name) answers", seconds: 120, while: process) {
            try BuiltBinary.run(["status", "--config", configuration(name)]).status == 0
        }
    }

    /// Starts a node, and waits for nothing.
    func launch(_ name: String) throws -> RunningProcess {
        if let old = servers[name] { pastLogs[name, default: []].append(old.errors) }
        let process = try network[name].start(
            BuiltBinary.path, ["serve", "--insecure", "--config", configuration(name)])
        servers[name] = process
        return process
    }

    func startAgent(_ name: String) throws {
        if let old = agents[name] { pastLogs[name + "-agent", default: []].append(old.errors) }
        agents[name] = try network[name].start(BuiltBinary.path, ["agent", "--config", configuration(name)])
    }

    func killAgent(_ name: String) { agents[name]?.kill() }
    func hasAgent(_ name: String) -> Bool { agents[name]?.isRunning ?? false }

    func run(_ name: String, _ arguments: [String]) throws -> BuiltBinary.Result {
        try network[name].run(BuiltBinary.path, arguments + ["--config", configuration(name)])
    }

    @discardableResult
    func expect(_ name: String, _ arguments: [String]) throws -> String {
        let result = try run(name, arguments)
        guard result.status == 0 else {
            throw NeverHappened(
                what: "\(name): holdfast \(arguments.joined(separator: " ")) ends with 0",
                errors: "it ended with \(result.status)\n\(result.errors)")
        }
        return result.output
    }

    /// Of what passes the proxies from now on.
    func delay(milliseconds: ClosedRange<Int>) { for proxy in proxies { proxy.delay(milliseconds: milliseconds) } }

    /// The node finds nothing where its repository was.
    func cutRepository(_ name: String) throws {
        try FileManager.default.removeItem(atPath: "\(directory.path)/repository-of-\(name)")
    }

    /// The node reaches the repository, as before if it was cut.
    func connectRepository(_ name: String) throws {
        let (link, place) = ("\(directory.path)/repository-of-\(name)", directory.path + "/repository")
        guard symlink(place, link) == 0 || errno == EEXIST else {
            throw NeverHappened(what: "\(name) reaches the repository", errors: "errno \(errno)")
        }
    }

    // MARK: What nodes say

    /// A field of `INFO replication`; `nil`: the node does not answer.
    func field(_ name: String, _ field: String) throws -> String? {
        var options = WireClient.Options()
        options.replySeconds = 20
        guard let wire = try? WireClient(to: .unix(path: socket(name)), options: options),
            let text = try? wire.call("INFO").text
        else { return nil }
        return text.split(separator: "\r\n").first { $0.hasPrefix(field + ":") }.map {
            String($0.dropFirst(field.utf8.count + 1))
        }
    }

    /// Whether a node has published its log through there, waiting for it a second.
    func hasApplied(_ name: String, _ lsn: LSN) -> Bool {
        guard let wire = try? WireClient(to: .unix(path: socket(name))) else { return false }
        return (try? wire.call("WAITLSN", lsn.description, "1000")) == .integer(1)
    }

    /// All records of a node, sorted, one a line.
    func dump(_ name: String) throws -> String {
        try expect(name, ["dump", "--connect", "unix:\(socket(name))"])
    }

    /// The branches that lead to a timeline, as the repository knows them.
    func timelineHistory(_ timeline: UInt32) throws -> TimelineHistory {
        let name = TimelineHistory.fileName(TimelineID(timeline))
        let root = directory.path + "/repository/main/wal/"
        return try TimelineHistory(decoding: Array(Data(contentsOf: URL(filePath: root + name))))
    }

    /// Writes all that the processes have logged into files below `path`.
    func saveLogs(_ path: String) throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        for name in Self.nodeNames {
            for (suffix, process) in [("", servers[name]), ("-agent", agents[name])] {
                let texts = (pastLogs[name + suffix] ?? []) + [process?.errors ?? ""]
                try texts.joined(separator: "--- the next process\n").write(
                    toFile: "\(path)/\(name)\(suffix).log", atomically: true, encoding: .utf8)
            }
        }
        try etcd.errors.write(toFile: path + "/etcd.log", atomically: true, encoding: .utf8)
    }
}
