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

    /// The ways to name a moment, each of which every round goes.
    private enum Kind: CaseIterable { case lsn, exclusiveLSN, transaction, time, name }

    /// A target, and what a node restored to it must hold.
    private struct Trial {
        var target: RecoveryTarget
        var isInclusive = true
        var expected: State
    }

    /// Everything of each kind that the backup can reach.
    private func trials(_ writer: Writer, stop: LSN, finished: Timestamp) -> [Kind: [Trial]] {
        let moments = writer.moments
        var trials: [Kind: [Trial]] = [:]
        for (index, moment) in moments.enumerated() where moment.end > stop {
            trials[.lsn, default: []].append(Trial(target: .lsn(moment.end), expected: moment.state))
            trials[.transaction, default: []].append(
                Trial(target: .transaction(moment.transaction), expected: moment.state))
            // Exclusive: the commit before, wherever that is.
            if index > 0, moments[index - 1].end >= stop {
                trials[.exclusiveLSN, default: []].append(
                    Trial(target: .lsn(moment.end), isInclusive: false, expected: moments[index - 1].state))
            }
            // The last commit of that microsecond; a later one must exist to show that it was reached.
            let last = moments.lastIndex { $0.time <= moment.time } ?? index
            if last + 1 < moments.count, moment.time > finished.microseconds {
                trials[.time, default: []].append(
                    Trial(target: .time(microseconds: moment.time), expected: moments[last].state))
            }
        }
        for point in writer.names where point.lsn > stop {
            trials[.name, default: []].append(
                Trial(target: .name(point.name), expected: moments.last { $0.end <= point.lsn }?.state ?? [:]))
        }
        return trials
    }

    @Test("C1, D5: restored to fifty random LSNs, times, transactions and names", arguments: 1...10)
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
        // Not every eighty steps name a moment.
        while writer.names.last.map({ $0.lsn <= record.stopLSN }) ?? true { try writer.step() }
        try node.archiveEverything()

        let trials = trials(writer, stop: record.stopLSN, finished: record.finishedAt)
        try #require(try #require(trials[.lsn]).count >= 50)
        var random = SeededGenerator(seed: seed)
        var restored: [Kind: Int] = [:]
        for number in 0..<50 {
            let kind = Kind.allCases[number % Kind.allCases.count]
            let trial = try #require(trials[kind]?.randomElement(using: &random), "round \(round) reaches no \(kind)")
            let engine = try node.restored(to: trial.target, isInclusive: trial.isInclusive, number: number)
            let found = try engine.allRecords()
            #expect(
                found == trial.expected,
                "round \(round), seed \(seed): \(trial.target), inclusive \(trial.isInclusive)")
            try engine.close()
            try FileManager.default.removeItem(atPath: node.directory.path + "/restored-\(number)")
            restored[kind, default: 0] += 1
        }
        let counts = Kind.allCases.map { "\(restored[$0] ?? 0) by \($0)" }.joined(separator: ", ")
        print("point in time, round \(round): \(restored.values.reduce(0, +)) restores, \(counts)")
        #expect(restored.values.reduce(0, +) >= 50)
        for kind in Kind.allCases { #expect(restored[kind] ?? 0 >= 10, "\(kind)") }
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
