import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL

/// A base backup: pages that were copied one after another while they changed.
struct ClusterBackup {
    var start: BackupStart
    var stop: BackupStop
    var pages: [UInt8]
}

/// One that is being taken, of a leader or a follower.
struct CopyingBackup {
    var node: ClusterNode
    var start: BackupStart
    var pages: [UInt8]
    /// Pages not copied yet, eight at a time, in the order in which they will be.
    var left: [Int]
}

/// Backups, of leaders and of followers, and nodes that are made of them.
extension ClusterRun {
    func backupStep(_ node: ClusterNode) throws {
        guard copying == nil else { return try copySome() }
        try work(node) { try beginBackup(node, $0) }
    }

    func beginBackup(_ node: ClusterNode, _ engine: Engine) throws {
        node.activity = "backup"
        let start = try engine.beginBackup(label: "simulated", fast: true)
        let pages = Int(try engine.backupFiles(start.token).reduce(0) { $0 + $1.bytes }) / Page.bytes
        copying = CopyingBackup(
            node: node, start: start, pages: [UInt8](repeating: 0, count: pages * Page.bytes),
            left: Array(0..<(pages + 7) / 8).shuffled(using: &random))
    }

    /// Copies a part of the pages, in any order; ends the backup behind the last.
    func copySome() throws {
        guard var copy = copying, let engine = copy.node.engine else { return }
        for _ in 0..<random.number(3...12) {
            guard let group = copy.left.popLast() else { break }
            let from = group * 8 * Page.bytes, to = min(from + 8 * Page.bytes, copy.pages.count)
            let bytes = copy.node.disk.peek(PageNumber.filePath(0), from..<to)
            copy.pages.replaceSubrange(from..<from + bytes.count, with: bytes)
        }
        copying = copy
        guard copy.left.isEmpty else { return }
        copying = nil
        try attempt(copy.node) {
            let stop = try engine.endBackup(copy.start.token)
            backups.append(ClusterBackup(start: copy.start, stop: stop, pages: copy.pages))
            count { $0.backups += 1 }
        }
    }

    /// The archive has the log that a backup needs, and it is the one of the node it was taken of: its records say so.
    func isUsable(_ backup: ClusterBackup) throws -> Bool {
        guard try model.contains(backup.stop.stopLSN, of: backup.start.timelineToken, along: current) else {
            return false
        }
        let history = try history(of: backup.start.timelineToken)
        guard archive.end(along: history, from: backup.start.startLSN) >= backup.stop.stopLSN else { return false }
        guard let chain = backup.stop.stopChain else { return true }
        let reader = archive.makeReader(history, system, from: LSN(backup.stop.stopLSN.rawValue - 1))
        let stop = LogLayout.canonical(backup.stop.stopLSN)
        while reader.position < stop, try reader.next() != nil {}
        return reader.position == stop && reader.chain == chain
    }

    /// As the archive has it, to the end of this timeline.
    func history(of token: TimelineToken) throws -> TimelineHistory {
        var entries: [(TimelineToken, ClusterModel.Branch)] = []
        var at: TimelineToken? = token
        while let next = at {
            let branch = try model.branch(next)
            entries.append((next, branch))
            at = branch.parent
        }
        let (first, branch) = entries.removeLast()
        var history = TimelineHistory(first: first, timeline: branch.timeline)
        for (token, branch) in entries.reversed() {
            history = try history.branching(
                .init(timeline: branch.timeline, switchLSN: branch.from, token: token, reason: "simulated"))
        }
        return history
    }

    /// As `restore --follow` leaves it: everything durable.
    func makeFollower(of backup: ClusterBackup, _ index: Int) throws -> SimulatedDisk {
        let disk = SimulatedDisk(seed: random.next())
        let timeline = backup.start.timeline
        var control = ControlData(
            state: .recovering, system: system, timeline: timeline, token: backup.start.timelineToken,
            redo: backup.start.startLSN, redoChain: nil)
        control.isArchiving = true
        control.demand = .init(timeline: timeline, start: backup.start.startLSN, stop: backup.stop.stopLSN)
        control.minimumRecoveryPoint = .init(timeline: timeline, lsn: backup.stop.stopLSN)
        let directories = TrustedDirectory<SimulatedDisk>.directories
        for directory in directories { try disk.createDirectory(directory) }
        let file = try disk.open(PageNumber.filePath(0), .create)
        try file.write(bytes: backup.pages, at: 0)
        try file.sync()
        try disk.replaceAtomically(BackupLabel.path, with: backup.stop.label)
        try disk.replaceAtomically(StandbySignal.fileName, with: signal(index).encoded)
        for directory in directories + [""] { try disk.syncDirectory(directory) }
        try ControlFile.create(on: disk, control).close()
        return disk.afterKill(seed: random.next())
    }

    func signal(_ index: Int) -> StandbySignal {
        StandbySignal(
            cluster: "main", backup: "20261123T021500Z-full", hold: "restore-1", follow: ["unix:/none"],
            node: "node-\(index)", slot: "node-\(index)")
    }
}
