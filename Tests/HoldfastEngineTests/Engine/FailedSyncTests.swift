import Foundation
import HoldfastCore
import HoldfastTestSupport
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("A failed sync ends the process, and recovery trusts only what is on the disk")
struct FailedSyncTests {
    /// The numbers of the calls of a kind that the workload makes.
    private func calls(
        _ workload: Workload, on base: SimulatedDisk, of kinds: Set<SimulatedDisk.Call.Kind>
    ) -> [SimulatedDisk.Call] {
        let found = Mutex<[SimulatedDisk.Call]>([])
        let disk = base.afterKill(seed: 1)
        disk.injectFaults { call in
            if kinds.contains(call.kind) { found.withLock { $0.append(call) } }
            return nil
        }
        _ = workload.run(on: disk)
        return found.withLock { $0 }
    }

    @Test(
        "A5: a sync fails, of the log, of pages, of the control file, of a directory: nothing is acknowledged after it")
    func stops() throws {
        let seed = SeededGenerator64.announced("failed syncs")
        let base = try CrashTests.initialized(seed: seed)
        let workload = Workload(seed: seed, transactions: 16)
        let syncs = calls(workload, on: base, of: [.sync, .syncDirectory])
        #expect(Set(syncs.map { $0.path.prefix(4) }).isSuperset(of: ["wal/", "cont", "page", "wal"]))
        let failures = concurrently(syncs) { sync in
            let fatal = Atomic<Int>(0)
            let disk = base.afterKill(seed: seed)
            disk.injectFaults { $0.number == sync.number ? .error(.inputOutput) : nil }
            let history = workload.run(on: disk) { _ in fatal.wrappingAdd(1, ordering: .relaxed) }
            guard !history.isComplete else { throw Unexpected("the failed sync went unnoticed") }
            if let engine = history.engine {
                guard fatal.load(ordering: .relaxed) == 1 else {
                    throw Unexpected("onFatal was called \(fatal.load(ordering: .relaxed)) times: \(history.last)")
                }
                do {
                    try engine.write { try $0.put("t0", bytes("late"), bytes("x")) }
                    throw Unexpected("a write was acknowledged after the failed sync")
                } catch EngineError.stopped, EngineError.closed {}
                do {
                    try engine.checkpoint()
                    throw Unexpected("a checkpoint completed after the failed sync")
                } catch EngineError.stopped, EngineError.closed {}
            }
            try verifyRecovered(disk.restart(seed: UInt64(sync.number)), history, thorough: false)
        }
        #expect(failures == [])
    }

    @Test("A5: pages cannot be brought to the device ahead of their sync: as fatal as a sync that fails")
    func writeBack() throws {
        let base = try CrashTests.initialized(seed: 1)
        func checkpoint(_ fault: @escaping @Sendable (Int) -> Bool) throws -> (
            syncs: Int, fatal: Int, error: (any Error)?
        ) {
            let disk = base.afterKill(seed: 1)
            let fatal = Atomic<Int>(0)
            let syncs = Atomic<Int>(0)
            var options = quietOptions()
            options.onFatal = { _ in fatal.wrappingAdd(1, ordering: .relaxed) }
            let engine = try Engine(opening: disk, options: options)
            defer { engine.abandon() }
            try engine.write { transaction in
                for key in 0..<60 { try transaction.put("t0", bytes("\(key)"), [UInt8](repeating: 7, count: 3000)) }
            }
            disk.injectFaults { call in
                guard call.kind == .sync, call.path.hasPrefix("pages/") else { return nil }
                return fault(syncs.wrappingAdd(1, ordering: .relaxed).oldValue) ? .error(.inputOutput) : nil
            }
            var thrown: (any Error)?
            do { try engine.checkpoint() } catch { thrown = error }
            if thrown != nil {
                #expect(throws: EngineError.self) { try engine.write { try $0.put("t0", bytes("late"), [1]) } }
                #expect(throws: EngineError.self) { try engine.checkpoint() }
            }
            return (syncs.load(ordering: .relaxed), fatal.load(ordering: .relaxed), thrown)
        }
        let whole = try checkpoint { _ in false }
        #expect(whole.syncs >= 2 && whole.fatal == 0 && whole.error == nil, "\(whole)")
        for failing in 0..<whole.syncs {
            let run = try checkpoint { $0 == failing }
            #expect(run.fatal == 1 && run.error != nil, "sync \(failing): \(run)")
        }
    }

    @Test("A6: after a failed sync the cache shows what the disk does not hold, and the power fails after recovery")
    func cacheLies() throws {
        let seed = SeededGenerator64.announced("lying cache")
        let base = try CrashTests.initialized(seed: seed)
        let workload = Workload(seed: seed, transactions: 16)
        let syncs = calls(workload, on: base, of: [.sync, .syncDirectory])
        let failures = concurrently(syncs) { sync in
            let disk = base.afterKill(seed: seed &+ UInt64(sync.number))
            disk.injectFaults { $0.number == sync.number ? .error(.inputOutput) : nil }
            let history = workload.run(on: disk)
            try recoverThenLosePower(disk, history, seed: UInt64(sync.number))
        }
        #expect(failures == [])
    }

    @Test("A6: after kill -9 the cache shows what was never synced, and the power fails after recovery")
    func unsyncedBytes() throws {
        let seed = SeededGenerator64.announced("killed")
        let base = try CrashTests.initialized(seed: seed)
        let workload = Workload(seed: seed, transactions: 16)
        let count = base.afterKill(seed: seed)
        _ = workload.run(on: count)
        let failures = concurrently(Array(stride(from: 1, through: count.calls, by: 2))) { call in
            let disk = base.afterKill(seed: seed)
            // The process is gone: no call has an effect any more.
            disk.injectFaults { $0.number >= call ? .error(.inputOutput) : nil }
            let history = workload.run(on: disk)
            try recoverThenLosePower(disk, history, seed: UInt64(call))
        }
        #expect(failures == [])
    }

    @Test("A6: what recovery is about to read is synced first: no power failure takes it any more")
    func settledBeforeRead() throws {
        let base = try CrashTests.initialized(seed: 1)
        let paths = ["wal/000000010000000000000001", "pages/00000000", "control", "backup_label", "recovery.signal"]
        for seed in 1...8 as ClosedRange<UInt64> {
            let disk = base.afterKill(seed: seed)
            for path in paths {
                // Several sectors, written by a process that was killed before it synced anything.
                try disk.open(path, .createOrOpen).write(bytes: [UInt8](repeating: 0xA5, count: 4096), at: 0)
            }
            let killed = disk.afterKill(seed: seed)
            try TrustedDirectory(killed).establish()
            let after = killed.restart(seed: seed)
            for path in paths {
                let isThere = try after.exists(path)
                #expect(isThere, "\(path), seed \(seed)")
                guard isThere else { continue }
                let found = try after.open(path, .read).readBytes(count: 4096, at: 0)
                #expect(found == [UInt8](repeating: 0xA5, count: 4096), "\(path), seed \(seed)")
            }
        }
    }

    @Test("A6, E4: an archiver that marks a segment while a directory is made trustworthy disturbs nothing")
    func markedMeanwhile() throws {
        let disk = try CrashTests.initialized(seed: 1)
        let mark = "wal/archive_status/000000010000000000000001"
        let (ready, done) = (mark + ".ready", mark + ".done")
        try disk.open(ready, .createOrOpen).close()
        disk.interleave { call in
            guard call.kind == .open, call.path == ready else { return }
            try? disk.rename(ready, to: done)
        }
        try TrustedDirectory(disk).establish()
        let marks = try disk.restart(seed: 2).list("wal/archive_status")
        #expect(marks == ["000000010000000000000001.done"], "the directory is synced behind it")
        // What is no mark must be there.
        let page = "pages/00000000"
        disk.interleave { call in if call.kind == .open, call.path == page { try? disk.remove(page) } }
        #expect(throws: DiskError.self) { try TrustedDirectory(disk).establish() }
    }

    /// What the first recovery serves must still be there when the power fails right after it.
    private func recoverThenLosePower(_ disk: SimulatedDisk, _ history: Workload.History, seed: UInt64) throws {
        let killed = disk.afterKill(seed: seed)
        let engine = try Engine(opening: killed, options: quietOptions())
        let first = try history.check(engine.everything())
        for attempt in 0..<2 {
            let after = try Engine(opening: killed.restart(seed: seed &* 3 &+ UInt64(attempt)), options: quietOptions())
            let second = try history.check(after.everything())
            guard history.states[first] == history.states[second] else {
                throw Unexpected("recovery served state \(first), and after a power failure state \(second)")
            }
            let problems = try after.problems()
            guard problems.isEmpty else { throw Unexpected("\(problems)") }
        }
    }
}
