import Foundation
import HoldfastCore
import HoldfastTestSupport
import Synchronization

@testable import HoldfastEngine

/// A workload that a seed repeats, and the states that a crash may leave: splits, merges, overflow chains, cleared trees,
/// checkpoints, segment switches, a backup.
struct Workload {
    var seed: UInt64
    var transactions = 24
    /// Transactions that are published before they are durable.
    var isAsynchronous = false
    var cachePages = 4096

    /// What happened until the end, or until an error that the engine did not survive.
    struct History {
        /// The state after each transaction, before the first as well.
        var states: [EngineModel] = [EngineModel()]
        /// The last state that was acknowledged as durable.
        var acknowledged = 0
        /// Whether a transaction was under way when the workload ended.
        var last: any Error = Unexpected("none")
        var errors = 0
        var isComplete = false
        /// The engine, as far as it was opened.
        var engine: Engine?

        /// Whether a recovered directory holds one of the states that it may hold.
        func check(_ found: [String: [[UInt8]: [UInt8]]]) throws -> Int {
            let model = EngineModel(trees: found)
            guard let index = states.lastIndex(of: model) else {
                throw Unexpected(
                    "recovered a state that never was (acknowledged \(acknowledged) of \(states.count - 1))")
            }
            guard index >= acknowledged else {
                throw Unexpected("recovered state \(index), but \(acknowledged) was acknowledged")
            }
            return index
        }
    }

    /// Runs on an initialized disk. Errors that leave the engine running are counted and the work goes on.
    func run(
        on disk: SimulatedDisk, leavingOpen: Bool = false,
        onFatal: @escaping @Sendable (any DiagnosableError) -> Void = { _ in }
    ) -> History {
        var history = History()
        do {
            let engine = try Engine(
                opening: disk, options: quietOptions(cachePages: cachePages, onFatal: onFatal))
            history.engine = engine
            try work(engine, &history)
            if !leavingOpen { try engine.close() }
            history.isComplete = history.errors == 0
        } catch { history.last = error }
        return history
    }

    private func work(_ engine: Engine, _ history: inout History) throws {
        var random = HoldfastTestSupport.SeededGenerator(seed: seed)
        var model = EngineModel()
        for number in 1...transactions {
            let before = model
            do {
                try engine.write(isAsynchronous ? .asynchronous : .durable) { transaction in
                    if number == 1 {
                        // Enough for a tree of two levels.
                        for n in 0..<150 {
                            let value = [UInt8](repeating: UInt8(truncatingIfNeeded: n), count: 120)
                            try transaction.put("t0", EngineModel.key(n), value)
                            model.trees["t0", default: [:]][EngineModel.key(n)] = value
                        }
                    }
                    try model.change(transaction, &random)
                }
                history.states.append(model)
                if !isAsynchronous { history.acknowledged = history.states.count - 1 }
            } catch let error as Unexpected {
                throw error
            } catch {
                // Whether it is there is open, unless the engine goes on: then it is not.
                let attempted = model
                model = before
                try survive(error, engine, &history) { $0.states.append(attempted) }
                try requireContent(engine, model)
                history.states.append(model)
                history.acknowledged = isAsynchronous ? history.acknowledged : history.states.count - 1
            }
            do {
                if number == transactions / 3 || number == transactions * 2 / 3 { try engine.checkpoint() }
                if number % 7 == 5 { try engine.switchWAL() }
                if number % 5 == 4 { try engine.flush(through: engine.appendedLSN) }
                if number == transactions / 2 {
                    let backup = try engine.beginBackup(label: "test", fast: true)
                    _ = try engine.endBackup(backup.token)
                }
                if number % 8 == 0 { try engine.reclaim(pages: 4) }
            } catch { try survive(error, engine, &history) { _ in } }
        }
        try requireContent(engine, model)
    }

    private func requireContent(_ engine: Engine, _ model: EngineModel) throws {
        guard engine.status.writeRefusal == nil || engine.failure.reason == nil else { return }
        guard try EngineModel(trees: engine.everything()) == model else {
            throw Unexpected("the engine goes on after an error with other content")
        }
    }

    private func survive(
        _ error: any Error, _ engine: Engine, _ history: inout History, _ uncertain: (inout History) -> Void
    ) throws {
        history.errors += 1
        if engine.failure.reason != nil {
            uncertain(&history)
            throw error
        }
        guard history.errors < 50 else { throw error }
    }
}

/// Runs `body` for each of `items` on two threads; collects what goes wrong.
func concurrently<Item: Sendable>(_ items: [Item], _ body: @Sendable (Item) throws -> Void) -> [String] {
    let failures = Mutex<[String]>([])
    let next = Atomic<Int>(0)
    DispatchQueue.concurrentPerform(iterations: 2) { _ in
        while true {
            let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
            guard index < items.count else { return }
            do { try body(items[index]) } catch { failures.withLock { $0.append("\(items[index]): \(error)") } }
        }
    }
    return failures.withLock { $0 }
}

/// Opens what a crash left, checks content and structure, and that it can be written to and closed.
@discardableResult
func verifyRecovered(_ disk: SimulatedDisk, _ history: Workload.History, thorough: Bool = true) throws -> Int {
    let engine = try Engine(opening: disk, options: quietOptions())
    let index = try history.check(engine.everything())
    let problems = try engine.problems()
    guard problems.isEmpty else { throw Unexpected("state \(index): \(problems)") }
    if thorough {
        try engine.write { try $0.put("after", bytes("a"), bytes("b")) }
        try engine.close()
    }
    return index
}
