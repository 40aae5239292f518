import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Testing

@testable import HoldfastEngine

@Suite("An engine opens, writes, reads and recovers")
struct EngineBasicsTests {
    @Test("what was written is read back, now and after an orderly stop")
    func roundTrip() throws {
        let disk = SimulatedDisk(seed: 1)
        try Engine.initialize(disk)
        let engine = try Engine(opening: disk, options: quietOptions())
        try engine.write { transaction in
            for n in 0..<1000 { try transaction.put("a", EngineModel.key(n), bytes("value \(n)")) }
        }
        #expect(try engine.read { try $0.get("a", EngineModel.key(17)) } == bytes("value 17"))
        #expect(try engine.read { try $0.count("a") } == 1000)
        #expect(try engine.problems() == [])
        try engine.close()
        let again = try Engine(opening: disk, options: quietOptions())
        #expect(try again.read { try $0.get("a", EngineModel.key(999)) } == bytes("value 999"))
        #expect(try again.read { try $0.count("a") } == 1000)
        #expect(try again.problems() == [])
        try again.close()
    }

    @Test("A1: trees that grow, are changed in place, shrink to one page and grow again are redone to what they were")
    func everyEdit() throws {
        let disk = SimulatedDisk(seed: 3)
        try Engine.initialize(disk)
        let engine = try Engine(opening: disk, options: quietOptions())
        var random = SeededGenerator64(seed: SeededGenerator64.announced("every edit"))
        var model: [[UInt8]: [UInt8]] = [:]
        func put(_ transaction: Transaction, _ n: Int, _ length: Int) throws {
            let value = (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }
            try transaction.put("a", EngineModel.key(n), value)
            model[EngineModel.key(n)] = value
        }
        // No redo point in between, so that all but each page's first change is logged as a difference.
        for round in 0..<3 {
            for start in stride(from: 0, to: 1500, by: 100) {
                try engine.write { for n in start..<start + 100 { try put($0, n, 100) } }
            }
            for _ in 0..<20 {
                try engine.write {
                    for _ in 0..<10 {
                        // In place, shorter, longer.
                        try put($0, Int.random(in: 0..<1500, using: &random), Int.random(in: 90...110, using: &random))
                    }
                }
            }
            for start in stride(from: 0, to: 1500, by: 50) {
                try engine.write {
                    for n in start..<start + 50 where n != 700 + round {
                        try $0.delete("a", EngineModel.key(n))
                        model[EngineModel.key(n)] = nil
                    }
                }
            }
            // Pages changed, freed and used for something else in one transaction.
            try engine.write {
                for n in 0..<300 { try put($0, n, 100) }
            }
            try engine.write {
                for n in 0..<300 {
                    try put($0, n, 101)
                    try $0.delete("a", EngineModel.key(n))
                    model[EngineModel.key(n)] = nil
                }
                for n in 2000..<2004 { try put($0, n, 20_000 + round) }
            }
            #expect(try engine.problems() == [])
            let again = try Engine(opening: disk.afterKill(seed: UInt64(round)), options: quietOptions())
            #expect(try again.everything() == ["a": model], "round \(round)")
            #expect(try again.problems() == [])
            try again.close()
        }
        try engine.close()
    }

    @Test(
        "A1: a cleared tree's pages are freed in steps, and pages changed, freed and cleared in one transaction are redone"
    )
    func clearedInSteps() throws {
        let disk = SimulatedDisk(seed: 4)
        try Engine.initialize(disk)
        let engine = try Engine(opening: disk, options: quietOptions())
        func fill(_ transaction: Transaction, _ length: Int) throws {
            for n in 0..<200 { try transaction.put("a", EngineModel.key(n), bytes("small \(n)")) }
            for n in 200..<204 { try transaction.put("a", EngineModel.key(n), [UInt8](repeating: 7, count: length)) }
        }
        try engine.write { try fill($0, 100_000) }
        try engine.write { try $0.clear("a") }
        var isMore = true
        for step in 0..<100 where isMore {
            try engine.write { isMore = try $0.reclaimSome(pages: 4) }
            let again = try Engine(opening: disk.afterKill(seed: UInt64(step)), options: quietOptions())
            #expect(try again.problems() == [], "step \(step)")
            try again.close()
        }
        #expect(!isMore)
        // Leaves that are changed, emptied and freed, and then given to the root that a clear sets aside.
        try engine.write { try fill($0, 50_000) }
        try engine.write {
            for n in 0..<200 { try $0.put("a", EngineModel.key(n), bytes("other \(n)")) }
            for n in 0..<190 { try $0.delete("a", EngineModel.key(n)) }
            try $0.clear("a")
            try $0.put("a", bytes("k"), bytes("v"))
        }
        let again = try Engine(opening: disk.afterKill(seed: 1000), options: quietOptions())
        #expect(try again.everything() == ["a": [bytes("k"): bytes("v")]])
        #expect(try again.problems() == [])
        try again.close()
        try engine.close()
    }

    @Test("S3: a label and a restore point's name are checked by the engine too, before anything is done")
    func names() throws {
        let disk = SimulatedDisk(seed: 7)
        try Engine.initialize(disk)
        let engine = try Engine(opening: disk, options: quietOptions())
        let (end, calls) = (engine.appendedLSN, disk.calls)
        for label in ["", "a/b", "..", "a\nb", "\u{1B}[2J", "a\u{0}", String(repeating: "a", count: 64)] {
            let error = #expect(throws: EngineError.self) { try engine.beginBackup(label: label, fast: true) }
            #expect(error?.diagnosis.status == .usage)
            #expect(throws: EngineError.self) { try engine.restorePoint(label) }
        }
        #expect(engine.appendedLSN == end && disk.calls == calls && engine.status.runningBackups == 0)
        try engine.close()
    }

    @Test("D1: a checkpoint recycles no segment that waits for the archive, and those that are in it")
    func waitingForArchive() throws {
        let disk = SimulatedDisk(seed: 7)
        try Engine.initialize(disk)
        var options = quietOptions()
        options.archiving = true
        let engine = try Engine(opening: disk, options: options)
        func goOn() throws {
            for n in 0..<3 {
                try engine.write { try $0.put("a", bytes("k"), bytes("\(n)")) }
                try engine.switchWAL()
                try engine.checkpoint()
            }
        }
        try goOn()
        let waiting = (1...3).map { SegmentName(timeline: .first, segment: SegmentNumber($0)) }
        for name in waiting {
            #expect(try disk.exists(name.walPath) && disk.exists(name.readyPath), "\(name)")
            try disk.rename(name.readyPath, to: name.donePath)
        }
        try goOn()
        for name in waiting { #expect(try !disk.exists(name.walPath) && !disk.exists(name.donePath), "\(name)") }
        try engine.close()
    }

    @Test("D1: what an earlier run committed, and a restore point alone, make the next timed switch")
    func switchAfterRestart() throws {
        let disk = SimulatedDisk(seed: 7)
        try Engine.initialize(disk)
        let engine = try Engine(opening: disk, options: quietOptions())
        try engine.write { try $0.put("a", bytes("k"), bytes("1")) }
        let committed = engine.publishedLSN
        engine.abandon()
        let again = try Engine(opening: disk, options: quietOptions())
        let switched = try #require(try again.switchWALIfCommitted())
        #expect(switched >= committed)
        #expect(try again.switchWALIfCommitted() == nil)
        let named = try again.restorePoint("alone")
        #expect(try #require(try again.switchWALIfCommitted()) >= named)
        #expect(try again.switchWALIfCommitted() == nil)
        try again.close()
    }

    @Test("A1: a durable write is there after the power fails; one not flushed, or half, is there whole or not at all")
    func powerLoss() throws {
        let disk = SimulatedDisk(seed: 2)
        try Engine.initialize(disk)
        // Some hundred pages, several records of the log.
        let many = 400
        var outcomes: Set<String> = []
        for isFlushing in [false, true] {
            let running = disk.afterKill(seed: 1)
            let engine = try Engine(opening: running, options: quietOptions())
            try engine.write { try $0.put("a", bytes("kept"), bytes("1")) }
            try engine.write(.asynchronous) { transaction in
                for n in 0..<many { try transaction.put("b", EngineModel.key(n), [UInt8](repeating: 7, count: 3000)) }
            }
            #expect(try engine.read { try $0.count("b") } == UInt64(many))
            if isFlushing {
                // The batch was written; the power fails in its sync.
                running.injectFaults { call in call.kind == .sync ? .error(PowerLoss.code) : nil }
                #expect(throws: EngineError.self) { try engine.flush(through: engine.appendedLSN) }
            }
            engine.abandon()
            for seed in 0..<40 {
                let again = try Engine(opening: running.restart(seed: UInt64(seed)), options: quietOptions())
                #expect(try again.read { try $0.get("a", bytes("kept")) } == bytes("1"), "seed \(seed)")
                let trees = try again.everything()
                #expect(trees["b"] == nil || trees["b"]?.count == many, "seed \(seed)")
                outcomes.insert("\(isFlushing) \(trees["b"] != nil)")
                #expect(try again.problems() == [], "seed \(seed)")
                again.abandon()
            }
        }
        #expect(outcomes.contains("false false"), "what was never flushed is gone")
    }

    @Test("with its threads, on a real disk: two writers, two readers, checkpoints beside them")
    func realDisk() throws {
        let directory = try TemporaryDirectory("engine")
        let disk = try RealDisk(root: directory.path)
        try Engine.initialize(disk)
        var options = EngineOptions(
            cacheBytes: 2 << 20, versionBytes: 4 << 20, transactionBytes: 4 << 20, checkpointWALBytes: 1 << 20)
        options.onFatal = { Issue.record("fatal: \($0)") }
        let engine = try Engine(opening: disk, options: options)
        DispatchQueue.concurrentPerform(iterations: 4) { worker in
            do {
                var random = HoldfastTestSupport.SeededGenerator(seed: UInt64(worker))
                for round in 0..<60 {
                    if worker < 2 {
                        try engine.write { transaction in
                            for n in 0..<50 {
                                let key = EngineModel.key(Int.random(in: 0..<5000, using: &random))
                                try transaction.put("w\(worker)", key, bytes("\(round) \(n) ") + key)
                            }
                        }
                    } else {
                        try engine.read { snapshot in
                            _ = try HoldfastEngineTests.everything(snapshot)
                        }
                    }
                }
            } catch { Issue.record("worker \(worker): \(error)") }
        }
        #expect(try engine.problems() == [])
        let before = try engine.everything()
        try engine.close()
        let again = try Engine(opening: disk, options: options)
        #expect(try again.everything() == before)
        try again.close()
    }
}
