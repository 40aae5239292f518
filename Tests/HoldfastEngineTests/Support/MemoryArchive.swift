import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Synchronization

@testable import HoldfastEngine

/// A repository's log in memory, and the timelines that were claimed in it.
final class MemoryArchive: RecoverySource, Sendable {
    struct ClaimLost: Error {}

    let segments: [SegmentName: [UInt8]]
    private let histories: Mutex<[TimelineID: [UInt8]]>
    private let own = Mutex<[TimelineID]>([])
    private let rivals: Mutex<Int>

    /// - Parameter rivals: how many nodes claim a timeline between the moment in which this one chose it and its claim.
    init(segments: [SegmentName: [UInt8]], rivals: Int = 0) {
        self.segments = segments
        histories = Mutex([:])
        self.rivals = Mutex(rivals)
    }

    /// The same log without what lies at or behind `segment`, if one is given, and nobody's claims.
    func copy(below segment: SegmentNumber? = nil, rivals: Int = 0) -> MemoryArchive {
        MemoryArchive(
            segments: segments.filter { name, _ in segment.map { name.segment < $0 } ?? true }, rivals: rivals)
    }

    /// Timelines that this node claimed.
    var claims: [TimelineID] { own.withLock { $0 } }

    func segment(_ name: SegmentName, reusing spent: SegmentBuffer?) -> SegmentBuffer? {
        // Whoever looks at what it gave back must meet something else.
        spent?.fill(SegmentNumber.bytes) { $0.initializeMemory(as: UInt8.self, repeating: 0xA5) }
        guard let bytes = segments[name] else { return nil }
        let segment = spent ?? SegmentBuffer()
        segment.fill(bytes.count) { target in bytes.withUnsafeBytes { target.copyMemory(from: $0) } }
        return segment
    }
    func holdsLater(than name: SegmentName) -> Bool { segments.keys.contains { $0.segment > name.segment } }
    func history(_ timeline: TimelineID) -> [UInt8]? { histories.withLock { $0[timeline] } }
    func willReplay(_ timelines: [(timeline: TimelineID, from: LSN)]) {}
    func timelineToClaim(own: [TimelineID], isForced: Bool) -> TimelineID {
        let highest = max(own.max() ?? .first, histories.withLock { $0.keys.max() } ?? .first)
        return TimelineID(highest.rawValue + 1)
    }

    func claim(_ timeline: TimelineID, history: [UInt8]) throws {
        let isLate = rivals.withLock { rivals in
            rivals -= 1
            return rivals >= 0
        }
        try histories.withLock { histories in
            if isLate { histories[timeline] = bytes("another's") }
            if let known = histories[timeline] {
                guard known == history else { throw ClaimLost() }
                return
            }
            histories[timeline] = history
            own.withLock { $0.append(timeline) }
        }
    }

    func replayEnded() {}
}

/// What a restore leaves for the engine, with the archive that it is to replay.
struct RestoredNode {
    let disk: SimulatedDisk
    let archive: MemoryArchive
    /// The state at `target`, which lies between other commits inside a segment.
    let expected: EngineModel
    let target: LSN
    let lastTransaction: TransactionID
    /// The state at the archive's end, and at the end of each segment that ends behind the backup.
    let last: EngineModel
    let atSwitch: [SegmentNumber: EngineModel]

    /// Pages enough that a replay in the smallest cache must write some before it has ended.
    init(seed: UInt64, target: RecoveryTarget? = nil, action: TargetAction = .promote) throws {
        let leader = try CrashTests.initialized(seed: seed)
        var options = quietOptions()
        options.archiving = true
        let engine = try Engine(opening: leader, options: options)
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        var model = EngineModel()
        func write(_ count: Int, keys: Range<Int>) throws {
            for _ in 0..<count {
                try engine.write { transaction in
                    try model.change(transaction, &random, keys: 300)
                    for _ in 0..<4 {
                        let key = EngineModel.key(Int.random(in: keys, using: &random))
                        let value = [UInt8](repeating: UInt8.random(in: 0...255, using: &random), count: 5000)
                        try transaction.put("large", key, value)
                        model.trees["large", default: [:]][key] = value
                    }
                }
            }
        }
        try write(8, keys: 0..<60)
        let backup = try engine.beginBackup(label: "test", fast: true)
        let files = try engine.backupFiles(backup.token)
        // Written while it is copied: some of it reaches the copy.
        try write(4, keys: 0..<60)
        try engine.checkpoint()
        let copied = leader.contents()
        let stop = try engine.endBackup(backup.token)
        var atSwitch: [SegmentNumber: EngineModel] = [:]
        func finishSegment() throws { atSwitch[SegmentNumber(containing: try engine.switchWAL())] = model }
        try write(16, keys: 40..<150)
        try finishSegment()
        try write(10, keys: 100..<250)
        expected = model
        self.target = engine.publishedLSN
        lastTransaction = engine.status.lastTransaction
        try write(10, keys: 200..<280)
        try finishSegment()
        try write(4, keys: 0..<280)
        try finishSegment()
        last = model
        self.atSwitch = atSwitch
        let control = engine.storage.control
        let end = engine.durableLSN
        engine.abandon()

        var segments: [SegmentName: [UInt8]] = [:]
        for (path, bytes) in leader.contents() where path.hasPrefix("wal/") {
            guard let name = SegmentName(path.dropFirst(4)), name.segment.end <= end else { continue }
            segments[name] = bytes
        }
        archive = MemoryArchive(segments: segments)
        disk = SimulatedDisk(seed: seed)
        let position = ControlData.Position(timeline: .first, lsn: stop.stopLSN)
        var recovering = ControlData(
            state: .recovering, system: control.system, timeline: .first, token: control.token,
            redo: backup.startLSN, redoChain: nil)
        recovering.isArchiving = true
        recovering.demand = .init(timeline: .first, start: backup.startLSN, stop: stop.stopLSN)
        recovering.minimumRecoveryPoint = position
        let signal = RecoverySignal(
            cluster: "main", backup: "20261123T021500Z-full", hold: "restore-1", target: target ?? .lsn(self.target),
            isInclusive: true, timeline: .number(.first), action: action, usesArchive: true, isForced: true)
        try Self.make(
            disk, control: recovering, [BackupLabel.path: stop.label, RecoverySignal.fileName: signal.encoded],
            pages: files.map { ($0.path, Array(copied[$0.path]!.prefix(Int($0.bytes)))) })
    }

    /// As `RestoreJob` leaves it: everything durable.
    private static func make(
        _ disk: SimulatedDisk, control: ControlData, _ files: [String: [UInt8]], pages: [(path: String, bytes: [UInt8])]
    ) throws {
        for directory in TrustedDirectory<SimulatedDisk>.directories { try disk.createDirectory(directory) }
        for (path, bytes) in pages {
            let file = try disk.open(path, .create)
            try file.write(bytes: bytes, at: 0)
            try file.sync()
        }
        for (path, bytes) in files { try disk.replaceAtomically(path, with: bytes) }
        for directory in TrustedDirectory<SimulatedDisk>.directories + [""] { try disk.syncDirectory(directory) }
        try ControlFile.create(on: disk, control).close()
    }
}
