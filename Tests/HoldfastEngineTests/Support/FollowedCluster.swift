import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Synchronization

@testable import HoldfastEngine

/// A repository that grows: the segments that leaders archived, and the timelines that were claimed.
final class GrowingArchive: FollowerSource, Sendable {
    struct ClaimLost: Error {}

    struct Content {
        fileprivate var segments: [SegmentName: [UInt8]] = [:]
        fileprivate var histories: [TimelineID: [UInt8]] = [:]

        func claiming(as later: Content) -> Content {
            var content = self
            content.histories = later.histories
            return content
        }
    }
    private struct State {
        var content = Content()
        /// What is answered instead.
        var past: Content?
        var shown: Content { past ?? content }
        var isAway = false
        var requests = 0
        var failing: Int?

        /// Every question to the archive begins with this.
        mutating func asked() throws {
            requests += 1
            if isAway || requests == failing { throw Away() }
        }
        /// So many claims are written, and the caller hears nothing.
        var lostAnswers = 0
    }
    struct Away: Error {}
    private let state = Mutex(State())

    func add(_ name: SegmentName, _ bytes: [UInt8]) {
        state.withLock { state in
            let known = state.content.segments[name]
            precondition(known == nil || known == bytes, "\(name) with other bytes")
            state.content.segments[name] = bytes
        }
    }
    func loseAnswers(_ count: Int) { state.withLock { $0.lostAnswers = count } }
    func remove(_ name: SegmentName) { state.withLock { $0.content.segments[name] = nil } }
    func setAway(_ isAway: Bool) { state.withLock { $0.isAway = isAway } }
    /// What it holds now.
    var content: Content { state.withLock { $0.content } }
    /// From here on it answers as it did then; `nil`: as it is. What is added counts, and is not seen.
    func answer(as past: Content?) { state.withLock { $0.past = past } }
    /// How often it was asked.
    var requests: Int { state.withLock { $0.requests } }
    /// Of the requests from here on one fails: that of this number, from 1.
    func fail(request number: Int) { state.withLock { $0.failing = $0.requests + number } }
    var names: Set<SegmentName> { state.withLock { Set($0.content.segments.keys) } }
    var claims: [TimelineID] { state.withLock { $0.content.histories.keys.sorted() } }

    func segment(_ name: SegmentName, reusing spent: SegmentBuffer?) throws -> SegmentBuffer? {
        // Whoever looks at what it gave back must meet something else.
        spent?.fill(SegmentNumber.bytes) { $0.initializeMemory(as: UInt8.self, repeating: 0xA5) }
        return try state.withLock { state in
            try state.asked()
            return state.shown.segments[name].map { SegmentBuffer($0) }
        }
    }
    func holdsLater(than name: SegmentName) -> Bool { false }
    func history(_ timeline: TimelineID) -> [UInt8]? { state.withLock { $0.shown.histories[timeline] } }
    func willReplay(_ timelines: [(timeline: TimelineID, from: LSN)]) {}
    func timelineToClaim(own: [TimelineID], isForced: Bool) throws -> TimelineID {
        try state.withLock { state in
            try state.asked()
            if !isForced, let foreign = state.content.histories.keys.max(), foreign > own.max() ?? .init(0) {
                throw Unexpected("timeline \(foreign) is another's")
            }
            let highest = max(own.max() ?? .first, state.content.histories.keys.max() ?? .first)
            return TimelineID(highest.rawValue + 1)
        }
    }
    func claim(_ timeline: TimelineID, history: [UInt8]) throws {
        try state.withLock { state in
            try state.asked()
            if let known = state.content.histories[timeline] {
                guard known == history else { throw ClaimLost() }
                return
            }
            state.content.histories[timeline] = history
            if state.lostAnswers > 0 {
                state.lostAnswers -= 1
                throw Away()
            }
        }
    }
    func replayEnded() {}
    func isRefusal(_ error: any Error) -> Bool { !(error is Away) }
    func requireUnused(_ timeline: TimelineID) throws {
        guard !names.contains(where: { $0.timeline == timeline }) else { throw Unexpected("\(timeline) has log") }
    }
    func histories(above timeline: TimelineID) throws -> [[UInt8]] {
        try state.withLock { state in
            try state.asked()
            return state.shown.histories.filter { $0.key > timeline }.sorted { $0.key > $1.key }.map(\.value)
        }
    }
}

/// What a backup is made of.
struct BackupCopy {
    var start: BackupStart
    var stop: BackupStop
    var pages: [(path: String, bytes: [UInt8])]
}

/// A leader on a simulated disk, what it archived, and what it held after each commit.
final class FollowedCluster {
    let archive = GrowingArchive()
    let disk: SimulatedDisk
    let engine: Engine
    private(set) var model = EngineModel()
    /// The state at each LSN that is a commit's end.
    private(set) var states: [LSN: EngineModel] = [:]
    private var random: HoldfastTestSupport.SeededGenerator
    let backup: BackupCopy

    init(seed: UInt64) throws {
        disk = try CrashTests.initialized(seed: seed)
        var options = quietOptions()
        options.archiving = true
        engine = try Engine(opening: disk, options: options)
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        var model = EngineModel()
        for _ in 0..<6 { try engine.write { try model.change($0, &random, keys: 300) } }
        let start = try engine.beginBackup(label: "test", fast: true)
        let files = try engine.backupFiles(start.token)
        for _ in 0..<3 { try engine.write { try model.change($0, &random, keys: 300) } }
        try engine.checkpoint()
        let copied = disk.contents()
        let stop = try engine.endBackup(start.token)
        backup = BackupCopy(
            start: start, stop: stop,
            pages: files.map { ($0.path, Array(copied[$0.path]!.prefix(Int($0.bytes)))) })
        self.model = model
        self.random = random
        states[engine.publishedLSN] = model
        archiveAll()
    }

    func write(_ count: Int = 1) throws {
        for _ in 0..<count {
            try engine.write { try model.change($0, &random, keys: 300) }
            states[engine.publishedLSN] = model
        }
    }

    /// The whole segments that are there go to the archive.
    func archiveAll() { archiveAll(of: engine, disk) }

    /// The same of another node: those of its own timeline.
    func archiveAll(of engine: Engine, _ disk: SimulatedDisk) {
        for (path, bytes) in disk.contents() where path.hasPrefix("wal/") {
            guard let name = SegmentName(path.dropFirst(4)), name.segment.end <= engine.durableLSN,
                name.timeline == engine.status.timeline
            else { continue }
            archive.add(name, bytes)
        }
    }

    /// What `restore --follow` leaves, of this backup or the leader's first; or with a target `restore` without it.
    func restored(
        seed: UInt64, node: String = "b", from copy: BackupCopy? = nil, target: RecoveryTarget? = nil
    ) throws -> SimulatedDisk {
        let backup = copy ?? backup
        let timeline = backup.start.timeline
        let follower = SimulatedDisk(seed: seed)
        var recovering = ControlData(
            state: .recovering, system: backup.start.systemIdentifier, timeline: timeline,
            token: backup.start.timelineToken, redo: backup.start.startLSN, redoChain: nil)
        recovering.isArchiving = true
        recovering.demand = .init(timeline: timeline, start: backup.start.startLSN, stop: backup.stop.stopLSN)
        recovering.minimumRecoveryPoint = .init(timeline: timeline, lsn: backup.stop.stopLSN)
        let id = "20261123T021500Z-full"
        let signal: (name: String, bytes: [UInt8])
        if let target {
            signal = (
                RecoverySignal.fileName,
                RecoverySignal(
                    cluster: "main", backup: id, hold: "restore-1", target: target, isInclusive: true,
                    timeline: .number(timeline), action: .pause, usesArchive: true, isForced: true
                ).encoded
            )
        } else {
            signal = (
                StandbySignal.fileName,
                StandbySignal(
                    cluster: "main", backup: id, hold: "restore-1", follow: ["unix:/none"], node: node, slot: nil
                ).encoded
            )
        }
        for directory in TrustedDirectory<SimulatedDisk>.directories { try follower.createDirectory(directory) }
        for (path, bytes) in backup.pages {
            let file = try follower.open(path, .create)
            try file.write(bytes: bytes, at: 0)
            try file.sync()
        }
        try follower.replaceAtomically(BackupLabel.path, with: backup.stop.label)
        try follower.replaceAtomically(signal.name, with: signal.bytes)
        for directory in TrustedDirectory<SimulatedDisk>.directories + [""] { try follower.syncDirectory(directory) }
        try ControlFile.create(on: follower, recovering).close()
        return follower
    }

    /// Opens a follower. `isTight`: with so little memory that replay must write pages to go on.
    func open(
        _ disk: SimulatedDisk, cachePages: Int = 256, isTight: Bool = false, instance: String = ""
    ) throws -> Engine {
        var options = quietOptions(cachePages: cachePages)
        options.instance = instance
        if isTight {
            options.versionBytes = 16 * Page.bytes
            options.transactionBytes = 160 * Page.bytes
        }
        options.archiving = true
        options.recovery = archive
        return try Engine(opening: disk, options: options)
    }
}

/// The bytes of a node's log, as its sender would read them.
func logBytes(of engine: Engine, on disk: SimulatedDisk, from lsn: LSN, atMost limit: Int) throws -> [UInt8]? {
    let history = try RecoveryPlan.history(disk, engine.storage.control)
    let segment = SegmentNumber(containing: lsn)
    let end = min(min(engine.durableLSN, segment.end), lsn + limit)
    guard end > lsn else { return nil }
    let name = SegmentName(timeline: history.timeline(ofFile: segment), segment: segment)
    let from = Int(lsn.rawValue % UInt64(SegmentNumber.bytes))
    return disk.peek(name.walPath, from..<from + Int(end - lsn))
}

extension Engine {
    /// Streams the log of `leader` to this follower, in pieces of random size, as far as it is durable now.
    /// - Returns: whether a stream could begin.
    @discardableResult
    func stream(
        from leader: Engine, _ disk: SimulatedDisk, _ random: inout HoldfastTestSupport.SeededGenerator,
        damage: (inout [UInt8]) -> Void = { _ in }
    ) throws -> Bool {
        guard let follower = logFollower, let request = try follower.beginStream() else { return false }
        defer { follower.endStream(nil) }
        follower.leaderIs(at: leader.durableLSN, clock: 0, archived: leader.durableLSN, address: "leader")
        // As a sender: what is asked for is one timeline's log, and at its end the follower is told how it went on.
        let history = try RecoveryPlan.history(disk, leader.storage.control)
        guard history.entry(request.timeline)?.token == request.token else { throw Unexpected("another's timeline") }
        let end = history.end(of: request.timeline).map(LogLayout.canonical) ?? .max
        var at = request.position
        while at < end,
            var bytes = try logBytes(
                of: leader, on: disk, from: at,
                atMost: min(Int.random(in: 1...200_000, using: &random), Int(clamping: end.rawValue - at.rawValue)))
        {
            let count = bytes.count
            damage(&bytes)
            try bytes.withUnsafeBytes { try follower.receive($0, at: at) }
            at = at + count
            if Int.random(in: 0..<3, using: &random) == 0 { try follower.flush() }
        }
        if at >= end, let ended = history.end(of: request.timeline) {
            try follower.timelineEnded(at: ended, history: history.encoded())
        }
        try follower.flush()
        return true
    }

    /// The same, as soon as a stream can begin. Throws where none will: the engine has stopped, replay has given up, or it
    /// takes for ever.
    func streamSoon(
        from leader: Engine, _ disk: SimulatedDisk, _ random: inout HoldfastTestSupport.SeededGenerator,
        damage: (inout [UInt8]) -> Void = { _ in }
    ) throws {
        for _ in 0..<30_000 {
            if try stream(from: leader, disk, &random, damage: damage) { return }
            if let why = failure.reason { throw Unexpected(why) }
            if let problem = status.follower?.problem, problem.hasPrefix("replay cannot go on") {
                throw Unexpected(problem)
            }
            usleep(1000)
        }
        throw Unexpected("no stream begins: \(status)")
    }

    /// Waits until the follower has shown everything below `lsn`.
    func waitApplied(_ lsn: LSN, seconds: Double = 20) -> Bool {
        let deadline = Date() + seconds
        while publishedLSN < lsn {
            guard Date() < deadline, let follower = logFollower else { return false }
            follower.waitApplied(beyond: LSN(lsn.rawValue - 1), milliseconds: 20)
        }
        // Readers see it a moment before the follower says so, and before a restartpoint may use it.
        while let follower = logFollower, follower.positions.applied < lsn {
            guard Date() < deadline else { return false }
            usleep(100)
        }
        return true
    }
}
