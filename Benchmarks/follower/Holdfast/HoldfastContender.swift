import BenchmarkSupport
import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWire

/// A leader with its agent and a repository that holds a base backup of the content.
final class HoldfastContender: Contender {
    let name = "holdfast"
    let isPeer = false
    let content: Content
    private let directory: TemporaryDirectory
    private var nodes = 0
    var leader: HoldfastNode
    /// Kept from one measurement to the next.
    var followers: [HoldfastNode] = []
    /// Lines of every new node's configuration; `NODE` stands for its name.
    var settingsOfNodes = ""

    static let clients = 50

    var settings: String {
        "cache \(HoldfastNode.cache), log archived with zstd, load: redis-benchmark, \(Self.clients) clients, SETs one by one"
    }

    init(_ content: Content) throws {
        self.content = content
        directory = try TemporaryDirectory("bench-follower")
        leader = try HoldfastNode("n0", in: directory.path)
        try leader.run(["init"])
        try leader.launchServer()
        try soon("the leader answers", while: leader.server) { try leader.status() }
        try leader.startAgent()
        let time = try seconds {
            try load(content.recordsGenerator, tree: 0)
            try load(content.loadGenerator, tree: 1)
        }
        try leader.run(["checkpoint"])
        let size = try shell("sync; du -sm --apparent-size \(leader.data)/pages | cut -f1")
        say("\(content.description)")
        say("holdfast: \(size.trimmed) MB of pages, loaded in \(String(format: "%.1f s", time))")
        try leader.run(["backup"])
    }

    /// Before the directory goes.
    deinit { for node in followers + [leader] { node.kill() } }

    private func load(_ generator: String, tree: Int) throws {
        let path = directory.path + "/generate.py"
        try generator.write(toFile: path, atomically: true, encoding: .utf8)
        try shell("python3 \(path) | \(leader.command("load --tree \(tree)"))")
    }

    // MARK: Nodes

    func makeNode() throws -> HoldfastNode {
        nodes += 1
        let name = "n\(nodes)"
        return try HoldfastNode(name, in: directory.path, settings: settingsOfNodes.replacing("NODE", with: name))
    }

    /// Restores a node from the archive as the leader's follower.
    func restore(_ node: HoldfastNode, hasSlot: Bool = true) throws {
        try node.run(
            ["restore", "--follow", leader.address, "--node", node.name] + (hasSlot ? ["--slot", node.name] : []))
    }

    /// A follower that has all that the leader has.
    func makeFollower(hasSlot: Bool = true) throws -> HoldfastNode {
        let node = try makeNode()
        try restore(node, hasSlot: hasSlot)
        try node.start()
        try waitCaughtUp(node)
        return node
    }

    func waitCaughtUp(_ node: HoldfastNode) throws {
        try node.waitApplied(leader.end())
        try soon("\(node.name) streams", while: node.server) { try node.isStreaming() ? () : nil }
    }

    /// The node and what the leader keeps for it are gone.
    func drop(_ node: HoldfastNode) throws {
        node.remove()
        try soon("the slot is free") {
            let slots = try leader.connect().call("SLOT", "LIST").elements ?? []
            guard slots.contains(where: { $0["name"]?.text == node.name }) else { return () }
            try leader.connect().call("SLOT", "DROP", node.name)
            return ()
        }
    }

    func pauseFollowers() { for follower in followers { follower.stop() } }

    func dropFollowers() throws {
        for follower in followers { try drop(follower) }
        followers = []
    }

    /// `node` was promoted: the old leader is gone for good, and the new one has an agent that keeps up.
    func lead(_ node: HoldfastNode) throws {
        leader.remove()
        leader = node
        if node.agent == nil { try node.startAgent() }
        try node.archiveAll()
    }

    // MARK: Writing

    func startLoad() throws -> RunningProcess {
        guard let tool = BuiltBinary.tool("redis-benchmark") else {
            throw NeverHappened(what: "redis-benchmark is installed", errors: "")
        }
        return try RunningProcess(
            tool, ["-s", leader.socket, "-c", "\(Self.clients)", "-n", "1000000000"] + updates)
    }

    /// redis-benchmark's words for updates of random records of `load`.
    private var updates: [String] {
        // Twelve bytes each, and another number each: nearly all of a value changes.
        let value = String(repeating: "__rand_int__", count: 8) + "xxxx"
        return ["--dbnum", "1", "-r", "\(content.loadRecords)", "-q", "set", "key:__rand_int__", value]
    }

    /// Has the leader write so much log, as fast as clients with pipelines make it.
    /// - Returns: where it begins and ends, and how many records were updated.
    func writeLog(megabytes: Int) throws -> (from: LSN, to: LSN, changes: Int) {
        let from = try leader.end()
        var changes = 0, to = from
        let step = max(10_000, min(200_000, megabytes * 500))
        while to - from < megabytes << 20 {
            let words = ["-s", leader.socket, "-c", "\(Self.clients)", "-P", "64", "-n", "\(step)"] + updates
            try shell("redis-benchmark \(words.joined(separator: " ")) >/dev/null")
            changes += step
            to = try leader.end()
        }
        return (from, to, changes)
    }
}

extension String {
    var trimmed: String { trimmingCharacters(in: .whitespacesAndNewlines) }
}
