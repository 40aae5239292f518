import Foundation
import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import Synchronization
import Testing

@Suite("A backup taken while writers write restores to exactly the commit asked for", .serialized)
struct PointInTimeTests {
    typealias State = [String: [[UInt8]: [UInt8]]]

    /// What the cluster held after a commit.
    private struct Moment: Sendable {
        var end: LSN
        var transaction: TransactionID
        var time: Int64
        var state: State
    }

    /// Random transactions with splits, big values, deletes, cleared trees, checkpoints and segment switches.
    private final class Writer: Sendable {
        private struct Shared {
            var random: SeededGenerator
            var state: State = [:]
            var moments: [Moment] = []
            var names: [(name: String, lsn: LSN)] = []
        }
        private let shared: Mutex<Shared>
        private let engine: Engine

        init(_ engine: Engine, seed: UInt64) {
            self.engine = engine
            shared = Mutex(Shared(random: SeededGenerator(seed: seed)))
        }

        var moments: [Moment] { shared.withLock { $0.moments } }
        var names: [(name: String, lsn: LSN)] { shared.withLock { $0.names } }

        func step() throws {
            try shared.withLock { shared in
                let transaction = try engine.beginTransaction()
                do {
                    for _ in 0..<Int.random(in: 1...30, using: &shared.random) {
                        try change(transaction, &shared)
                    }
                    let staged = try transaction.stage()
                    try engine.flush(through: staged.end)
                    if let range = staged.transactions {
                        let time = engine.status.lastCommitTime
                        shared.moments.append(
                            Moment(end: staged.end, transaction: range.upperBound, time: time, state: shared.state))
                    }
                } catch {
                    transaction.rollback()
                    throw error
                }
                switch Int.random(in: 0..<60, using: &shared.random) {
                case 0: try engine.checkpoint()
                case 1: try engine.switchWAL()
                case 2, 3:
                    let name = "point-\(shared.names.count)"
                    shared.names.append((name, try engine.restorePoint(name)))
                default: break
                }
            }
        }

        private func change(_ transaction: Transaction, _ shared: inout Shared) throws {
            let tree = String(Int.random(in: 0..<3, using: &shared.random))
            let key = Array("key:\(Int.random(in: 0..<400, using: &shared.random))".utf8)
            switch Int.random(in: 0..<100, using: &shared.random) {
            case 0:
                try transaction.clear(tree)
                shared.state[tree] = nil
            case 1..<25:
                try transaction.delete(tree, key)
                shared.state[tree]?[key] = nil
                if shared.state[tree]?.isEmpty == true { shared.state[tree] = nil }
            default:
                let isBig = Int.random(in: 0..<40, using: &shared.random) == 0
                let count = Int.random(in: isBig ? 9_000...60_000 : 0...200, using: &shared.random)
                let value = [UInt8](repeating: UInt8.random(in: 0...255, using: &shared.random), count: count)
                try transaction.put(tree, key, value)
                shared.state[tree, default: [:]][key] = value
            }
        }
    }

    @Test("C1: restored to fifty random LSNs, times, transactions and names", arguments: 1...10)
    func randomTargets(_ round: Int) async throws {
        let seed = SeededGenerator.announcedSeed("point in time, round \(round)") &+ UInt64(round)
        let node = try await ArchivedNode()
        let writer = Writer(node.engine, seed: seed)
        for _ in 0..<60 { try writer.step() }
        // The backup runs while the writer goes on.
        let isDone = Mutex(false)
        let backup = Thread.running {
            defer { isDone.withLock { $0 = true } }
            return try node.backup()
        }
        repeat { try writer.step() } while !isDone.withLock { $0 }
        let record = try backup.result()
        for _ in 0..<80 { try writer.step() }
        try node.archiveEverything()

        let moments = writer.moments
        let reachable = moments.indices.filter { moments[$0].end > record.stopLSN }
        try #require(reachable.count >= 50)
        var random = SeededGenerator(seed: seed)
        for number in 0..<50 {
            let index = try #require(reachable.randomElement(using: &random))
            let moment = moments[index]
            var expected = moment.state
            let target: RecoveryTarget
            var isInclusive = true
            switch number % 5 {
            case 0: target = .lsn(moment.end)
            case 1:
                // Exclusive: the commit before, wherever that is.
                guard index > 0, moments[index - 1].end >= record.stopLSN else { continue }
                target = .lsn(moment.end)
                isInclusive = false
                expected = moments[index - 1].state
            case 2: target = .transaction(moment.transaction)
            case 3:
                // The last commit of that microsecond; a later one must exist to show that it was reached.
                let last = moments.lastIndex { $0.time <= moment.time } ?? index
                guard last + 1 < moments.count, moment.time > record.finishedAt.microseconds else { continue }
                target = .time(microseconds: moment.time)
                expected = moments[last].state
            default:
                guard let point = writer.names.filter({ $0.lsn > record.stopLSN }).randomElement(using: &random) else {
                    continue
                }
                target = .name(point.name)
                expected = moments.last { $0.end <= point.lsn }?.state ?? [:]
            }
            let engine = try node.restored(to: target, isInclusive: isInclusive, number: number)
            let found = try engine.allRecords()
            #expect(found == expected, "round \(round), seed \(seed): \(target), inclusive \(isInclusive)")
            try engine.close()
            try FileManager.default.removeItem(atPath: node.directory.path + "/restored-\(number)")
        }
        try await node.stop()
    }
}

extension Thread {
    /// What a thread came to; `result()` waits for it.
    final class Outcome<R: Sendable>: Sendable {
        private let state = Mutex<Result<R, any Error>?>(nil)
        private let done = DispatchSemaphore(value: 0)
        func set(_ result: Result<R, any Error>) {
            state.withLock { $0 = result }
            done.signal()
        }
        func result() throws -> R {
            done.wait()
            return try state.withLock { $0! }.get()  // Set before the signal.
        }
    }

    static func running<R: Sendable>(_ body: @escaping @Sendable () throws -> R) -> Outcome<R> {
        let outcome = Outcome<R>()
        Thread { outcome.set(Result { try body() }) }.start()
        return outcome
    }
}
