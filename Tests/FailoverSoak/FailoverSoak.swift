import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import HostHarness

public struct SoakSettings: Sendable {
    /// Round n, from 0, is made of `seed + n`.
    public var seed: UInt64 = 1
    public var rounds = 100
    /// 0: what no follower has received may be lost, and must be told.
    public var minimumFollowers = 1
    public var ttlSeconds = 3
    public var clients = 6
    /// What may be done to the leader, round after round, from the first again.
    public var faults = [LeaderFault.allCases]
    /// Where the logs of nodes are written when something is wrong; `nil`: nowhere.
    public var logs: String?
    public init() {}
}

public struct SoakReport: Sendable {
    public var rounds = 0
    public var failovers = 0
    public var acknowledged = 0
    public var unknown = 0
    /// Acknowledged, lost and told; without `min_followers` only.
    public var lost = 0
    public var rewinds = 0
    /// Plain reads, on a node that leads, of a write that was not acknowledged yet and then lost.
    public var earlyReads = 0
    /// Keys of rounds where a plain read on a leader that was left behind saw what was no longer so.
    public var keysReadLate = 0
    /// From the last acknowledgement on the old timeline to the first on the new one, of each failover.
    public var unavailableSeconds: [Double] = []
    public var failures: [String] = []
}

/// Failovers, one after the other, under load: a leader fails in some way, another takes over, the old one is brought back,
/// and what clients were told is compared with what the nodes have.
public final class FailoverSoak {
    private let settings: SoakSettings
    private let say: (String) -> Void
    private var report = SoakReport()
    private var scene: Scene?

    /// The nodes and what is known of them; made anew when a round did not come to its end.
    private struct Scene {
        let hosts: FailoverHosts
        let history = SoakHistory()
        var leader = "a"
        /// The node that has acknowledged on each timeline.
        var nodeOf: [UInt32: String] = [:]
        var kept: [String: Int64] = [:]
        /// Ends of transactions that rewinds of this round have thrown away.
        var reported: Set<LSN> = []
        /// What followers had received of the present timeline when its leader failed.
        var received: (timeline: UInt32, lsn: LSN) = (0, .zero)
    }

    /// - Parameter say: gets a line for each round, and more where something is wrong.
    public init(_ settings: SoakSettings, say: @escaping (String) -> Void) {
        self.settings = settings
        self.say = say
    }

    public func run() -> SoakReport {
        for number in 0..<settings.rounds {
            let seed = settings.seed &+ UInt64(number)
            let plan = RoundPlan(seed: seed, settings.faults[number % settings.faults.count])
            do {
                if scene == nil { scene = try begin(seed) }
                try round(number, seed, plan)
                report.rounds += 1
            } catch {
                fail(number, seed, plan, ["\(error)"])
                try? scene?.history.end(settings.clients)
                scene = nil
            }
        }
        try? scene?.history.end(settings.clients)
        scene = nil
        return report
    }

    private func begin(_ seed: UInt64) throws -> Scene {
        let hosts = try FailoverHosts(minimumFollowers: settings.minimumFollowers, ttlSeconds: settings.ttlSeconds)
        let scene = Scene(hosts: hosts)
        let addresses = FailoverHosts.nodeNames.map { (name: $0, address: hosts.address($0)) }
        for index in 0..<settings.clients {
            let client = SoakClient(index, addresses, seed: seed &* 1000 &+ UInt64(index), scene.history)
            try hosts.network["clients"].detachThread { client.run() }
        }
        return scene
    }

    private func fail(_ number: Int, _ seed: UInt64, _ plan: RoundPlan, _ failures: [String]) {
        for failure in failures {
            report.failures.append("seed \(seed): \(plan): \(failure)")
            say("round \(number + 1) seed \(seed): WRONG: \(failure)")
        }
        guard let logs = settings.logs, let scene else { return }
        do {
            try scene.hosts.saveLogs("\(logs)/seed-\(seed)")
            say("logs are in \(logs)/seed-\(seed)")
        } catch { say("the logs cannot be saved: \(error)") }
    }

    // MARK: A round

    private func round(_ number: Int, _ seed: UInt64, _ plan: RoundPlan) throws {
        guard let hosts = scene?.hosts, let history = scene?.history, let leader = scene?.leader else { return }
        let old = try timeline(of: leader)
        scene?.reported = []
        history.begin(round: number)
        try waitUntil("clients write") { history.acknowledged > 20 }
        try begin(plan.weather, leader, hosts)
        usleep(plan.beforeMilliseconds * 1000)
        var received = LSN.zero
        for name in FailoverHosts.nodeNames where name != leader {
            received = max(received, try hosts.field(name, "lsn").flatMap { LSN($0) } ?? .zero)
        }
        scene?.received = (old, received)
        try begin(plan, leader, hosts)
        try waitUntil("another leader acknowledges a write, after \(plan)", seconds: 240) {
            history.newestTimeline > old
        }
        usleep(plan.afterMilliseconds * 1000)
        try hosts.network.heal()
        hosts.delay(milliseconds: 0...0)
        try hosts.connectRepository(leader)
        if plan.fault == .pause { try hosts.server(leader).signal(SIGCONT) }
        try settle()
        try history.pause(settings.clients)
        try check(number, seed, plan, since: old)
    }

    private func begin(_ weather: RoundPlan.Weather, _ leader: String, _ hosts: FailoverHosts) throws {
        let others = FailoverHosts.nodeNames.filter { $0 != leader }
        let network = hosts.network
        switch weather {
        case .fair: break
        case .loss(let percent):
            let all = FailoverHosts.nodeNames + ["etcd"]
            for one in all { for other in all where other != one { try network.lose(percent, from: one, to: other) } }
        case .delay(let milliseconds): hosts.delay(milliseconds: 0...milliseconds)
        case .deafFollower(let index): try network.cut(from: leader, to: others[index])
        case .slowLeader(let rate): try network.limit(leader, kilobytesPerSecond: rate)
        }
    }

    private func begin(_ plan: RoundPlan, _ leader: String, _ hosts: FailoverHosts) throws {
        let (network, server) = (hosts.network, try hosts.server(leader))
        if plan.fault.isOfNetwork { try hosts.cutRepository(leader) }
        let peers = (FailoverHosts.nodeNames + ["etcd"]).filter { $0 != leader }
        switch plan.fault {
        case .kill: server.kill()
        case .loseHost:
            try network.partition([leader])
            server.kill()
            hosts.killAgent(leader)
        case .partition: try network.partition([leader], except: ["clients"])
        case .isolate: try network.partition([leader])
        case .mute: for peer in peers { try network.cut(from: leader, to: peer) }
        case .deafen: for peer in peers { try network.cut(from: peer, to: leader) }
        case .partitionAndKill:
            try network.partition([leader], except: ["clients"])
            usleep(plan.betweenMilliseconds * 1000)
            server.kill()
        case .pause: server.signal(SIGSTOP)
        }
    }

    private func timeline(of node: String) throws -> UInt32 {
        try scene?.hosts.field(node, "timeline").flatMap { UInt32($0) } ?? 0
    }

    // MARK: Bringing back

    /// Returns when one node leads and the others stream from it; who has ended is brought back as an operator would.
    private func settle() throws {
        guard let hosts = scene?.hosts else { return }
        var seen = ""
        do {
            try waitUntil("one leads and two follow", seconds: 240) {
                seen = try FailoverHosts.nodeNames.map { name in
                    let role = try hosts.server(name).isRunning ? hosts.field(name, "node_role") : "ended"
                    return "\(name) \(role ?? "does not answer")"
                }.joined(separator: ", ")
                var leaders: [(name: String, timeline: UInt32)] = []
                for name in FailoverHosts.nodeNames
                where try hosts.server(name).isRunning && hosts.field(name, "node_role") == "leader" {
                    leaders.append((name, try timeline(of: name)))
                }
                let newest = leaders.max { $0.timeline < $1.timeline }
                for name in FailoverHosts.nodeNames {
                    if try !hosts.server(name).isRunning { try bringBack(name, newest?.name, hosts) }
                    if !hosts.hasAgent(name) { try hosts.startAgent(name) }
                }
                guard let newest, leaders.count == 1 else { return false }
                scene?.leader = newest.name
                return try hosts.field(newest.name, "connected_slaves") == "2"
            }
        } catch let error as NeverHappened {
            throw NeverHappened(what: error.what + ", but \(seen)", errors: error.errors)
        }
    }

    /// One step of it.
    private func bringBack(_ name: String, _ leader: String?, _ hosts: FailoverHosts) throws {
        let ended = try hosts.server(name)
        let status = ended.wait()
        guard status != 128 + SIGKILL else {
            // It is told at its start, or as soon as it has looked at etcd, that it must not go on; or goes on, rightly.
            _ = try hosts.launch(name)
            return
        }
        guard status == 65, ended.errors.contains("must not accept writes any more") else {
            throw NeverHappened(
                what: "\(name) ends as a leader that was left behind", errors: "\(status): \(ended.errors)")
        }
        guard let leader else { return }
        let result = try hosts.run(
            name,
            ["rewind", "--from", hosts.address(leader).description, "--node", name, "--slot", name, "--format", "json"])
        // Temporary: the new leader is not ready for it.
        if result.status == 75 || result.status == 69 { return }
        guard result.status == 0 else {
            throw NeverHappened(what: "\(name) is rewound", errors: "\(result.status): \(result.errors)")
        }
        report.rewinds += 1
        try note(result.output)
        _ = try hosts.launch(name)
    }

    /// Remembers what a rewind says that it threw away.
    private func note(_ output: String) throws {
        let object = try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any]
        guard let saved = object?["saved"] as? String else { return }
        for line in try String(contentsOfFile: saved + "/transactions.jsonl", encoding: .utf8).split(separator: "\n") {
            let commit = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
            if let lsn = (commit?["lsn"] as? String).flatMap({ LSN($0) }) { scene?.reported.insert(lsn) }
        }
        // Its log would fill the disk in a long soak.
        try FileManager.default.removeItem(atPath: saved)
    }

    // MARK: Checks

    private func check(_ number: Int, _ seed: UInt64, _ plan: RoundPlan, since old: UInt32) throws {
        guard let scene else { return }
        let (hosts, history, leader) = (scene.hosts, scene.history, scene.leader)
        guard let end = try hosts.field(leader, "lsn").flatMap({ LSN($0) }) else {
            throw NeverHappened(what: "\(leader) says where its log ends", errors: "")
        }
        let followers = FailoverHosts.nodeNames.filter { $0 != leader }
        for name in followers {
            try waitUntil("\(name) has applied \(end)", seconds: 60) { hosts.hasApplied(name, end) }
        }
        let current = try timeline(of: leader)
        let attempts = history.attempts
        let check = RoundCheck(
            attempts: attempts, history: try hosts.timelineHistory(current),
            dumps: try ([leader] + followers).map { ($0, try hosts.dump($0)) },
            minimumFollowers: settings.minimumFollowers, reported: scene.reported,
            received: scene.received)
        var result = check.run(scene.kept)
        result.failures += history.takeFailures()
        for attempt in attempts where attempt.isAcknowledgedWrite {
            guard let timeline = attempt.timeline else { continue }
            let known = self.scene?.nodeOf[timeline] ?? attempt.node
            self.scene?.nodeOf[timeline] = known
            if known != attempt.node {
                result.failures.append("\(known) and \(attempt.node) have acknowledged writes on timeline \(timeline)")
            }
        }
        self.scene?.kept.merge(result.kept) { $1 }
        let gaps = gaps(history, from: old, to: current)
        report.unavailableSeconds += gaps
        report.failovers += gaps.count
        let acknowledged = attempts.count { $0.isAcknowledgedWrite }
        let unknown = attempts.count { $0.isWrite && $0.outcome == nil }
        report.acknowledged += acknowledged
        report.unknown += unknown
        report.lost += result.lost.count
        report.earlyReads += result.earlyReads
        report.keysReadLate += result.keysReadLate
        let early = result.earlyReads == 0 ? "" : ", \(result.earlyReads) early reads"
        let late = result.keysReadLate == 0 ? "" : ", \(result.keysReadLate) keys read late"
        let lost = settings.minimumFollowers > 0 ? "" : ", \(result.lost.count) lost and told"
        say(
            "round \(number + 1) seed \(seed): \(plan): timeline \(old) to \(current) on \(leader), "
                + gaps.map { String(format: "%.1f s", $0) }.joined(separator: " and ")
                + " without; \(acknowledged) acknowledged, \(unknown) unknown\(lost)\(early)\(late)")
        if !result.failures.isEmpty { fail(number, seed, plan, Array(result.failures.prefix(10))) }
    }

    /// Seconds without an acknowledgement between the timelines that have any.
    private func gaps(_ history: SoakHistory, from old: UInt32, to current: UInt32) -> [Double] {
        var gaps: [Double] = []
        var last = history.lastAcknowledged(old)
        guard old < current else { return [] }
        for timeline in old + 1...current {
            guard let first = history.firstAcknowledged(timeline) else { continue }
            if let last { gaps.append(Double(first > last ? first - last : 0) / 1e9) }
            last = history.lastAcknowledged(timeline)
        }
        return gaps
    }
}
