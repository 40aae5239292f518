import Foundation
import HoldfastCore
import HoldfastTestSupport
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("Without space writes are refused, reads go on, and writes resume by themselves")
struct NoSpaceTests {
    /// Calls that want space under one of these paths fail while `isFull`.
    private final class FullDisk: Sendable {
        let disk: SimulatedDisk
        let isFull = Atomic<Bool>(false)

        init(_ disk: SimulatedDisk, _ prefix: String) {
            self.disk = disk
            disk.injectFaults { [self] call in
                let wantsSpace = [.write, .allocate, .setSize].contains(call.kind)
                let isNew = call.kind == .open && call.path.hasSuffix(".tmp")
                return isFull.load(ordering: .relaxed) && (wantsSpace || isNew) && call.path.hasPrefix(prefix)
                    ? .error(.noSpace) : nil
            }
        }
    }

    private func fill(_ engine: Engine, _ from: Int, bytes count: Int) throws -> Int {
        var written = from
        while written < from + 4000 {
            let value = [UInt8](repeating: UInt8(truncatingIfNeeded: written), count: count)
            do {
                try engine.write { try $0.put("t", bytes("\(written)"), value) }
            } catch EngineError.writesRefused { return written }
            written += 1
        }
        throw Unexpected("the disk never got full")
    }

    @Test("A7: no space for the log", arguments: [false, true])
    func log(isRemoved: Bool) throws {
        let disk = try CrashTests.initialized(seed: 5)
        let full = FullDisk(disk, "wal/0")
        let engine = try Engine(opening: disk, options: quietOptions())
        // Written segments stay writable on a full disk; it is the next one that cannot be made.
        disk.injectFaults { call in
            full.isFull.load(ordering: .relaxed) && call.path.hasSuffix(".tmp") ? .error(.noSpace) : nil
        }
        full.isFull.store(true, ordering: .relaxed)
        let count = try fill(engine, 0, bytes: 200_000)
        try expectRefused(engine, count)
        full.isFull.store(false, ordering: .relaxed)
        try engine.write { try $0.put("t", bytes("resumed"), bytes("yes")) }
        #expect(engine.status.writeRefusal == nil)
        #expect(try engine.read { try $0.count("t") } == UInt64(count + 1))
        #expect(try engine.problems() == [])
        if isRemoved { try engine.close() }
        let again = try Engine(opening: disk.restart(seed: 6), options: quietOptions())
        #expect(try again.read { try $0.count("t") } == UInt64(count + 1))
    }

    @Test("A7: a segment has its space, not only its size, before it is written to")
    func segmentSpace() throws {
        let directory = try TemporaryDirectory("segment-space")
        let disk = try RealDisk(root: directory.path)
        try Engine.initialize(disk)
        let names = try disk.list("wal").filter { $0.count == 24 }
        #expect(!names.isEmpty)
        for name in names {
            var status = stat()
            #expect(stat(directory.path + "/wal/" + name, &status) == 0)
            #expect(status.st_size == 16 << 20)
            // Blocks of 512 bytes, whatever the file system's own.
            #expect(status.st_blocks * 512 >= status.st_size, "\(name) has holes")
        }
    }

    @Test("A7: where what is wished for has no room, what is needed may have")
    func scarceSpace() throws {
        let disk = try CrashTests.initialized(seed: 9)
        let pages = try PageFiles(disk)
        let next = UInt32(pages.allocatedPages)
        let used = disk.contents().values.reduce(0) { $0 + $1.count }
        disk.limitCapacity(used + 4 * Page.bytes)
        try pages.extend(toCover: PageNumber(next + 2))
        #expect(pages.allocatedPages == UInt64(next + 3))
        #expect(throws: DiskError.self) { try pages.extend(toCover: PageNumber(next + 9)) }
        #expect(pages.allocatedPages == UInt64(next + 3))
    }

    @Test("A7: pages that recovery makes have their space before they are written, and belong to a backup")
    func recoveredPages() throws {
        for seed in 1...6 as ClosedRange<UInt64> {
            let disk = try CrashTests.initialized(seed: seed)
            let engine = try Engine(opening: disk, options: quietOptions())
            try engine.write { try $0.put("t", bytes("large"), [UInt8](repeating: 1, count: 17 << 20)) }
            // The growth of the page file was not synced: it may be gone, and the log has the pages.
            let again = try Engine(opening: disk.restart(seed: seed), options: quietOptions())
            let count = try again.read { try $0.operation { try PageSpace.pageCount($0) } }
            #expect(again.cache.store.allocatedPages >= UInt64(count), "seed \(seed)")
            let backup = try again.beginBackup(label: "b", fast: true)
            let held = try again.backupFiles(backup.token).reduce(0) { $0 + $1.bytes }
            #expect(held >= UInt64(count) * UInt64(Page.bytes), "seed \(seed)")
        }
    }

    @Test("A7: no space for pages")
    func pages() throws {
        let disk = try CrashTests.initialized(seed: 7)
        let engine = try Engine(opening: disk, options: quietOptions())
        let full = FullDisk(disk, "pages/")
        full.isFull.store(true, ordering: .relaxed)
        let count = try fill(engine, 0, bytes: 9000)
        try expectRefused(engine, count)
        // What has space already can still be written by a checkpoint: it was allocated when the commit was accepted.
        disk.injectFaults { $0.kind == .allocate ? .error(.noSpace) : nil }
        try engine.checkpoint()
        disk.injectFaults(nil)
        try engine.write { try $0.put("t", bytes("resumed"), [UInt8](repeating: 1, count: 500_000)) }
        #expect(engine.status.writeRefusal == nil)
        let again = try Engine(opening: disk.restart(seed: 8), options: quietOptions())
        #expect(try again.read { try $0.count("t") } == UInt64(count + 1))
        #expect(try again.problems() == [])
    }

    private func expectRefused(_ engine: Engine, _ count: Int) throws {
        #expect(engine.status.writeRefusal?.contains("no space left") == true)
        // More than what is left of the space that there was.
        let large = [UInt8](repeating: 9, count: 17 << 20)
        do {
            try engine.write { try $0.put("t", bytes("x"), large) }
            Issue.record("a write was accepted without space")
        } catch EngineError.writesRefused {}
        for n in 0..<count { #expect(try engine.read { try $0.get("t", bytes("\(n)")) } != nil) }
        #expect(try engine.read { try $0.get("t", bytes("\(count)")) } == nil)
    }

    @Test("A7: no space at any point of a workload, and while recovering")
    func everywhere() throws {
        let seed = SeededGenerator64.announced("no space")
        let base = try CrashTests.initialized(seed: seed)
        let workload = Workload(seed: seed, transactions: 16)
        let trial = base.afterKill(seed: seed)
        _ = workload.run(on: trial)
        let wanting = Mutex<[Int]>([])
        let counted = base.afterKill(seed: seed)
        counted.injectFaults { call in
            let isSegment = call.path.hasPrefix("wal/0") && !call.path.hasSuffix(".tmp")
            let wants = [.write, .allocate, .createDirectory].contains(call.kind) && !isSegment
            if wants { wanting.withLock { $0.append(call.number) } }
            return nil
        }
        _ = workload.run(on: counted)
        let failures = concurrently(wanting.withLock { $0 }) { call in
            let disk = base.afterKill(seed: seed)
            disk.injectFaults { $0.number == call ? .error(.noSpace) : nil }
            let fatal = Atomic<Int>(0)
            let history = workload.run(on: disk) { _ in fatal.wrappingAdd(1, ordering: .relaxed) }
            if let unexpected = history.last as? Unexpected, unexpected.description != "none" { throw unexpected }
            guard fatal.load(ordering: .relaxed) == 0 else { throw Unexpected("no space was fatal: \(history.last)") }
            let crashed = disk.restart(seed: UInt64(call))
            // A start on a full disk says so, changes nothing that is trusted, and works when there is room.
            crashed.injectFaults { [.write, .allocate].contains($0.kind) ? .error(.noSpace) : nil }
            do {
                _ = try Engine(opening: crashed, options: quietOptions())
                throw Unexpected("recovery wrote nothing")
            } catch let error as EngineError {
                guard "\(error)".contains("o space left") else { throw error }
            }
            crashed.injectFaults(nil)
            try verifyRecovered(crashed, history, thorough: call % 8 == 0)
        }
        #expect(failures == [])
    }
}
