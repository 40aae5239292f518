import ArgumentParser
import BenchmarkSupport
import Foundation
import HoldfastCore
import HoldfastTestSupport

/// Makes followers of a leader that is written to without pause, with the real program: each is killed with `kill -9` at
/// random moments while it is unpacked, while it replays the archive and while it streams, started again by the same
/// command each time, and at last compared with the leader at one LSN. Ends with 1 when one is not equal.
struct ProvisionSoak: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "soak-provision",
        abstract: "Kills followers at random moments of their making, and compares them with their leader.")

    @Option(help: "Of everything that is random; printed.") var seed: UInt64?
    @Option(help: "Followers that are made.") var runs = 20
    @Option(help: "Megabytes of records of the leader.") var mb = 200
    @Option(help: "Clients that write.") var clients = 8
    @Option(help: "Seconds of writing without a follower, for comparison.") var seconds = 10.0
    @Option(
        help: ArgumentHelp(
            "Processors for the followers, as taskset reads them.",
            discussion: "With the rest of it under taskset on others, a leader keeps its own, as on another machine."))
    var followersOn: String?

    func run() throws {
        let seed = seed ?? UInt64.random(in: 1...UInt64(UInt32.max))
        say("seed \(seed): \(runs) followers, killed at random moments of every step; \(clients) clients write")
        let content = Content(megabytes: mb)
        let cluster = try HoldfastContender(content)
        let load = try WriteLoad(cluster.leader.address, clients: clients, keys: content.loadRecords, seed: seed)
        defer { load.stop() }
        usleep(1_000_000)
        _ = try load.take()
        usleep(UInt32(seconds * 1e6))
        let alone = try load.take()
        say("without a follower: \(text(alone))")
        var soak = ProvisionRuns(
            cluster: cluster, processors: followersOn, random: SeededGenerator(seed: seed))
        try soak.rehearse()
        _ = try load.take()
        var unequal = 0
        var beside = WriteWaits([])
        let limit = 2 * alone.percentile(0.99)
        for run in 1...max(1, runs) {
            let found = try soak.run()
            let waits = try load.take()
            if found.verified != "equal" { unequal += 1 }
            say(
                "run \(run): \(found.text); writes: \(text(waits)), \(waits.longer(than: limit)) over twice the usual p99"
            )
            beside = WriteWaits(beside.microseconds + waits.microseconds)
        }
        say("")
        say("kills: \(soak.killsText)")
        say("writes without a follower: \(text(alone))")
        say(
            "writes beside them:        \(text(beside)), \(beside.longer(than: limit)) of \(beside.count) over "
                + String(format: "%.2f ms, twice the usual p99", limit))
        say(unequal == 0 ? "all \(runs) followers equal their leader" : "\(unequal) of \(runs) FOLLOWERS DIFFER")
        if unequal > 0 { throw ExitCode.failure }
    }

    private func text(_ waits: WriteWaits) -> String {
        String(
            format: "%d, p50 %.2f, p99 %.2f, p99.9 %.2f, max %.2f ms", waits.count, waits.percentile(0.5),
            waits.percentile(0.99), waits.percentile(0.999), waits.longest)
    }
}

/// Followers made one after the other.
struct ProvisionRuns {
    let cluster: HoldfastContender
    let processors: String?
    var random: SeededGenerator
    private(set) var kills: [String: Int] = [:]
    /// Seconds that each step took in the rehearsal: within about these it is killed.
    private var unpacking = 1.0
    private var replaying = 1.0

    init(cluster: HoldfastContender, processors: String?, random: SeededGenerator) {
        self.cluster = cluster
        self.processors = processors
        self.random = random
    }

    struct Found {
        var verified = ""
        var lsn = ""
        var records = ""
        var digest = ""
        var kills = 0
        var seconds = 0.0

        var text: String {
            "\(verified) at \(lsn), \(records) records, SHA-256 \(digest.prefix(16))…, \(kills) kills, "
                + String(format: "%.1f s", seconds)
        }
    }

    var killsText: String {
        kills.sorted { $0.key < $1.key }.map { "\($0.value) while \($0.key)" }.joined(separator: ", ")
    }

    private func makeNode() throws -> HoldfastNode {
        let node = try cluster.makeNode()
        node.processors = processors
        return node
    }

    private func restore(_ node: HoldfastNode) -> [String] {
        ["restore", "--follow", cluster.leader.address, "--node", node.name, "--slot", node.name, "--verify"]
    }

    /// One without kills, to know how long each step takes.
    mutating func rehearse() throws {
        let node = try makeNode()
        unpacking = try seconds { _ = try node.run(restore(node)) }
        replaying = try seconds {
            try node.launchServer(["--verify"])
            try soon("\(node.name) streams", while: node.server) { try node.isStreaming() ? () : nil }
        }
        let found = try verified(node)
        say(
            String(format: "rehearsal: unpacked in %.2f s, streaming after %.2f s more; ", unpacking, replaying)
                + "\(found.verified) at \(found.lsn)")
        try cluster.drop(node)
    }

    mutating func run() throws -> Found {
        let node = try makeNode()
        let start = ContinuousClock.now
        let before = kills.values.reduce(0, +)
        // Unpacking: up to three kills, then to its end.
        for attempt in 0... {
            let job = try node.launch(restore(node))
            if attempt < 3, wait(unpacking * 1.1, while: job) {
                kill(job, "unpacking")
                continue
            }
            // The kill may have met it when all was done: then there is nothing to repeat, and the command says so.
            let isWhole = attempt > 0 && job.wait() == 73 && job.errors.contains("already holds this cluster's data")
            guard job.wait() == 0 || isWhole else {
                throw NeverHappened(what: "\(node.name) is unpacked", errors: job.errors)
            }
            break
        }
        // Replay from the archive, and whatever it has come to by then.
        for _ in 0..<Int(1 + random.next() % 3) {
            try node.launchServer(["--verify"])
            guard let server = node.server, wait(replaying * 1.1, while: server) else {
                throw NeverHappened(what: "\(node.name) serves", errors: node.server?.errors ?? "")
            }
            kill(server, step(node))
        }
        // The stream.
        for _ in 0..<Int(1 + random.next() % 2) {
            try node.launchServer(["--verify"])
            try soon("\(node.name) streams", while: node.server) { try node.isStreaming() ? () : nil }
            guard let server = node.server, wait(1, while: server) else {
                throw NeverHappened(what: "\(node.name) serves", errors: node.server?.errors ?? "")
            }
            kill(server, step(node))
        }
        try node.launchServer(["--verify"])
        var found = try verified(node)
        found.kills = kills.values.reduce(0, +) - before
        found.seconds = elapsedSeconds(since: start)
        try cluster.drop(node)
        return found
    }

    /// Waits a random part of so many seconds.
    /// - Returns: whether the process still runs.
    private mutating func wait(_ seconds: Double, while process: RunningProcess) -> Bool {
        let end = ContinuousClock.now + .seconds(Double.random(in: 0...max(seconds, 0.05), using: &random))
        while ContinuousClock.now < end, process.isRunning { usleep(500) }
        return process.isRunning
    }

    private mutating func kill(_ process: RunningProcess, _ step: String) {
        process.kill()
        kills[step, default: 0] += 1
    }

    private func step(_ node: HoldfastNode) -> String {
        guard let status = try? node.status() else { return "starting or replaying to consistency" }
        if status["verified"]?.text == "equal" { return "serving" }
        switch status["phase"]?.text {
        case "archive": return "replaying the archive"
        case "streaming": return "streaming"
        default: return "between archive and stream"
        }
    }

    /// Until the follower's content was compared, or its server has ended because it differs.
    private func verified(_ node: HoldfastNode) throws -> Found {
        try soon("\(node.name) is compared with its leader", everyMilliseconds: 20) {
            var found = Found()
            if let server = node.server, !server.isRunning {
                found.verified = "DIFFERS or ended with \(server.wait()): \(server.errors.suffix(2000))"
                return found
            }
            let status = try node.status()
            guard status["verified"]?.text == "equal" else { return nil }
            found.verified = "equal"
            found.lsn = status["verified_lsn"]?.text ?? ""
            found.records = status["verified_records"]?.text ?? ""
            found.digest = status["verified_digest"]?.text ?? ""
            return found
        }
    }
}
