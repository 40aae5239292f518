import Foundation
import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import Synchronization

/// How hard, and for how long.
public struct StressSettings: Sendable {
    public var seconds = 10.0
    public var seed: UInt64 = 1
    public var groups = 24
    public var keys = 96
    public var writers = 2
    public var readers = 3
    /// Far less than the records need, so that pages come and go.
    public var cacheBytes = 1 << 20
    /// Little, so that old snapshots lose their versions.
    public var versionBytes = 2 << 20
    public init() {}
}

/// What was done, and what was wrong.
public struct StressReport: Sendable {
    public var transactions = 0
    public var rollbacks = 0
    public var snapshots = 0
    /// Whole groups read and checked.
    public var reads = 0
    /// Of those, on a state that a later transaction had already replaced.
    public var oldReads = 0
    /// Reads refused since their versions had to go.
    public var tooOld = 0
    public var checkpoints = 0
    public var backups = 0
    public var backupPages = 0
    public var violations: [String] = []
    public init() {}
}

/// Writers, readers on old and new snapshots, checkpoints and backups, all at once on a real directory. Every read is checked
/// against the version it pinned: a group is as one transaction left it, as it was when the snapshot first read it, not older
/// than what had been published before the snapshot was taken, and nothing is of a transaction that was rolled back.
public final class StressRun: Sendable {
    let settings: StressSettings
    let records: StressRecords
    let engine: Engine
    private let disk: RealDisk
    private let report = Mutex(StressReport())
    private let deadline: ContinuousClock.Instant
    private let mustStop = Atomic(false)
    /// Of each group, the last number known to be published. Whoever takes a snapshot after reading it must see at
    /// least that.
    let published: [PublishedNumber]

    /// A number that only rises.
    final class PublishedNumber: Sendable {
        private let number = Atomic<UInt64>(0)
        var value: UInt64 { number.load(ordering: .acquiring) }
        func raise(to new: UInt64) { number.max(new, ordering: .acquiringAndReleasing) }
    }

    /// Makes a data directory in `path`, which must be empty.
    public init(_ settings: StressSettings, in path: String) throws {
        self.settings = settings
        records = StressRecords(groups: settings.groups, keys: settings.keys)
        published = (0..<settings.groups).map { _ in PublishedNumber() }
        disk = try RealDisk(root: path)
        try Engine.initialize(disk)
        engine = try Engine(opening: disk, options: Self.options(settings))
        deadline = .now + .seconds(settings.seconds)
    }

    private static func options(_ settings: StressSettings) -> EngineOptions {
        EngineOptions(
            cacheBytes: settings.cacheBytes, versionBytes: settings.versionBytes, checkpointWALBytes: 8 << 20)
    }

    var goesOn: Bool { !mustStop.load(ordering: .relaxed) && .now < deadline }

    func count(_ change: (inout StressReport) -> Void) { report.withLock { change(&$0) } }

    /// Runs until the time is over or something was wrong, closes the engine, and looks at everything once more after a
    /// new start.
    public func run() throws -> StressReport {
        let group = DispatchGroup()
        func start(
            _ name: String, _ index: Int, _ body: @escaping @Sendable (StressRun, inout SeededGenerator) throws -> Void
        ) {
            let seeded = SeededGenerator(seed: settings.seed &+ UInt64(index) &* 1_000_003)
            group.enter()
            Thread.detachNewThread { [self] in
                defer { group.leave() }
                var random = seeded
                do { try body(self, &random) } catch {
                    count { $0.violations.append("\(name): \(error)") }
                    mustStop.store(true, ordering: .relaxed)
                }
            }
        }
        for index in 0..<settings.writers { start("writer", index) { try $0.write(&$1) } }
        for index in 0..<settings.readers { start("reader", 100 + index) { try $0.readOld(&$1) } }
        start("newest reader", 200) { try $0.readNewest(&$1) }
        start("checkpoints", 300) { try $0.takeCheckpoints(&$1) }
        start("backups", 400) { try $0.takeBackups(&$1) }
        group.wait()
        try engine.read { try checkEnd($0) }
        try engine.close()
        let again = try Engine(opening: disk, options: Self.options(settings))
        try again.read { try checkEnd($0) }
        try again.close()
        return report.withLock { $0 }
    }

    /// When nobody writes any more, every group is of the transaction that was published last.
    private func checkEnd(_ snapshot: borrowing Snapshot) throws {
        for group in 0..<settings.groups {
            let number = try records.read(group, .ascending, in: snapshot)
            if number != published[group].value {
                let text = "at the end: group \(group) is of \(number), and \(published[group].value) was published"
                count { $0.violations.append(text) }
            }
        }
    }
}
