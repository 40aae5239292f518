import Foundation
import HoldfastCore
import HoldfastTestSupport
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("Every reader sees one moment, whatever is written, evicted and checkpointed beside it")
struct VersionTests {
    /// A snapshot and what it must go on to show.
    private struct Pinned {
        var handle: SnapshotHandle
        var model: EngineModel
    }

    @Test(
        "random transactions against a model, with readers pinned at old versions, evictions, checkpoints, restarts",
        arguments: [(48, 4096), (96, 40), (4096, 4096)])
    func pinnedReaders(cachePages: Int, versionPages: Int) throws {
        let seed = SeededGenerator64.announced("pinned readers, \(cachePages) pages of cache")
        var random = SeededGenerator64(seed: seed)
        let disk = try CrashTests.initialized(seed: seed)
        var options = quietOptions(cachePages: cachePages)
        options.versionBytes = versionPages * Page.bytes
        // Little room beside the cache, so that dirty pages must be written out to make some.
        options.transactionBytes = 300 * Page.bytes
        var engine = try Engine(opening: disk, options: options)
        var model = EngineModel()
        var pinned: [Pinned] = []
        var tooOld = 0, checked = 0, misses: UInt64 = 0
        let isSmall = cachePages < 1000
        for round in 0..<220 {
            if Int.random(in: 0..<8, using: &random) == 0 {
                let before = model
                let transaction = try engine.beginTransaction()
                try model.change(
                    transaction, &random, keys: isSmall ? 2500 : 400, operations: isSmall ? 60 : 12, clears: !isSmall)
                transaction.rollback()
                model = before
            } else {
                try engine.write(Bool.random(using: &random) ? .durable : .asynchronous) { transaction in
                    try model.change(
                        transaction, &random, keys: isSmall ? 2500 : 400, operations: isSmall ? 60 : 12,
                        clears: !isSmall)
                }
            }
            switch Int.random(in: 0..<24, using: &random) {
            case 0: try engine.checkpoint()
            case 1: try engine.reclaim(pages: 8)
            case 2..<7 where pinned.count < 6:
                pinned.append(Pinned(handle: try engine.makeSnapshot(), model: model))
            case 7..<9 where !pinned.isEmpty:
                pinned.remove(at: Int.random(in: 0..<pinned.count, using: &random)).handle.close()
            case 9 where round % 3 == 0:
                for reader in pinned { reader.handle.close() }
                pinned = []
                misses += engine.status.cacheMisses
                try engine.close()
                engine = try Engine(opening: disk, options: options)
            default: break
            }
            for reader in pinned where Int.random(in: 0..<4, using: &random) == 0 {
                do {
                    let found = try reader.handle.read { try everything($0) }
                    #expect(EngineModel(trees: found) == reader.model, "at \(reader.handle.lsn) in round \(round)")
                    checked += 1
                } catch EngineError.snapshotTooOld { tooOld += 1 }
            }
            if round % 10 == 0 { #expect(try EngineModel(trees: engine.everything()) == model) }
        }
        #expect(try EngineModel(trees: engine.everything()) == model)
        #expect(try engine.problems() == [])
        misses += engine.status.cacheMisses
        print("checked \(checked) states of pinned readers, \(tooOld) were too old, \(misses) pages loaded")
        if isSmall { #expect(misses > 500) }
        #expect(checked > 10)
        if versionPages > 1000 { #expect(tooOld == 0) }
        for reader in pinned { reader.handle.close() }
        engine.cache.prune(published: engine.publishedLSN, mark: engine.publishedLSN)
        try engine.checkpoint()
        engine.cache.prune(published: engine.publishedLSN, mark: engine.log.durableMark)
        #expect(engine.cache.versionCount == 0)
        try engine.close()
    }

    @Test("A12: a transaction over its budget, and a reader over its, get the error; nobody else does")
    func budgets() throws {
        let disk = try CrashTests.initialized(seed: 1)
        var options = quietOptions(cachePages: 256)
        options.transactionBytes = 64 * Page.bytes
        options.versionBytes = 32 * Page.bytes
        let engine = try Engine(opening: disk, options: options)
        try engine.write { try $0.put("t", bytes("a"), bytes("1")) }
        let old = try engine.makeSnapshot()
        do {
            try engine.write { try $0.put("t", bytes("big"), [UInt8](repeating: 1, count: 2 << 20)) }
            Issue.record("a transaction exceeded its budget")
        } catch EngineError.transactionTooLarge {}
        #expect(try engine.read { try $0.get("t", bytes("big")) } == nil)
        for n in 0..<200 {
            try engine.write { transaction in
                for k in 0..<20 {
                    try transaction.put("t", bytes("\(k * 97 % 400)-\(n)"), [UInt8](repeating: 1, count: 200))
                }
            }
        }
        #expect(throws: EngineError.self) { try old.read { try everything($0) } }
        #expect(try engine.read { try $0.count("t") } == 4001)
        #expect(engine.cache.versionCount <= 32 + 64)
        old.close()
        #expect(throws: EngineError.self) { try old.read { _ in } }
    }

    @Test("onlyResident: a page that is not in memory is an error of its own, and the read works once it is")
    func onlyResident() throws {
        let disk = try CrashTests.initialized(seed: 2)
        var engine = try Engine(opening: disk, options: quietOptions())
        try engine.write { try $0.put("t", bytes("a"), bytes("1")) }
        try engine.close()
        engine = try Engine(opening: disk, options: quietOptions())
        do {
            _ = try engine.read(onlyResident: true) { try $0.get("t", bytes("a")) }
            Issue.record("a cold page was read")
        } catch EngineError.notResident {}
        #expect(try engine.read { try $0.get("t", bytes("a")) } == bytes("1"))
        #expect(try engine.read(onlyResident: true) { try $0.get("t", bytes("a")) } == bytes("1"))
    }

    @Test("bytes that a read has borrowed stay as they are while their page is evicted and memory is short")
    func borrowedBytes() throws {
        let disk = try CrashTests.initialized(seed: 9)
        var options = quietOptions(cachePages: 64)
        options.versionBytes = 600 * Page.bytes
        let count = 3000
        options.transactionBytes = 600 * Page.bytes
        var engine = try Engine(opening: disk, options: options)
        try engine.write { transaction in
            for n in 0..<count {
                try transaction.put("t", EngineModel.key(n), [UInt8](repeating: UInt8(n & 127), count: 800))
            }
        }
        try engine.close()
        engine = try Engine(opening: disk, options: options)
        var random = SeededGenerator64(seed: 9)
        for _ in 0..<20 {
            let chosen = Int.random(in: 0..<count, using: &random)
            let before = engine.status.cacheMisses
            try engine.read { snapshot in
                let tree = try #require(try snapshot.tree("t"))
                try EngineModel.key(chosen).withUnsafeBytes { key in
                    try snapshot.get(tree, key) { value in
                        let value = try #require(value)
                        // Other readers, who need some hundred other pages in a cache of 64.
                        for step in 0..<300 {
                            let other = (chosen + 500 + step * 7) % count
                            #expect(
                                try engine.read { try $0.get("t", EngineModel.key(other)) }?.first == UInt8(other & 127)
                            )
                        }
                        #expect(value.allSatisfy { $0 == UInt8(chosen & 127) })
                    }
                }
            }
            #expect(engine.status.cacheMisses > before + 40)
        }
    }

    @Test("staged commits: later transactions see them, readers only after the flush; numbers and times rise")
    func staging() throws {
        let disk = try CrashTests.initialized(seed: 4)
        var options = quietOptions()
        let clock = Mutex<Int64>(1_000_000)
        options.now = {
            clock.withLock { now in
                now -= 10; return now
            }
        }
        let engine = try Engine(opening: disk, options: options)
        let first = try engine.beginTransaction()
        #expect(try engine.tryBeginTransaction() == nil)
        try first.put("t", bytes("a"), bytes("1"))
        let one = try first.stage(transactions: 5)
        #expect(one.transactions == TransactionID(1)...TransactionID(5))
        let second = try engine.beginTransaction()
        #expect(second.basis == one.end)
        #expect(try second.get("t", bytes("a")) == bytes("1"))
        let nothing = try second.stage()
        #expect(nothing.transactions == nil && nothing.end == one.end)
        #expect(try engine.read { try $0.get("t", bytes("a")) } == nil)
        #expect(engine.publishedLSN < one.end && engine.durableLSN < one.end)
        try engine.flush(through: one.end)
        #expect(engine.publishedLSN >= one.end && engine.durableLSN >= one.end)
        #expect(try engine.read { try $0.get("t", bytes("a")) } == bytes("1"))
        let time = engine.status.lastCommitTime
        try engine.write { try $0.put("t", bytes("b"), bytes("2")) }
        #expect(engine.status.lastTransaction == TransactionID(6))
        #expect(engine.status.lastCommitTime >= time)
    }

    @Test("A11: writers, readers that check what they see, checkpoints, switches and a backup, all at once")
    func racing() throws {
        let seed = SeededGenerator64.announced("racing")
        let disk = try CrashTests.initialized(seed: seed)
        var options = quietOptions(cachePages: 128)
        options.versionBytes = 64 << 20
        let engine = try Engine(opening: disk, options: options)
        let accounts = 300, total = accounts * 100
        try engine.write { transaction in
            for n in 0..<accounts { try transaction.put("t", EngineModel.key(n), bytes("100")) }
        }
        let left = Atomic<Int>(2)
        DispatchQueue.concurrentPerform(iterations: 5) { worker in
            var random = SeededGenerator64(seed: seed &+ UInt64(worker))
            do {
                switch worker {
                case 0, 1:
                    defer { left.wrappingSubtract(1, ordering: .relaxed) }
                    for _ in 0..<150 {
                        try engine.write { transaction in
                            for _ in 0..<4 { try Self.transfer(transaction, accounts, &random) }
                        }
                    }
                case 2, 3:
                    while left.load(ordering: .relaxed) > 0 {
                        let sum = try engine.read { try Self.sum($0) }
                        if sum != total { throw Unexpected("a reader saw \(sum) of \(total)") }
                    }
                default:
                    while left.load(ordering: .relaxed) > 0 {
                        try engine.checkpoint()
                        try engine.switchWAL()
                        let backup = try engine.beginBackup(label: "r", fast: true)
                        try engine.raiseMark()
                        _ = try engine.endBackup(backup.token)
                        usleep(20_000)
                    }
                }
            } catch { Issue.record("worker \(worker): \(error)") }
        }
        #expect(try engine.problems() == [])
        #expect(try engine.read { try Self.sum($0) } == total)
        let again = try Engine(opening: disk.restart(seed: seed), options: options)
        #expect(try again.read { try Self.sum($0) } == total)
        #expect(try again.everything() == engine.everything())
        #expect(try again.problems() == [])
    }

    private static func transfer(_ transaction: Transaction, _ accounts: Int, _ random: inout SeededGenerator64) throws
    {
        let from = EngineModel.key(Int.random(in: 0..<accounts, using: &random))
        let to = EngineModel.key(Int.random(in: 0..<accounts, using: &random))
        func balance(_ key: [UInt8]) throws -> Int {
            Int(String(decoding: try transaction.get("t", key)!, as: UTF8.self))!
        }
        let amount = Int.random(in: 1...50, using: &random)
        // Values of changing length, so that pages split and merge on the way.
        let pad = String(repeating: "0", count: Int.random(in: 0..<60, using: &random))
        try transaction.put("t", from, bytes("\(try balance(from) - amount)"))
        try transaction.put("t", to, bytes((try balance(to) + amount >= 0 ? pad : "") + "\(try balance(to) + amount)"))
    }

    private static func sum(_ snapshot: borrowing Snapshot) throws -> Int {
        var sum = 0
        try snapshot.scan("t") { _, value in
            sum += Int(String(decoding: value, as: UTF8.self))!
            return true
        }
        return sum
    }
}
