import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("A recovery from an archive may be cut off anywhere and comes to the same state")
struct ArchiveRecoveryTests {
    /// The smallest memory that there is: replay writes pages before it has ended.
    private static func options(_ archive: MemoryArchive?) -> EngineOptions {
        var options = quietOptions(cachePages: 1)
        options.versionBytes = 0
        options.transactionBytes = 0
        options.archiving = true
        options.recovery = archive
        return options
    }

    /// Opens a node, and promotes it if it waits for that.
    private static func promoted(_ disk: SimulatedDisk, _ archive: MemoryArchive) throws -> Engine {
        let engine = try Engine(opening: disk, options: options(archive))
        if engine.pausedAt != nil { try engine.promote() }
        return engine
    }

    /// Runs a recovery in which the power fails at `call`.
    /// - Returns: the disk afterwards, and whether the recovery had ended before.
    private static func cutOff(
        _ disk: SimulatedDisk, _ archive: MemoryArchive, at call: Int, seed: UInt64
    ) throws -> (disk: SimulatedDisk, hasEnded: Bool) {
        disk.failPower(atCall: call)
        var hasEnded = false
        do {
            try promoted(disk, archive).abandon()
            hasEnded = true
        } catch {
            guard disk.isPowerLost else { throw error }
        }
        return (disk.restart(seed: seed), hasEnded)
    }

    /// The node comes to be a leader on the one timeline that it claimed, and, when the power fails once more, is one
    /// with this content and what it acknowledged since, without an archive.
    private static func check(_ disk: SimulatedDisk, _ archive: MemoryArchive, is node: RestoredNode) throws {
        let engine = try promoted(disk, archive)
        let status = engine.status
        guard archive.claims == [status.timeline] else {
            throw Unexpected("it is on timeline \(status.timeline), and claimed \(archive.claims)")
        }
        guard status.lastTransaction == node.lastTransaction else {
            throw Unexpected("it goes on from transaction \(status.lastTransaction)")
        }
        let claimed = try TimelineHistory(decoding: archive.history(status.timeline)!)
        guard claimed.current.token == status.timelineToken else { throw Unexpected("another's token") }
        try engine.write { try $0.put("after", bytes("promotion"), bytes("1")) }
        engine.abandon()
        let after = disk.restart(seed: 1)
        for name in [BackupLabel.path, RecoverySignal.fileName, PromoteSignal.path] {
            guard try !after.exists(name) else { throw Unexpected("\(name) is still there") }
        }
        var ordinary = quietOptions()
        ordinary.archiving = true
        let leader = try Engine(opening: after, options: ordinary)
        var written = node.expected
        written.trees["after"] = [bytes("promotion"): bytes("1")]
        guard try EngineModel(trees: leader.everything()) == written else { throw Unexpected("other content") }
        let problems = try leader.problems()
        guard problems.isEmpty else { throw Unexpected("\(problems)") }
        leader.abandon()
    }

    @Test(
        "D5, D6: the power fails at every I/O call of replay and promotion, then in the second attempt, then no more",
        arguments: [TargetAction.promote, .pause])
    func everyCall(_ action: TargetAction) throws {
        let seed = SeededGenerator64.announced("crash in a recovery from an archive")
        let node = try RestoredNode(seed: seed, action: action)
        let trial = node.disk.afterKill(seed: seed)
        let writes = Mutex<(pages: Int, beforeEnd: Int)>((0, 0))
        trial.injectFaults { call in
            writes.withLock {
                if call.kind == .write, call.path.hasPrefix("pages/") { $0.pages += 1 }
                if call.kind == .sync, call.path.hasPrefix("pages/"), $0.beforeEnd == 0 { $0.beforeEnd = $0.pages }
            }
            return nil
        }
        try Self.promoted(trial, node.archive.copy()).abandon()
        let (pages, count) = (writes.withLock { $0.pages }, trial.calls)
        let second = Mutex(0)
        let failures = concurrently(Array(1...count)) { call in
            var random = SeededGenerator64(seed: seed &+ UInt64(call))
            for isContested in action == .promote ? [false, true] : [call % 2 == 0] {
                let archive = node.archive.copy(rivals: isContested ? 2 : 0)
                var (disk, hasEnded) = try Self.cutOff(
                    node.disk.afterKill(seed: random.next()), archive, at: call, seed: random.next())
                guard !hasEnded else { throw Unexpected("it did not notice that the power failed") }
                (disk, hasEnded) = try Self.cutOff(
                    disk, archive, at: Int.random(in: 1...count, using: &random), seed: random.next())
                if !hasEnded { second.withLock { $0 += 1 } }
                try Self.check(disk, archive, is: node)
            }
        }
        print(
            """
            crash points of a recovery that ends with \(action): \(count), of them writes of pages \(pages); second \
            attempts cut off: \(second.withLock { $0 })
            """)
        #expect(failures == [])
        #expect(pages > 3)
    }

    @Test("D4, D6: pages were written and then the archive lost its end: a later replay is refused, or right")
    func shortenedArchive() throws {
        let seed = SeededGenerator64.announced("an archive that lost its end")
        let node = try RestoredNode(seed: seed, target: .latest)
        let lost = node.atSwitch.keys.min()!
        let trial = node.disk.afterKill(seed: seed)
        try Self.promoted(trial, node.archive.copy()).abandon()
        let outcomes = Mutex<[String: Int]>([:])
        let failures = concurrently(Array(1...trial.calls)) { call in
            let begun = node.archive.copy()
            let (disk, _) = try Self.cutOff(
                node.disk.afterKill(seed: UInt64(call)), begun, at: call, seed: seed &+ UInt64(call))
            // Only what has no page or promotion behind the gap may go on.
            let outcome: String
            do {
                var ample = quietOptions()
                ample.archiving = true
                ample.recovery = node.archive.copy(below: lost)
                let engine = try Engine(opening: disk, options: ample)
                let found = try EngineModel(trees: engine.everything())
                guard found == node.atSwitch[lost] || found == node.last else { throw Unexpected("a state in between") }
                let problems = try engine.problems()
                guard problems.isEmpty else { throw Unexpected("\(problems)") }
                outcome = found == node.last ? "promoted already" : "replayed to the new end"
            } catch EngineError.recoveryFailed {
                outcome = "refused"
            }
            outcomes.withLock { $0[outcome, default: 0] += 1 }
        }
        print("crash points before the archive was cut: \(trial.calls), \(outcomes.withLock { $0 })")
        #expect(failures == [])
        #expect(outcomes.withLock { $0.count } == 3)
    }
}
