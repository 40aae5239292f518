import Foundation
import HoldfastCore
import HoldfastTestSupport
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("A crash during recovery or a checkpoint is as good as none")
struct RecoveryCrashTests {
    /// The smallest memory that there is: a replay of more pages writes some before it has ended.
    private static var smallOptions: EngineOptions {
        var options = quietOptions(cachePages: 1)
        options.versionBytes = 0
        options.transactionBytes = 0
        return options
    }

    /// How a process ended whose log had a tail that was not durable.
    private enum End: CaseIterable {
        case powerLoss, kill
        /// The tail's sync failed: the cache shows bytes that the disk has not.
        case failedSync
    }

    /// Commits on more pages than fit in that memory, and no checkpoint since the first of them.
    private static func crashed(seed: UInt64, _ end: End) throws -> (disk: SimulatedDisk, history: Workload.History) {
        let disk = try CrashTests.initialized(seed: seed)
        let engine = try Engine(opening: disk, options: quietOptions())
        var random = SeededGenerator64(seed: seed)
        var model = EngineModel()
        var history = Workload.History()
        for number in 0..<16 {
            try engine.write(number < 12 ? .durable : .asynchronous) { transaction in
                try model.change(transaction, &random, keys: 300)
                for _ in 0..<30 {
                    let key = EngineModel.key(Int.random(in: 0..<280, using: &random))
                    let value = [UInt8](repeating: UInt8.random(in: 0...255, using: &random), count: 5000)
                    try transaction.put("large", key, value)
                    model.trees["large", default: [:]][key] = value
                }
            }
            history.states.append(model)
            if number < 12 { history.acknowledged = history.states.count - 1 }
            // Pages may be written up to a witness: the rest of the log must go without.
            if number == 9 { try engine.raiseMark() }
        }
        if end == .failedSync {
            disk.injectFaults { $0.kind == .sync ? .error(.inputOutput) : nil }
            #expect(throws: EngineError.self) { try engine.flush(through: engine.appendedLSN) }
        }
        engine.abandon()
        return (end == .powerLoss ? disk.restart(seed: seed) : disk.afterKill(seed: seed), history)
    }

    /// Recovers with the power failing at `call`; what a recovery that ended before has shown is acknowledged.
    private static func cutOff(
        _ disk: SimulatedDisk, at call: Int, seed: UInt64, _ history: inout Workload.History
    ) throws -> SimulatedDisk {
        disk.failPower(atCall: call)
        do {
            let engine = try Engine(opening: disk, options: smallOptions)
            let shown = try history.check(try engine.everything())
            history.acknowledged = max(history.acknowledged, shown)
            engine.abandon()
        } catch {
            guard disk.isPowerLost else { throw error }
        }
        return disk.restart(seed: seed)
    }

    @Test("A4, A6: the power fails at every I/O call of a recovery that writes pages, and again in the next ones")
    func everyCallOfRecovery() throws {
        for end in End.allCases { try everyCallOfRecovery(behind: end) }
    }

    private func everyCallOfRecovery(behind end: End) throws {
        let seed = SeededGenerator64.announced("crash in a recovery behind a \(end)")
        let (crashed, history) = try Self.crashed(seed: seed, end)
        let trial = crashed.afterKill(seed: seed)
        let pages = Mutex(0)
        trial.injectFaults { call in
            if call.kind == .write, call.path.hasPrefix("pages/") { pages.withLock { $0 += 1 } }
            return nil
        }
        try Engine(opening: trial, options: Self.smallOptions).abandon()
        let count = trial.calls
        print("crash points of a recovery behind a \(end): \(count), of them writes of pages \(pages.withLock { $0 })")
        #expect(pages.withLock { $0 } > 0)
        // Behind the last call too: what a recovery has shown stays.
        let failures = concurrently(Array(1...count + 1)) { call in
            var random = SeededGenerator64(seed: seed &+ UInt64(call))
            var history = history
            var disk = crashed.afterKill(seed: random.next())
            disk = try Self.cutOff(disk, at: call, seed: random.next(), &history)
            let next = Int.random(in: 1...count + 1, using: &random)
            disk = try Self.cutOff(disk, at: next, seed: random.next(), &history)
            try verifyRecovered(disk, history, thorough: call % 5 == 0)
        }
        #expect(failures == [])
    }

    @Test("A1, A4: the power fails at every I/O call of a checkpoint, the first one after a recovery and a later one")
    func everyCallOfCheckpoint() throws {
        let seed = SeededGenerator64.announced("crash in a checkpoint")
        let (base, _) = try Self.crashed(seed: seed, .kill)
        for isLater in [false, true] {
            /// Up to the checkpoint nothing fails.
            @Sendable func prepared(_ disk: SimulatedDisk) throws -> (engine: Engine, history: Workload.History) {
                let engine = try Engine(opening: disk, options: quietOptions())
                var random = SeededGenerator64(seed: seed)
                var model = EngineModel(trees: try engine.everything())
                for isLast in isLater ? [false, true] : [true] {
                    for _ in 0..<4 { try engine.write { try model.change($0, &random) } }
                    if !isLast { try engine.checkpoint() }
                }
                return (engine, Workload.History(states: [model], acknowledged: 0))
            }
            let trial = base.afterKill(seed: seed)
            let (engine, _) = try prepared(trial)
            let before = trial.calls
            try engine.checkpoint()
            let count = trial.calls - before
            engine.abandon()
            print("crash points of a checkpoint: \(count)")
            let failures = concurrently(Array(1...count)) { call in
                for round in 0..<4 {
                    let disk = base.afterKill(seed: seed &+ UInt64(call))
                    let (engine, history) = try prepared(disk)
                    disk.failPower(atCall: disk.calls + call)
                    do {
                        try engine.checkpoint()
                        throw Unexpected("the checkpoint did not notice that the power failed")
                    } catch let error as Unexpected { throw error } catch {}
                    engine.abandon()
                    try verifyRecovered(disk.restart(seed: UInt64(call * 4 + round)), history, thorough: round == 0)
                }
            }
            #expect(failures == [])
        }
    }
}
