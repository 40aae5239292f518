import Foundation
import HoldfastCore
import HoldfastTestSupport

/// A leader `a` and followers `b` and `c`, real processes, over a real etcd and TLS. Everything is stopped by pid when it goes.
final class FailoverCluster {
    let etcd: EtcdServer
    private let authority: TestCertificates
    let directory: TemporaryDirectory
    private(set) var nodes: [String: RunningProcess] = [:]
    private var agent: RunningProcess?
    /// The default: short leases lapse on a machine that runs hundreds of tests beside this.
    let ttlSeconds = 10

    /// Returns when `a` leads and both others stream from it.
    init(minimumFollowers: Int) throws {
        authority = try TestCertificates()
        etcd = try EtcdServer(authority.issue("etcd"))
        directory = try TemporaryDirectory("holdfast-failover")
        for name in ["a", "b", "c"] {
            try """
            cluster: main
            data: \(directory.path)/\(name)
            leader: unix:\(socket(name))
            server: {socket: \(socket(name)), listen: "127.0.0.1:\(try TestCluster.freePort())", cache: 64MiB}
            state: \(directory.path)/state-\(name)
            repository: {path: \(directory.path)/repository}
            archive: {timeout: 1s}
            synchronous: {min_followers: \(minimumFollowers)}
            failover:
              etcd: ["\(etcd.endpoint)"]
              ca_file: \(authority.authority)
              ttl: \(ttlSeconds)s
              node: \(name)
              max_lag: none

            """.write(toFile: configuration(name), atomically: true, encoding: .utf8)
        }
        try expect("a", ["init", "--data", directory.path + "/a"])
        try start("a")
        agent = try RunningProcess(BuiltBinary.path, ["agent", "--config", configuration("a")])
        try expect("a", ["backup"])
        for name in ["b", "c"] {
            try expect("a", ["status"])
            try expect(name, ["restore", "--follow", "unix:\(socket("a"))", "--slot", name, "--node", name])
            try start(name)
        }
        try waitUntil("a leads and two follow") {
            try holder() == "a" && info("a").contains("connected_slaves:2")
        }
    }

    deinit {
        for process in nodes.values { process.kill() }
        agent?.kill()
    }

    func socket(_ name: String) -> String { "\(directory.path)/\(name).sock" }
    private func configuration(_ name: String) -> String { "\(directory.path)/\(name).yaml" }

    func start(_ name: String) throws {
        let process = try RunningProcess(BuiltBinary.path, ["serve", "--config", configuration(name)])
        nodes[name] = process
        try waitUntil("\(name) answers", while: process) {
            try BuiltBinary.run(["status", "--config", configuration(name)]).status == 0
        }
    }

    @discardableResult
    func expect(_ name: String, _ arguments: [String]) throws -> String {
        let result = try BuiltBinary.run(arguments + ["--config", configuration(name)])
        guard result.status == 0 else { throw NeverHappened(what: "\(arguments) ends with 0", errors: result.errors) }
        return result.output
    }

    /// What `holdfast nodes` says.
    func table() throws -> [String: Any] {
        let text = try expect("b", ["nodes", "--format", "json"])
        return try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any] ?? [:]
    }

    func holder() throws -> String? { try table()["holder"] as? String }

    func info(_ name: String) throws -> String {
        let connection = try RawConnection(unix: socket(name))
        connection.send("INFO replication\r\n")
        guard let line = try connection.line(), let count = Int(line.dropFirst()) else { return "" }
        return String(decoding: try connection.bytes(count), as: UTF8.self)
    }

    /// The reply to a `SET` on a connection of its own; `nil`: nobody answered.
    func set(_ name: String, _ key: String, _ value: String) -> String? {
        guard let connection = try? RawConnection(unix: socket(name)) else { return nil }
        connection.send("SET \(key) \(value)\r\n")
        return (try? connection.line()).flatMap { $0 }
    }

    /// The first of `names` that acknowledges a write.
    func firstWriter(of names: [String]) throws -> String {
        var found: String?
        try waitUntil("one of \(names) accepts writes", seconds: 120) {
            found = names.first { set($0, "probe", "1") == "+OK" }
            return found != nil
        }
        return found!  // Or the wait has thrown.
    }

    func has(_ name: String, _ key: String) throws -> Bool {
        let connection = try RawConnection(unix: socket(name))
        connection.send("EXISTS \(key)\r\n")
        return try connection.line() == ":1"
    }
}
