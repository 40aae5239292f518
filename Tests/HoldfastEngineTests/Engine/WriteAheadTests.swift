import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

@testable import HoldfastEngine

@Suite("No page is written before the log that it came from is durable")
struct WriteAheadTests {
    /// Commits that nobody has flushed yet, in a cache that must write pages to make room, or beside checkpoints.
    private struct Unflushed {
        var seed: UInt64
        /// A cache of some dozen pages: dirty ones are written to make room, checkpoints apart.
        var isCrowded: Bool

        /// Used by one thread: the disk interleaves on the thread that calls it.
        final class Run: @unchecked Sendable {
            var history = Workload.History()
            var model = EngineModel()
            var random: SeededGenerator64
            /// Pages written while the log had a tail that was not durable.
            var riskyWrites = 0
            /// Pages written to make room.
            var writesForRoom = 0
            var isInCheckpoint = false
            var commitsBesideSyncs = 0

            let isCrowded: Bool

            init(seed: UInt64, isCrowded: Bool) {
                self.isCrowded = isCrowded
                random = SeededGenerator64(seed: seed)
            }

            /// Commits without waiting for the disk, unless a transaction is running.
            /// - Returns: the commit's end, and the state's index.
            func stage(_ engine: Engine, operations: Int) throws -> (end: LSN, index: Int)? {
                guard let transaction = try engine.tryBeginTransaction() else { return nil }
                let before = model
                do {
                    // The first ones make more pages than a small cache holds.
                    let number = history.states.count
                    if number <= (isCrowded ? 8 : 2) {
                        for n in number * 40..<number * 40 + 40 {
                            let value = [UInt8](repeating: UInt8(truncatingIfNeeded: n), count: 2600)
                            try transaction.put("t0", EngineModel.key(n), value)
                            model.trees["t0", default: [:]][EngineModel.key(n)] = value
                        }
                    }
                    try model.change(transaction, &random, keys: 500, operations: operations)
                    let staged = try transaction.stage()
                    history.states.append(model)
                    return (staged.end, history.states.count - 1)
                } catch {
                    // Nothing has happened.
                    transaction.rollback()
                    model = before
                    throw error
                }
            }

            func acknowledge(_ index: Int) { history.acknowledged = max(history.acknowledged, index) }
        }

        var options: EngineOptions {
            var options = quietOptions()
            guard isCrowded else { return options }
            options.cacheBytes = 64 * Page.bytes
            options.transactionBytes = 64 * Page.bytes
            return options
        }

        func run(on disk: SimulatedDisk) -> Run {
            let run = Run(seed: seed, isCrowded: isCrowded)
            do {
                let engine = try Engine(opening: disk, options: options)
                let isCrowded = isCrowded
                disk.interleave { [unowned engine] call in
                    let isPages = call.path.hasPrefix("pages/")
                    if call.kind == .write, isPages {
                        if engine.durableLSN < engine.appendedLSN { run.riskyWrites += 1 }
                        if !run.isInCheckpoint { run.writesForRoom += 1 }
                    }
                    // Room is plenty then, so that this commit waits for nothing that waits for this sync.
                    guard !isCrowded, call.kind == .sync, isPages || call.path.hasPrefix("wal/") else { return }
                    do {
                        if try run.stage(engine, operations: 4) != nil { run.commitsBesideSyncs += 1 }
                    } catch { run.history.last = error }
                }
                try work(engine, run)
                disk.interleave(nil)
                try engine.flush(through: engine.appendedLSN)
                guard try EngineModel(trees: engine.everything()) == run.model else {
                    throw Unexpected("the engine holds other content than was committed")
                }
                try engine.close()
                run.history.isComplete = true
            } catch { run.history.last = error }
            disk.interleave(nil)
            return run
        }

        private func work(_ engine: Engine, _ run: Run) throws {
            var last: (end: LSN, index: Int)?
            for number in 1...(isCrowded ? 28 : 14) {
                last = try run.stage(engine, operations: isCrowded ? 16 : 8) ?? last
                // As the checkpointer does when little can be evicted.
                while isCrowded, engine.cache.isCrowded, try engine.cache.writeOutSome() > 0 {}
                if number % 9 == 5, let last {
                    try engine.flush(through: last.end)
                    run.acknowledge(last.index)
                }
                if number % (isCrowded ? 12 : 4) == 3 {
                    let before = run.history.states.count - 1
                    run.isInCheckpoint = true
                    try engine.checkpoint()
                    run.isInCheckpoint = false
                    run.acknowledge(before)
                }
            }
        }
    }

    @Test(
        "A1, A11: the power fails at every I/O call while pages are written beside commits whose log is not durable",
        arguments: [true, false])
    func everyCall(_ isCrowded: Bool) throws {
        let seed = SeededGenerator64.announced("crash with unflushed commits")
        let base = try CrashTests.initialized(seed: seed)
        let workload = Unflushed(seed: seed, isCrowded: isCrowded)
        let trial = base.afterKill(seed: seed)
        let whole = workload.run(on: trial)
        let (isComplete, last) = (whole.history.isComplete, "\(whole.history.last)")
        try #require(isComplete, "\(last)")
        print(
            """
            crash points: \(trial.calls) (\(isCrowded ? "little memory" : "beside checkpoints")), writes of pages for \
            room: \(whole.writesForRoom), over a log not durable: \(whole.riskyWrites), commits during a sync: \
            \(whole.commitsBesideSyncs)
            """)
        if isCrowded {
            #expect(whole.writesForRoom > 5)
        } else {
            #expect(whole.riskyWrites > 0)
            #expect(whole.commitsBesideSyncs > 5)
        }
        let failures = concurrently(Array(1...trial.calls)) { call in
            let disk = base.afterKill(seed: seed &+ UInt64(call))
            disk.failPower(atCall: call)
            let run = workload.run(on: disk)
            if let wrong = run.history.last as? Unexpected, wrong.description != "none" { throw wrong }
            try verifyRecovered(disk.restart(seed: seed ^ UInt64(call)), run.history, thorough: call % 5 == 0)
        }
        #expect(failures == [])
    }
}
