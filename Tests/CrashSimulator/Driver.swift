import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL

/// Drives one engine from a seed: transactions, readers, checkpoints, segment switches, a backup, an archiver, all on one
/// thread. While a sync is under way others go on: they commit, read, switch segments (`meanwhile`).
///
/// After each step that fails it knows whether the engine goes on (then nothing has happened) or has stopped for good.
final class Driver: @unchecked Sendable {
    // Sendable: used by one thread; the disk calls back on the thread that called it.
    let disk: SimulatedDisk
    let engine: Engine
    let archive: Archive?
    var history: History
    var random: SeededGenerator
    /// Whether commits are published before they are durable: then what a reader saw may be taken back.
    let isAsynchronous: Bool
    let stopped: Stopped

    /// What a checkpoint left undone is no promise: only these are counted.
    private(set) var transactions = 0
    private(set) var checkpoints = 0
    private(set) var switches = 0
    private(set) var refusals = 0
    /// Broken inside `meanwhile`, which cannot throw.
    private(set) var violation: Violation?

    private var pinned: [(handle: SnapshotHandle, index: Int)] = []
    private var copying: Copying?
    private(set) var backup: Backup?

    private struct Copying {
        var start: BackupStart
        var pages: [UInt8]
        /// Pages not copied yet, eight at a time, in the order in which they will be.
        var left: [Int]
    }

    /// Told by the engine that it may acknowledge nothing any more.
    final class Stopped: @unchecked Sendable {
        // Sendable: used by one thread.
        var isSet = false
    }

    /// Opens the engine on `disk`.
    /// - Parameter history: what the directory may hold; on return of what it does hold.
    init(
        _ disk: SimulatedDisk, _ settings: Settings, archive: Archive?, history: History, random: SeededGenerator
    ) throws {
        self.disk = disk
        self.archive = archive
        self.random = random
        isAsynchronous = settings.isAsynchronous
        let stopped = Stopped()
        self.stopped = stopped
        engine = try Engine(opening: disk, options: settings.options { stopped.isSet = true })
        self.history = history
        do {
            self.history.recovered(try Self.identify(engine, history), end: engine.publishedLSN)
            guard history.archivedEnd <= engine.durableLSN else {
                throw Violation(
                    "the archive has the log up to \(history.archivedEnd), the node up to \(engine.durableLSN)")
            }
        } catch {
            engine.abandon()
            throw error
        }
    }

    static func identify(_ engine: Engine, _ history: History) throws -> Int {
        let digest = try engine.read { try Model.digest($0) }
        return try history.identify(digest)
    }

    // MARK: Steps

    /// One step of the run, whatever the seed says.
    func step() throws {
        switch random.number(0...99) {
        case 0..<40: try transact(flushing: true)
        case 40..<54: try transact(flushing: false)
        case 54..<57: try flush()
        case 57..<60: try attempt { try engine.witness() }
        case 60..<66: try checkpoint()
        case 66..<70: try switchSegment()
        case 70..<73: try attempt { _ = try engine.writePagesOut(atMost: random.number(4...64)) }
        case 73..<75: try attempt { try engine.prepareSegments() }
        case 75: try reclaim()
        case 76: try hurry()
        case 77..<81: try pin()
        case 81..<86: try readPinned()
        case 86..<90: try archiveSome()
        default: try backupStep()
        }
        engine.tidy()
        if let violation { throw violation }
    }

    /// Runs what may fail without harm. An engine that has stopped ends the run by its error.
    private func attempt(_ body: () throws -> Void) throws {
        do { try body() } catch {
            if let violation { throw violation }
            if error is Violation || stopped.isSet || disk.isPowerLost { throw error }
            refusals += 1
        }
    }

    func transact(flushing: Bool) throws {
        try attempt {
            guard let (end, index) = try stage(operations: random.chance(6) ? 60 : random.number(1...10)) else {
                return
            }
            if flushing {
                try engine.flush(through: end)
                history.acknowledge(index)
            } else if isAsynchronous {
                _ = try engine.write(.asynchronous) { _ in }
            }
        }
    }

    /// Commits without waiting for the disk; nothing when another transaction runs.
    private func stage(operations: Int) throws -> (end: LSN, index: Int)? {
        guard let transaction = try engine.tryBeginTransaction() else { return nil }
        var model = history.current
        do {
            for _ in 0..<operations { try model.change(transaction, &random) }
        } catch {
            transaction.rollback()
            throw error
        }
        history.append(model)
        let index = history.last
        let staged: StagedCommit
        do {
            staged = try transaction.stage()
        } catch {
            history.refuse()
            throw error
        }
        history.committed(index, end: staged.end)
        transactions += 1
        return (staged.end, index)
    }

    private func flush() throws {
        try attempt {
            let index = history.last
            try engine.flush(through: engine.appendedLSN)
            history.acknowledge(index)
        }
    }

    func checkpoint() throws {
        try attempt {
            let index = history.last
            try engine.checkpoint()
            checkpoints += 1
            history.acknowledge(index)
        }
    }

    func switchSegment() throws {
        try attempt {
            let index = history.last
            try engine.switchWAL()
            switches += 1
            history.acknowledge(index)
        }
    }

    /// What the checkpointer does in a crowded cache: right behind a checkpoint, pages of the first commit that changes them.
    private func hurry() throws {
        try checkpoint()
        try transact(flushing: true)
        try attempt { _ = try engine.writePagesOut(atMost: 64) }
        // Calls of this moment, without a flush.
        try archiveSome()
        try attempt { try engine.prepareSegments() }
    }

    private func reclaim() throws {
        try attempt {
            guard let transaction = try engine.tryBeginTransaction() else { return }
            do {
                _ = try transaction.reclaimSome(pages: random.number(1...32))
                _ = try transaction.stage()
            } catch {
                transaction.rollback()
                throw error
            }
        }
    }

    // MARK: Readers

    private func pin() throws {
        guard pinned.count < 3 else { return }
        let handle = try engine.makeSnapshot()
        pinned.append((handle, history.index(at: handle.lsn)))
    }

    private func readPinned() throws {
        guard !pinned.isEmpty else { return }
        let at = random.number(0...pinned.count - 1)
        try attempt {
            do {
                let digest = try pinned[at].handle.read { try Model.digest($0) }
                guard digest == history.states[pinned[at].index].digest else {
                    throw Violation("a snapshot of state \(pinned[at].index) shows something else")
                }
            } catch EngineError.snapshotTooOld {
                throw Violation("a snapshot lost its versions although memory was plenty")
            } catch let error as EngineError where error.isDamage {
                throw Violation("a reader meets damage: \(error)")
            }
        }
        if random.chance(50) { pinned.remove(at: at).handle.close() }
    }

    /// A reader of now. What it sees is durable, unless commits are published early.
    private func readPublished() throws {
        try attempt {
            do {
                let (lsn, digest) = try engine.read { ($0.lsn, try Model.digest($0)) }
                let index = history.index(at: lsn)
                guard digest == history.states[index].digest else {
                    throw Violation("a reader of state \(index) sees something else")
                }
                if !isAsynchronous { history.acknowledge(index) }
            } catch let error as EngineError where error.isDamage {
                throw Violation("a reader meets damage: \(error)")
            }
        }
    }

    // MARK: What happens during a sync

    /// Called by the disk before each call. Only a sync of the log or of pages holds no lock that others wait for.
    func meanwhile(_ call: SimulatedDisk.Call) {
        guard call.kind == .sync, !call.path.hasSuffix(".tmp"), violation == nil, !stopped.isSet,
            call.path.hasPrefix("wal/") || call.path.hasPrefix("pages/")
        else { return }
        do {
            switch random.number(0...19) {
            case 0..<7: _ = try stage(operations: random.number(1...6))
            case 7..<9: try readPublished()
            case 9 where call.path.hasPrefix("pages/"): try switchSegment()
            case 10..<13: try archiveSome()
            default: break
            }
        } catch let error as Violation { violation = error } catch {}
    }

    // MARK: Archive and backup

    /// Pushes the segments that are marked, and marks them done, as the agent does.
    func archiveSome() throws {
        guard let archive else { return }
        try attempt {
            for entry in try disk.list("wal/archive_status") where entry.hasSuffix(".ready") {
                guard let name = SegmentName(entry.dropLast(6)) else { continue }
                let bytes = disk.peek(name.walPath, 0..<SegmentNumber.bytes)
                guard bytes.count == SegmentNumber.bytes else {
                    throw Violation("segment \(name) is to be archived and has \(bytes.count) bytes")
                }
                try archive.push(name, bytes)
                history.archivedEnd = archive.end
                try disk.rename(name.readyPath, to: name.donePath)
                try disk.syncDirectory("wal/archive_status")
            }
        }
    }

    private func backupStep() throws {
        guard archive != nil else { return }
        try attempt {
            guard copying != nil else {
                let index = history.last
                let start = try engine.beginBackup(label: "simulated", fast: true)
                history.acknowledge(index)
                let pages = Int(try engine.backupFiles(start.token).reduce(0) { $0 + $1.bytes }) / Page.bytes
                copying = Copying(
                    start: start, pages: [UInt8](repeating: 0, count: pages * Page.bytes),
                    left: Array(0..<(pages + 7) / 8).shuffled(using: &random))
                return
            }
            try copySome()
        }
    }

    /// Copies a part of the pages, in any order; ends the backup behind the last.
    private func copySome() throws {
        guard var copy = copying else { return }
        for _ in 0..<random.number(3...12) {
            guard let group = copy.left.popLast() else { break }
            let from = group * 8 * Page.bytes, to = min(from + 8 * Page.bytes, copy.pages.count)
            copy.pages.replaceSubrange(from..<to, with: disk.peek(PageNumber.filePath(0), from..<to))
        }
        copying = copy
        guard copy.left.isEmpty else { return }
        let control = engine.controlData
        let stop = try engine.endBackup(copy.start.token)
        backup = Backup(
            start: copy.start.startLSN, stop: stop.stopLSN, label: stop.label, control: control, pages: copy.pages)
        copying = nil
    }

    /// Gives up what is held, as the end of the process would.
    func abandon() {
        for entry in pinned { entry.handle.close() }
        pinned = []
        engine.abandon()
    }

    /// An orderly end: a checkpoint, after which nothing needs to be replayed.
    func close() throws {
        for entry in pinned { entry.handle.close() }
        pinned = []
        do {
            let index = history.last
            try engine.close()
            history.acknowledge(index)
        } catch {
            guard stopped.isSet || disk.isPowerLost else { return refusals += 1 }
            throw error
        }
    }
}

extension EngineError {
    /// A page or tree that is not what it should be.
    var isDamage: Bool {
        switch self {
        case .damagedPage, .damagedTree: true
        default: false
        }
    }
}

/// What all engines of a seed have in common.
struct Settings {
    var isArchiving: Bool
    var isAsynchronous: Bool
    var cachePages: Int
    /// Counts instead of telling the time, so that a run can be repeated.
    let clock = Clock()

    final class Clock: @unchecked Sendable {
        // Sendable: used by one thread.
        private var now: Int64 = 1_700_000_000_000_000
        func tick() -> Int64 {
            now += 1000
            return now
        }
    }

    /// - Parameter onStop: the engine has stopped for good.
    func options(onStop: @escaping () -> Void) -> EngineOptions {
        var options = EngineOptions(
            cacheBytes: cachePages * Page.bytes, versionBytes: 1024 * Page.bytes, transactionBytes: 512 * Page.bytes,
            archiving: isArchiving, runsBackgroundWork: false)
        let clock = clock
        options.now = { clock.tick() }
        // The simulator runs an engine on one thread.
        nonisolated(unsafe) let onStop = onStop
        options.onFatal = { _ in onStop() }
        return options
    }
}
