import Foundation
import HoldfastCore
import HoldfastTestSupport
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("Acknowledged writes survive a crash at any I/O call")
struct CrashTests {
    static func initialized(seed: UInt64) throws -> SimulatedDisk {
        let disk = SimulatedDisk(seed: seed)
        try Engine.initialize(disk)
        return disk
    }

    @Test(
        "A1, A2: the power fails at every I/O call of a workload with splits, merges, chains, checkpoints and switches")
    func everyCall() throws {
        let seed = SeededGenerator64.announced("crash at every call")
        let base = try Self.initialized(seed: seed)
        for isAsynchronous in [false, true] {
            let workload = Workload(seed: seed, isAsynchronous: isAsynchronous)
            let trial = base.afterKill(seed: seed)
            let whole = workload.run(on: trial)
            try #require(whole.isComplete, "\(whole.last)")
            print("crash points: \(trial.calls)")
            let failures = concurrently(Array(1...trial.calls)) { call in
                let disk = base.afterKill(seed: seed &+ UInt64(call))
                disk.failPower(atCall: call)
                let history = workload.run(on: disk)
                try verifyRecovered(
                    disk.restart(seed: seed ^ UInt64(call)), history, thorough: call % 5 == 0)
            }
            #expect(failures == [])
        }
    }

    @Test("A2: a page file made since the last sync is there under its name once the pages are synced")
    func newPageFile() throws {
        let page = [UInt8](repeating: 7, count: Page.bytes)
        for seed in 1...16 as ClosedRange<UInt64> {
            let disk = try Self.initialized(seed: seed)
            let pages = try PageFiles(disk)
            // The first page of the second file.
            try page.withUnsafeBytes { try pages.write(from: PageNumber(PageNumber.pagesPerFile), $0) }
            try pages.sync()
            let after = disk.restart(seed: seed)
            #expect(try after.exists(PageNumber.filePath(1)), "seed \(seed)")
        }
    }

    @Test("A4: a crash during recovery, at every call, again and again")
    func duringRecovery() throws {
        let seed = SeededGenerator64.announced("crash during recovery")
        let base = try Self.initialized(seed: seed)
        let workload = Workload(seed: seed)
        let trial = base.afterKill(seed: seed)
        _ = workload.run(on: trial)
        let points = [0.3, 0.62, 0.97].map { max(1, Int(Double(trial.calls) * $0)) }
        let failures = concurrently(points) { point in
            let disk = base.afterKill(seed: seed)
            disk.failPower(atCall: point)
            let history = workload.run(on: disk)
            let crashed = disk.restart(seed: seed &+ 7)
            let counted = crashed.afterKill(seed: seed)
            _ = try Engine(opening: counted, options: quietOptions())
            print("recovery calls after crash point \(point): \(counted.calls)")
            for call in 1...counted.calls {
                var at = crashed.afterKill(seed: UInt64(call))
                // Each attempt dies a little later than the one before, until one is left alone.
                for step in 0..<3 {
                    at.failPower(atCall: call + step * 3)
                    do {
                        _ = try Engine(opening: at, options: quietOptions())
                        throw Unexpected("recovery did not notice that the power failed at call \(call)")
                    } catch let error as Unexpected {
                        if call + step * 3 <= at.calls { throw error }
                    } catch {}
                    at = at.restart(seed: UInt64(call * 31 + step))
                }
                try verifyRecovered(at, history, thorough: call % 10 == 0)
            }
        }
        #expect(failures == [])
    }

    @Test("A3: an I/O error at every call, once and for good: a clean error, and everything acknowledged afterwards")
    func errors() throws {
        let seed = SeededGenerator64.announced("errors at every call")
        let base = try Self.initialized(seed: seed)
        let workload = Workload(seed: seed, transactions: 16)
        let trial = base.afterKill(seed: seed)
        _ = workload.run(on: trial)
        let failures = concurrently(Array(1...trial.calls)) { call in
            for isForGood in [false, true] {
                let disk = base.afterKill(seed: seed)
                disk.injectFaults { $0.number == call || (isForGood && $0.number > call) ? .error(.inputOutput) : nil }
                let history = workload.run(on: disk)
                if let unexpected = history.last as? Unexpected, unexpected.description != "none" { throw unexpected }
                // The process ends and starts again; or the power goes as well.
                try verifyRecovered(disk.afterKill(seed: seed), history, thorough: false)
                try verifyRecovered(disk.restart(seed: UInt64(call)), history, thorough: call % 10 == 0)
            }
        }
        #expect(failures == [])
    }

    @Test("A8: a write that stops half way at every call is completed or reported, never taken as whole")
    func shortWrites() throws {
        let seed = SeededGenerator64.announced("short writes")
        let base = try Self.initialized(seed: seed)
        let workload = Workload(seed: seed, transactions: 16)
        let trial = base.afterKill(seed: seed)
        let writes = Mutex<[Int]>([])
        trial.injectFaults { call in
            if call.kind == .write { writes.withLock { $0.append(call.number) } }
            return nil
        }
        _ = workload.run(on: trial)
        let failures = concurrently(writes.withLock { $0 }) { number in
            let disk = base.afterKill(seed: seed)
            disk.injectFaults { $0.number == number ? .half(.inputOutput) : nil }
            let history = workload.run(on: disk)
            try #require(history.errors > 0 || !history.isComplete, "the short write at call \(number) went unnoticed")
            try verifyRecovered(disk.restart(seed: UInt64(number)), history, thorough: false)
        }
        #expect(failures == [])
    }
}

/// The support target's generator: another of the name exists beside the tree's tests.
typealias SeededGenerator64 = HoldfastTestSupport.SeededGenerator
extension SeededGenerator64 {
    static func announced(_ test: String) -> UInt64 { announcedSeed(test) }
}
