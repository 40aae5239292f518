import Foundation
import HoldfastCore
import HoldfastTestSupport
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("A check of a running engine sees one moment while writes go on")
struct OnlineCheckTests {
    @Test("writes with splits, chains, drops and checkpoints go on, and every check is sound")
    func whileWritesGoOn() throws {
        let seed = SeededGenerator64.announced("online check")
        let directory = try TemporaryDirectory("holdfast-check")
        let disk = try RealDisk(root: directory.path)
        try Engine.initialize(disk)
        // Fewer pages in memory than the engine has: the check must let go of what it has seen.
        var options = quietOptions(cachePages: 192)
        options.versionBytes = 64 << 20
        options.runsBackgroundWork = true
        let engine = try Engine(opening: disk, options: options)
        defer { try? engine.close() }
        var random = SeededGenerator64(seed: seed)
        var model = EngineModel()
        for _ in 0..<150 { try engine.write { try model.change($0, &random, keys: 4000, operations: 60) } }
        try engine.write { transaction in
            for n in 0..<8000 {
                try transaction.put("bulk", EngineModel.key(n), [UInt8](repeating: UInt8(n & 255), count: 300))
            }
        }
        try engine.checkpoint()
        #expect(engine.status.allocatedPages > 2 * 192)

        let isDone = Atomic(false), failure = Mutex<(any Error)?>(nil), commits = Atomic(0)
        let filled = (random, model)
        let writer = Thread {
            var (random, model) = filled
            do {
                while !isDone.load(ordering: .relaxed) {
                    try engine.write(.asynchronous) { try model.change($0, &random, keys: 4000, operations: 6) }
                    commits.add(1, ordering: .relaxed)
                    if commits.load(ordering: .relaxed) % 100 == 0 { try engine.checkpoint() }
                }
            } catch { failure.withLock { $0 = error } }
            isDone.store(true, ordering: .relaxed)
        }
        writer.start()
        var lsns: Set<LSN> = []
        // Not by time: until commits have come between checks.
        while lsns.count < 8, !isDone.load(ordering: .relaxed) {
            let result = try engine.check()
            #expect(result.problems == [])
            lsns.insert(result.lsn)
        }
        isDone.store(true, ordering: .relaxed)
        while !writer.isFinished { usleep(1000) }
        if let error = failure.withLock({ $0 }) { throw error }
        #expect(lsns.count == 8)
    }

    @Test("a check of many more pages than there is memory for needs none: it lets go of what it has seen")
    func smallMemory() throws {
        let disk = try CrashTests.initialized(seed: 31)
        var options = quietOptions(cachePages: 64)
        options.versionBytes = 64 * Page.bytes
        options.transactionBytes = 128 * Page.bytes
        let engine = try Engine(opening: disk, options: options)
        for first in stride(from: 0, to: 6000, by: 100) {
            try engine.write { transaction in
                for n in first..<first + 100 {
                    try transaction.put("bulk", bytes("k\(10_000 + n)"), [UInt8](repeating: UInt8(n & 255), count: 900))
                }
            }
            // Nothing writes pages out behind this test's back.
            try engine.checkpoint()
        }
        #expect(engine.status.allocatedPages > 2 * (64 + 64 + 128))
        #expect(try engine.check().problems == [])
        try engine.close()
        #expect(try DirectoryCheck(disk: disk).run().problems == [])
    }

    @Test("B5: damage on the disk of a running engine is named, in what is in memory and in what is not")
    func damage() throws {
        let directory = try CheckedDirectory.filled()
        let engine = try Engine(opening: directory.disk, options: quietOptions())
        defer { engine.abandon() }
        #expect(try engine.check().problems == [])
        // In memory now; the disk's copy rots.
        directory.edit(directory.leaf, stamping: false) { $0.storeBytes(of: 0x77, toByteOffset: 6000, as: UInt8.self) }
        let result = try engine.check()
        #expect(result.names("page \(directory.leaf)", "checksum"), "\(result.problems)")
        #expect(result.problems.count == 1, "named once: \(result.problems)")
    }

    @Test("a wrong structure in sound pages is named online")
    func structure() throws {
        let directory = try CheckedDirectory.filled()
        directory.edit(directory.root) { Node($0).firstChild = directory.secondLeaf }
        let engine = try Engine(opening: directory.disk, options: quietOptions())
        defer { engine.abandon() }
        #expect(try engine.check().names("page \(directory.secondLeaf)", "it is used twice"))
    }

    @Test("a check ends when it is told to, and with its engine")
    func ends() throws {
        let directory = try CheckedDirectory.filled()
        let engine = try Engine(opening: directory.disk, options: quietOptions())
        var steps = 0
        _ = try engine.check(while: {
            steps += 1
            return true
        })
        #expect(steps > 40)
        for limit in [0, 1, steps / 2, steps - 1] {
            var asked = 0
            let error = #expect(throws: EngineError.self) {
                try engine.check(while: {
                    asked += 1
                    return asked <= limit
                })
            }
            guard case .closed = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(asked == limit + 1)
        }
        // No snapshot is left behind.
        #expect(engine.status.liveSnapshots == 0)
        engine.abandon()
        #expect(throws: EngineError.self) { try engine.check() }
    }
}
