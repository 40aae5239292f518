import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL

/// How a node comes back that has gone another way than the newest timeline: by a rewind, or as a new copy.
extension ClusterRun {
    /// A leader of an older timeline, a node that is refused, or one whose rewind was cut off.
    func mustRejoin(_ node: ClusterNode) throws -> Bool {
        if node.index == claimant { return false }
        if node.isRewinding { return true }
        guard let engine = node.engine else { return try awaitsLostLog(node) }
        guard engine.isFollower else { return engine.timelineToken != current }
        guard let positions = engine.logFollower?.positions else { return false }
        return try !model.contains(positions.flushed, of: engine.timelineToken, along: current)
    }

    /// A node that was rewound to a leader which is lost too: its pages need log that lies on no timeline any more.
    private func awaitsLostLog(_ node: ClusterNode) throws -> Bool {
        guard let awaited = node.awaited else { return false }
        return try !model.contains(awaited.lsn, of: awaited.token, along: current)
    }

    func rejoin(_ node: ClusterNode) throws {
        guard try mustRejoin(node) || node.index != claimant && random.chance(10), let leader = currentLeader else {
            return
        }
        end(node)
        if try !awaitsLostLog(node) || node.isRewinding, node.isRewinding || random.chance(75) {
            if try rewind(node, leader) { return }
            if node.isRewinding, random.chance(60) { return }
        }
        try replace(node)
    }

    /// The process ends: in order, by a kill, or by a power loss.
    private func end(_ node: ClusterNode) {
        guard let engine = node.engine else { return }
        if node.isUp, random.chance(40) {
            if !engine.isFollower, let token = node.token {
                do {
                    try engine.close()
                    model.madeDurable(token, to: engine.durableLSN)
                } catch {}
            }
        }
        afterCrash(node)
    }

    /// - Returns: whether the directory is a follower's now, or the attempt was cut off and is to be repeated.
    private func rewind(_ node: ClusterNode, _ leader: ClusterNode) throws -> Bool {
        node.activity = "rewind"
        let order = RewindOrder<SimulatedDisk>(
            command: "holdfast rewind --data /simulated", signal: signal(node.index)
        ) { [unowned self, unowned node] name, isMade in
            if let known = node.saved[name] { return known }
            guard isMade else { return nil }
            let made = SimulatedDisk(seed: random.next())
            node.saved[name] = made
            return made
        }
        let source = NodeRewindSource(leader, of: node, self)
        if random.chance(40) { node.disk.failPower(atCall: node.disk.calls + random.number(1...90)) }
        let isUnchanged: Bool
        do {
            let result = try Rewind(node.disk, order, from: source, archive: archive).run()
            isUnchanged = result.saved == nil
            tell("\(node.name) is rewound to \(result.fork.lsn), and whole from \(result.consistent.lsn) on")
        } catch {
            source.abandon()
            tell("the rewind of \(node.name) ends: \(error)")
            if let violation { throw violation }
            if error is Violation { throw error }
            let isCut = node.disk.isPowerLost
            // From its mark on only the same command goes on; before it nothing has changed.
            node.isRewinding = isCut || node.isRewinding || !leader.isUp || archive.isAway
            if isCut { afterCrash(node) }
            if !node.isRewinding, let refusal = error as? RewindError, case .aheadOfLeader = refusal {
                throw Violation("\(node.name): \(refusal)")
            }
            return isCut
        }
        count { $0.rewinds += 1 }
        node.isRewinding = false
        if !isUnchanged { node.confirmed = nil }
        if node.disk.isPowerLost { afterCrash(node) } else { node.disk.failPower(atCall: nil) }
        if random.chance(50) { try open(node) }
        return true
    }

    /// A new copy, of the newest backup that the archive can complete, or of any other.
    private func replace(_ node: ClusterNode) throws {
        let usable = try backups.filter { try isUsable($0) }
        guard let backup = random.chance(50) ? usable.last : usable.randomElement(using: &random) else { return }
        node.disk.observe(nil)
        node.disk.interleave(nil)
        node.disk = try makeFollower(of: backup, node.index)
        node.saved = [:]
        node.awaited = nil
        tell("\(node.name) is made anew of the backup from \(backup.start.startLSN) to \(backup.stop.stopLSN)")
        node.isRewinding = false
        if let confirmed = node.confirmed {
            // What only this node had confirmed no follower has any more.
            let others = nodes.filter { $0 !== node && $0.confirmed?.token == confirmed.token }
            let rest = others.compactMap { $0.confirmed?.lsn }.max() ?? .zero
            promised = min(promised, rest)
        } else {
            promised = .zero
        }
        node.confirmed = nil
        count { $0.newCopies += 1 }
        observe(node)
        try open(node)
    }
}

/// The pages of a rewind from a running leader, inside a backup of its, while the leader goes on.
final class NodeRewindSource: RewindSource {
    private let node: ClusterNode
    private let rewound: ClusterNode
    private unowned let run: ClusterRun
    private var backup: BackupStart?

    init(_ node: ClusterNode, of rewound: ClusterNode, _ run: ClusterRun) {
        self.node = node
        self.rewound = rewound
        self.run = run
    }

    var name: String { node.name }

    private func leader() throws -> Engine {
        guard let engine = node.leader else { throw EngineError.closed }
        return engine
    }

    func identify() throws -> RewindPeer {
        let engine = try leader()
        return RewindPeer(
            system: run.system, history: try engine.timelineHistory(), durable: engine.durableLSN)
    }

    func begin(fork: LSN) throws -> ControlData.Position? {
        backup = try leader().beginBackup(label: "rewind", fast: true)
        return nil
    }

    func read(_ runs: [PageRun], _ body: (PageNumber, UnsafeRawBufferPointer) throws -> Void) throws {
        guard let backup else { throw EngineError.closed }
        for pages in runs {
            let engine = try leader()
            let held = Int(try engine.backupFiles(backup.token).reduce(0) { $0 + $1.bytes }) / Page.bytes
            var bytes = [UInt8](repeating: 0, count: pages.count * Page.bytes)
            let there = min(pages.count, max(0, held - Int(pages.first.rawValue)))
            try bytes.withUnsafeMutableBytes { try engine.readPages(from: pages.first, count: there, into: $0) }
            try bytes.withUnsafeBytes { try body(pages.first, $0) }
            if run.random.chance(30) { try run.transact(node, flushing: true) }
        }
    }

    func end() throws -> ControlData.Position {
        guard let backup else { throw EngineError.closed }
        let stop = try leader().endBackup(backup.token)
        if let token = node.token { rewound.awaited = (token, stop.stopLSN) }
        return .init(timeline: stop.timeline, lsn: stop.stopLSN)
    }

    func abandon() {
        if let backup { node.engine?.abandonBackup(backup.token) }
    }
}
