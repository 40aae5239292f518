import Foundation
import HoldfastTestSupport
import Synchronization

/// Hosts on one machine: network namespaces joined by a bridge, which has a namespace of its own, so that nothing of the
/// machine's own network is touched.
///
///     let network = try HostNetwork(["a", "b"])
///     let server = try network["a"].start("/usr/bin/redis-server", ["--bind", network["a"].address])
///     try network.cut(from: "a", to: "b")   // b hears nothing of a; a still hears b
///     try network.heal()
///
/// Needs root's right to make namespaces, and `ip`, `tc`, `nft`; `obstacle` says what is missing. When it goes, every
/// process left in its namespaces is killed and they are removed; what a killed test left is removed by the next one.
public final class HostNetwork: Sendable {
    /// The names of namespaces are this, the pid of who made them, a random number and the host.
    private static let prefix = "holdfast-test"
    private static let directory = "/run/netns"

    private let name: String
    private let hosts: [String: NetworkHost]
    private let state = Mutex(Faults())

    /// Throws `NeverHappened` with what the system said when hosts cannot be made here.
    public init(_ names: [String]) throws {
        precondition(!names.isEmpty && names.count < 200 && Set(names).count == names.count)
        Self.sweep()
        name = "\(Self.prefix)-\(getpid())-\(String(UInt32.random(in: 0...UInt32.max), radix: 36))"
        var hosts: [String: NetworkHost] = [:]
        for (index, host) in names.enumerated() {
            hosts[host] = NetworkHost(name: host, address: "10.79.0.\(index + 1)", namespace: "\(name)-\(host)")
        }
        self.hosts = hosts
        do {
            try join()
        } catch {
            // An initializer that throws runs no deinit.
            Self.remove(Array(hosts.values.map(\.namespace)) + [bridge])
            throw error
        }
    }

    deinit { Self.remove(hosts.values.map(\.namespace) + [bridge]) }

    private var bridge: String { "\(name)-net" }

    /// The host of this name, which must be one of those that were asked for.
    public subscript(_ name: String) -> NetworkHost {
        guard let host = hosts[name] else { preconditionFailure("there is no host \(name)") }
        return host
    }

    public var names: [String] { hosts.keys.sorted() }

    private func join() throws {
        let ip = try Self.tool("ip")
        try Self.expect(ip, ["netns", "add", bridge])
        try Self.expect(ip, ["-n", bridge, "link", "add", "joint", "type", "bridge"])
        try Self.expect(ip, ["-n", bridge, "link", "set", "joint", "up"])
        for (index, name) in names.enumerated() {
            let host = self[name]
            let port = "port\(index)"
            try Self.expect(ip, ["netns", "add", host.namespace])
            for words in [
                ["-n", bridge, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace],
                ["-n", bridge, "link", "set", port, "master", "joint", "up"],
                ["-n", host.namespace, "addr", "add", "\(host.address)/24", "dev", "eth0"],
                ["-n", host.namespace, "link", "set", "lo", "up"],
                ["-n", host.namespace, "link", "set", "eth0", "up"],
            ] { try Self.expect(ip, words) }
        }
    }

    // MARK: Faults

    /// What is wrong between hosts now.
    private struct Faults {
        /// Of packets from one host to another so many in a hundred are lost; 100: it is cut.
        var loss: [Link: Int] = [:]
        var slow: Set<String> = []
    }

    private struct Link: Hashable {
        var from: String
        var to: String
    }

    /// Nothing that `from` sends reaches `to`; the other way is as it was.
    public func cut(from: String, to: String) throws { try lose(100, from: from, to: to) }

    /// Nothing passes between these hosts and the others, except those named. Within each side everything does.
    public func partition(_ side: Set<String>, except: Set<String> = []) throws {
        try change { faults in
            for one in side {
                for other in hosts.keys where !side.contains(other) && !except.contains(other) {
                    faults.loss[Link(from: one, to: other)] = 100
                    faults.loss[Link(from: other, to: one)] = 100
                }
            }
        }
    }

    /// Of a hundred packets from one host to the other so many are lost, at random; 0: none.
    public func lose(_ percent: Int, from: String, to: String) throws {
        precondition((0...100).contains(percent) && hosts[from] != nil && hosts[to] != nil && from != to)
        try change { $0.loss[Link(from: from, to: to)] = percent == 0 ? nil : percent }
    }

    /// What a host sends passes at this rate at most; what waits longer than half a second for its turn is lost.
    public func limit(_ name: String, kilobytesPerSecond: Int) throws {
        precondition(kilobytesPerSecond > 0)
        let words = ["netns", "exec", self[name].namespace, Self.toolName("tc")]
        try Self.expect(
            Self.tool("ip"),
            words + [
                "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", "\(kilobytesPerSecond * 8)kbit", "burst",
                "64kb", "latency", "500ms",
            ])
        state.withLock { _ = $0.slow.insert(name) }
    }

    /// Nothing is cut, lost or slow any more.
    public func heal() throws {
        let slow = state.withLock { faults in
            defer { faults.slow = [] }
            return faults.slow
        }
        for name in slow {
            try Self.expect(
                Self.tool("ip"),
                ["netns", "exec", self[name].namespace, Self.toolName("tc"), "qdisc", "del", "dev", "eth0", "root"])
        }
        try change { $0.loss = [:] }
    }

    /// Rules stand where packets arrive: a sender is told nothing. Those of a host change at once.
    private func change(_ body: (inout Faults) -> Void) throws {
        try state.withLock { faults in
            let before = faults.loss
            body(&faults)
            for (name, host) in hosts {
                guard before.filter({ $0.key.to == name }) != faults.loss.filter({ $0.key.to == name }) else {
                    continue
                }
                var script = """
                    add table inet faults
                    add chain inet faults arriving { type filter hook input priority 0; policy accept; }
                    flush chain inet faults arriving

                    """
                for (link, percent) in faults.loss where link.to == name {
                    let chance = percent == 100 ? "" : "numgen random mod 100 < \(percent) "
                    script += "add rule inet faults arriving ip saddr \(self[link.from].address) \(chance)drop\n"
                }
                try Self.expect(
                    Self.tool("ip"), ["netns", "exec", host.namespace, Self.toolName("nft"), "-f", "-"],
                    input: Data(script.utf8))
            }
        }
    }

    // MARK: The machine

    /// Why hosts cannot be made on this machine, by trying all that they need; `nil`: they can.
    public static let obstacle: String? = {
        do {
            let network = try HostNetwork(["a", "b"])
            try network.lose(50, from: "a", to: "b")
            try network.limit("a", kilobytesPerSecond: 1000)
            try network.heal()
            return nil
        } catch {
            return "hosts cannot be made on this machine: "
                + "\(error)".split(separator: "\n").prefix(3).joined(separator: ": ")
        }
    }()

    static func tool(_ name: String) throws -> String {
        guard let path = BuiltBinary.tool(name) else { throw NeverHappened(what: "\(name) is installed", errors: "") }
        return path
    }

    private static func toolName(_ name: String) -> String { BuiltBinary.tool(name) ?? name }

    private static func expect(_ program: String, _ arguments: [String], input: Data = Data()) throws {
        let result = try BuiltBinary.runTool(program, arguments, input: input)
        guard result.status == 0 else {
            throw NeverHappened(what: ([program] + arguments).joined(separator: " "), errors: result.errors)
        }
    }

    private static func remove(_ namespaces: [String]) {
        guard let ip = try? tool("ip") else { return }
        for namespace in namespaces where FileManager.default.fileExists(atPath: "\(directory)/\(namespace)") {
            // Nobody but hosts' own processes is in there.
            let pids = try? BuiltBinary.runTool(ip, ["netns", "pids", namespace]).output
            for pid in (pids ?? "").split(separator: "\n").compactMap({ pid_t($0) }) where pid != getpid() {
                kill(pid, SIGKILL)
            }
            _ = try? BuiltBinary.runTool(ip, ["netns", "del", namespace])
        }
        // `ip` mounts the directory upon itself for the first namespace, and leaves it so. While anybody has one there this fails.
        if let left = try? FileManager.default.contentsOfDirectory(atPath: directory), left.isEmpty,
            let umount = BuiltBinary.tool("umount")
        {
            _ = try? BuiltBinary.runTool(umount, [directory])
        }
    }

    /// Removes what was left by processes that were killed.
    private static func sweep() {
        let left = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        remove(
            left.filter { name in
                guard name.hasPrefix(prefix + "-") else { return false }
                let pid = name.dropFirst(prefix.count + 1).prefix { $0.isNumber }
                return pid_t(pid).map { kill($0, 0) != 0 && errno == ESRCH } ?? false
            })
    }
}
