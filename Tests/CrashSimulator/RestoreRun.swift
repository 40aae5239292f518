import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL
import Synchronization

/// Restores a backup, replays the archive to a target and promotes, with the power failing at any call; then what was
/// acknowledged on the new timeline survives one more power loss.
struct RestoreRun {
    let backup: Backup
    let archive: Archive
    let history: History
    let settings: Settings
    var random: SeededGenerator
    var counts = Counts()
    /// Where it is, for messages.
    private(set) var crashPoint: String?

    init(backup: Backup, archive: Archive, history: History, settings: Settings, random: SeededGenerator) {
        self.backup = backup
        self.archive = archive
        self.history = history
        self.settings = settings
        self.random = random
    }

    mutating func run(crashPoints: Int) throws {
        let (target, expected) = choose()
        crashPoint = "a restore to \(target)"
        let node = try makeNode(target)
        let trial = node.afterKill(seed: random.next())
        counts.recoveries += 1
        let writes = Mutex<[Int]>([])
        trial.observe { call in
            if call.kind == .write || call.kind == .sync { writes.withLock { $0.append(call.number) } }
        }
        try check(trial, archive.copy(), state: expected)
        let calls = trial.calls, ofWrites = writes.withLock { $0 }
        for _ in 0..<crashPoints {
            counts.crashPoints += 1
            let archive = self.archive.copy()
            var disk = node.afterKill(seed: random.next())
            for attempt in 0..<random.number(1...2) {
                if attempt > 0 { counts.secondCrashes += 1 }
                // Behind a write and its sync there is most to lose.
                let call =
                    random.chance(50) ? random.number(1...calls) : ofWrites[random.number(0...ofWrites.count - 1)] + 1
                crashPoint = "call \(call) of a restore to \(target)"
                disk = try cutOff(disk, archive, at: call)
            }
            counts.recoveries += 1
            // The archive may have lost its end meanwhile: refused, or right for what is left.
            if target == .latest, random.chance(50) {
                try checkShortened(disk)
            } else {
                try check(disk, archive, state: expected)
            }
        }
    }

    private mutating func choose() -> (RecoveryTarget, Int) {
        switch random.number(0...2) {
        case 0: return (.latest, history.last)
        case 1: return (.immediate, history.index(at: backup.stop))
        default:
            let index = random.number(history.index(at: backup.stop)...history.last)
            let lsn = max(history.ends[index], backup.stop)
            return (.lsn(lsn), history.index(at: lsn))
        }
    }

    /// As a restore leaves it: everything durable.
    private mutating func makeNode(_ target: RecoveryTarget) throws -> SimulatedDisk {
        let disk = SimulatedDisk(seed: random.next())
        let old = backup.control
        var control = ControlData(
            state: .recovering, system: old.system, timeline: .first, token: old.token, redo: backup.start,
            redoChain: nil)
        control.isArchiving = true
        control.demand = .init(timeline: .first, start: backup.start, stop: backup.stop)
        control.minimumRecoveryPoint = .init(timeline: .first, lsn: backup.stop)
        let signal = RecoverySignal(
            cluster: "main", backup: "20261123T021500Z-full", hold: "restore-1", target: target, isInclusive: true,
            timeline: .number(.first), action: .promote, usesArchive: true, isForced: true)
        let directories = TrustedDirectory<SimulatedDisk>.directories
        for directory in directories { try disk.createDirectory(directory) }
        let file = try disk.open(PageNumber.filePath(0), .create)
        try file.write(bytes: backup.pages, at: 0)
        try file.sync()
        try disk.replaceAtomically(BackupLabel.path, with: backup.label)
        try disk.replaceAtomically(RecoverySignal.fileName, with: signal.encoded)
        for directory in directories + [""] { try disk.syncDirectory(directory) }
        try ControlFile.create(on: disk, control).close()
        return disk
    }

    private func options(_ archive: Archive?, isRoomy: Bool = false) -> EngineOptions {
        var options = settings.options {}
        if !isRoomy {
            // Memory so small that replay writes pages before it has ended.
            options.cacheBytes = Page.bytes
            options.versionBytes = Page.bytes
            options.transactionBytes = Page.bytes
        }
        options.archiving = true
        options.recovery = archive
        return options
    }

    private mutating func cutOff(_ disk: SimulatedDisk, _ archive: Archive, at call: Int) throws -> SimulatedDisk {
        disk.failPower(atCall: call)
        do {
            try Engine(opening: disk, options: options(archive)).abandon()
        } catch {
            guard disk.isPowerLost else { throw Violation("the restored node does not start: \(error)") }
        }
        return disk.restart(seed: random.next())
    }

    /// The node comes to be a leader with this content, and keeps what it acknowledges from then on.
    private mutating func check(
        _ disk: SimulatedDisk, _ archive: Archive, state: Int, isRoomy: Bool = false
    ) throws {
        let engine: Engine
        do { engine = try Engine(opening: disk, options: options(archive, isRoomy: isRoomy)) } catch {
            throw Violation("the restored node does not start: \(error)")
        }
        defer { engine.abandon() }
        let digest: UInt64
        var hasWritten = false
        do {
            try require(engine, history.states[state].digest)
            try engine.write { try $0.put("after", Array("promotion".utf8), [1]) }
            hasWritten = true
            digest = try engine.read { try Model.digest($0) }
        } catch EngineError.memoryExhausted where !isRoomy {
            // Whoever needs more than so little memory is told so, and nothing has happened: the same with more.
            engine.abandon()
            if hasWritten { return }
            return try check(disk.restart(seed: random.next()), archive, state: state, isRoomy: true)
        }
        engine.abandon()
        let after = disk.restart(seed: random.next())
        do {
            let leader = try Engine(opening: after, options: options(nil))
            defer { leader.abandon() }
            try require(leader, digest)
        } catch let error as Violation { throw error } catch {
            throw Violation("the promoted node does not start again: \(error)")
        }
    }

    private mutating func checkShortened(_ disk: SimulatedDisk) throws {
        let first = SegmentNumber(containing: backup.stop).end, last = archive.end
        let segments = (last - first) / SegmentNumber.bytes
        let end = first + random.number(0...segments) * SegmentNumber.bytes
        do {
            try checkShortened(disk, end, isRoomy: false)
        } catch EngineError.memoryExhausted {
            // As in `check`: the same with more memory.
            try checkShortened(disk.restart(seed: random.next()), end, isRoomy: true)
        }
    }

    private func checkShortened(_ disk: SimulatedDisk, _ end: LSN, isRoomy: Bool) throws {
        let engine: Engine
        do {
            engine = try Engine(opening: disk, options: options(archive.copy(below: end), isRoomy: isRoomy))
        } catch { return }
        defer { engine.abandon() }
        // It may have come to its end before the archive lost its own.
        let digest = try engine.read { try Model.digest($0) }
        guard digest == history.states[history.index(at: end)].digest || digest == history.current.digest else {
            throw Violation("the archive has lost its end, and the node shows a state that never was")
        }
        try requireStructure(engine)
    }

    private func require(_ engine: Engine, _ digest: UInt64) throws {
        guard try engine.read({ try Model.digest($0) }) == digest else {
            throw Violation("the restored node shows another state than was asked for")
        }
        try requireStructure(engine)
    }

    private func requireStructure(_ engine: Engine) throws {
        let problems = try engine.structureProblems()
        guard problems.isEmpty else { throw Violation("the structure is damaged: \(problems.prefix(3))") }
    }
}
