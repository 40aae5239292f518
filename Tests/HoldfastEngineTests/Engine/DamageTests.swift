import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("Damage is found, named, and never served")
struct DamageTests {
    /// A directory with some hundred pages, closed in order.
    private static func filled() throws -> (disk: SimulatedDisk, content: [String: [[UInt8]: [UInt8]]]) {
        let disk = try CrashTests.initialized(seed: 11)
        let engine = try Engine(opening: disk, options: quietOptions())
        try engine.write { transaction in
            for n in 0..<1500 {
                try transaction.put("t", EngineModel.key(n), [UInt8](repeating: UInt8(n & 255), count: 90))
            }
            try transaction.put("big", bytes("k"), [UInt8](repeating: 7, count: 50_000))
        }
        let content = try engine.everything()
        try engine.close()
        return (disk, content)
    }

    private func pageCount(_ disk: SimulatedDisk) throws -> UInt32 {
        let engine = try Engine(opening: disk.afterKill(seed: 1), options: quietOptions())
        return try engine.read { try $0.operation { try PageSpace.pageCount($0) } }
    }

    /// Reads everything; the error that named the damage, or `nil`.
    private func damageMet(_ disk: SimulatedDisk) throws -> EngineError? {
        do {
            let engine = try Engine(opening: disk, options: quietOptions())
            _ = try engine.everything()
            return nil
        } catch let error as EngineError { return error }
    }

    @Test("B5: a page with flipped bits, a page in another's place, a page of zeros: named when it is read")
    func pages() throws {
        let (disk, content) = try Self.filled()
        let count = Int(try pageCount(disk))
        #expect(count > 20)
        let file = PageNumber.filePath(0)
        var met = 0
        for page in 0..<count {
            let from = page * Page.bytes
            let other = (page + 1) % count * Page.bytes
            let damages: [(inout [UInt8]) -> Void] = [
                { $0[from + (page * 977) % Page.bytes] ^= 0x10 },
                { $0.replaceSubrange(from..<from + Page.bytes, with: $0[other..<other + Page.bytes]) },
                { $0.replaceSubrange(from..<from + Page.bytes, with: repeatElement(0, count: Page.bytes)) },
            ]
            for damage in damages {
                let copy = disk.afterKill(seed: 1)
                copy.damage(file, damage)
                switch try damageMet(copy) {
                case .damagedPage(let number, _):
                    #expect(number == PageNumber(UInt32(page)))
                    met += 1
                case nil:
                    // Nothing that anybody can read refers to it: a free page, or one of the free list.
                    let engine = try Engine(opening: copy, options: quietOptions())
                    #expect(try engine.everything() == content)
                case .some(let error): Issue.record("page \(page): \(error)")
                }
            }
        }
        // Page 0 is read by writers, the tree's pages by readers: nearly all are met.
        #expect(met > count * 2)
    }

    @Test("B5: what a backup reads is what the disk holds, while pages are being written")
    func backupReads() throws {
        let (disk, _) = try Self.filled()
        let engine = try Engine(opening: disk, options: quietOptions())
        let start = try engine.beginBackup(label: "b", fast: true)
        let files = try engine.backupFiles(start.token)
        #expect(files.map(\.path) == [PageNumber.filePath(0)])
        let count = Int(files[0].bytes) / Page.bytes
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count * Page.bytes, alignment: 4096)
        defer { memory.deallocate() }
        try engine.readPages(from: PageNumber(0), count: count, into: memory)
        for page in 0..<count {
            let view = Page(memory.baseAddress! + page * Page.bytes)
            #expect(view.fault(expected: PageNumber(UInt32(page))) == nil)
        }
        let stop = try engine.endBackup(start.token)
        let label = try BackupLabel(decoding: stop.label)
        #expect(label.start == start.startLSN && label.stop == stop.stopLSN && label.label == "b")
        #expect(label.start < label.stop && engine.durableLSN >= label.stop)
        #expect(throws: EngineError.self) { try engine.endBackup(start.token) }
    }

    @Test("C1: the log that a running backup needs stays, whatever is checkpointed meanwhile")
    func backupKeepsLog() throws {
        let (disk, _) = try Self.filled()
        let engine = try Engine(opening: disk, options: quietOptions())
        let start = try engine.beginBackup(label: "b", fast: true)
        let first = SegmentName(timeline: .first, segment: SegmentNumber(containing: start.startLSN))
        func goOn() throws {
            for n in 0..<4 {
                try engine.write { try $0.put("t", bytes("later"), bytes("\(n)")) }
                try engine.switchWAL()
                try engine.checkpoint()
            }
        }
        try goOn()
        #expect(try disk.exists(first.walPath), "\(first) went while the backup ran")
        _ = try engine.endBackup(start.token)
        try goOn()
        #expect(try !disk.exists(first.walPath), "\(first) is kept for nothing")
    }

    @Test("C1, C2: a backup's read of pages waits for their write, and the write for the read")
    func readsAndWritesApart() throws {
        let gate = PageGate()
        let order = Mutex<[String]>([])
        let hasBegun = Atomic<Bool>(false)
        /// `other` on a thread while `first` is not yet over; both are noted when they are claimed or about to end.
        func overlap(first: String, end: () -> Void, other: @escaping @Sendable () -> Void) {
            hasBegun.store(false, ordering: .relaxed)
            let done = DispatchSemaphore(value: 0)
            Thread {
                hasBegun.store(true, ordering: .relaxed)
                other()
                done.signal()
            }.start()
            // Time enough for the other one to get in, if nothing held it up.
            while !hasBegun.load(ordering: .relaxed) { sched_yield() }
            for _ in 0..<100 { sched_yield() }
            order.withLock { $0.append(first) }
            end()
            done.wait()
        }
        for _ in 0..<200 {
            gate.beginWrite(3..<5)
            overlap(first: "write", end: { gate.endWrite(3..<5) }) {
                try! gate.beginRead(4..<8)  // It throws only once the gate is closed.
                order.withLock { $0.append("read") }
                gate.endRead(4..<8)
            }
            try gate.beginRead(4..<8)
            overlap(first: "read", end: { gate.endRead(4..<8) }) {
                gate.beginWrite(3..<5)
                order.withLock { $0.append("write") }
                gate.endWrite(3..<5)
            }
        }
        let found = order.withLock { $0 }
        #expect(found == (0..<200).flatMap { _ in ["write", "read", "read", "write"] })
    }

    @Test(
        "B4: a segment is missing: the checkpoint's, one in the middle, all of them: refused; what was only prepared: fine"
    )
    func segments() throws {
        let disk = try CrashTests.initialized(seed: 3)
        let engine = try Engine(opening: disk, options: quietOptions())
        for n in 0..<4 {
            try engine.write { try $0.put("t", bytes("\(n)"), bytes("\(n)")) }
            if n < 3 { try engine.switchWAL() }
        }
        try engine.write { try $0.put("t", bytes("last"), bytes("last")) }
        engine.abandon()
        let names = try disk.list("wal").compactMap { SegmentName($0) }
        #expect(names.count >= 4)
        let needed = names.filter { $0.segment <= SegmentNumber(containing: engine.durableLSN) }
        for name in needed.dropLast() {
            let copy = disk.afterKill(seed: 1)
            copy.lose(name.walPath)
            let error = try damageMet(copy)
            #expect(error?.diagnosis.status == .dataError, "\(name): \(String(describing: error))")
        }
        let emptied = disk.afterKill(seed: 1)
        for name in names { emptied.lose(name.walPath) }
        #expect(try damageMet(emptied)?.diagnosis.status == .dataError)
        // A segment that nothing was written to yet.
        let prepared = disk.afterKill(seed: 1)
        let ahead = SegmentName(timeline: .first, segment: names.last!.segment.next)
        try prepared.open(ahead.walPath, .create).setSize(UInt64(SegmentNumber.bytes))
        #expect(try damageMet(prepared) == nil)
        prepared.lose(ahead.walPath)
        #expect(try damageMet(prepared.afterKill(seed: 1)) == nil)
    }

    @Test("B3: a log without its last checkpoint is refused, although the pages are whole: it was known to go on")
    func cutAtCheckpoint() throws {
        let (disk, _) = try Self.filled()
        let control = try ControlFile(opening: disk.afterKill(seed: 1)).current
        let path = SegmentName(timeline: .first, segment: SegmentNumber(containing: control.redo.lsn)).walPath
        let from = LogLayout.offset(control.redo.lsn)
        disk.damage(path) { $0.replaceSubrange(from..., with: repeatElement(0, count: $0.count - from)) }
        let error = try #require(try damageMet(disk))
        #expect(error.diagnosis.status == .dataError)
        #expect(error.description.contains("\(control.knownDurableEnd)"), "\(error)")
    }

    @Test(
        "B3: a start says in the log itself that what it read was durable: damage there shows without the control file")
    func witnessOfAStart() throws {
        let disk = try CrashTests.initialized(seed: 4)
        let engine = try Engine(opening: disk, options: quietOptions())
        try engine.write { try $0.put("t", bytes("a"), bytes("1")) }
        let end = engine.durableLSN
        engine.abandon()
        let killed = disk.afterKill(seed: 4)
        try Engine(opening: killed, options: quietOptions()).abandon()
        let file = try ControlFile(opening: killed)
        var control = file.current
        control.knownDurableEnd = control.redo.lsn
        try file.writeBoth(control)
        file.close()
        killed.damage(SegmentName(timeline: .first, segment: SegmentNumber(containing: end)).walPath) {
            $0[LogLayout.offset(end) - 20] ^= 1
        }
        let error = try damageMet(killed.afterKill(seed: 5))
        #expect(error?.diagnosis.status == .dataError, "\(String(describing: error))")
    }

    @Test("B2: rubbish behind the log's end is cleared by a start, so that what is written over it later can be read")
    func rubbishBehindTheEnd() throws {
        let disk = try CrashTests.initialized(seed: 4)
        let engine = try Engine(opening: disk, options: quietOptions())
        try engine.write { try $0.put("t", bytes("a"), bytes("1")) }
        let end = engine.durableLSN
        engine.abandon()
        let killed = disk.afterKill(seed: 4)
        killed.damage(SegmentName(timeline: .first, segment: SegmentNumber(containing: end)).walPath) {
            let from = LogLayout.offset(end)
            $0.replaceSubrange(from..<from + 300_000, with: repeatElement(0xA5, count: 300_000))
        }
        let again = try Engine(opening: killed, options: quietOptions())
        // A switch fills the rest of the segment up, and relies on its being zero.
        try again.write { try $0.put("t", bytes("b"), bytes("2")) }
        try again.switchWAL()
        try again.write { try $0.put("t", bytes("c"), bytes("3")) }
        again.abandon()
        let last = try Engine(opening: killed.afterKill(seed: 5), options: quietOptions())
        #expect(try last.read { try $0.count("t") } == 3)
        #expect(try last.problems() == [])
    }

    @Test("B7: any byte of any file flipped after an orderly stop: an error that names it, or equal content")
    func flips() throws {
        let seed = SeededGenerator64.announced("flipped bytes")
        let (disk, content) = try Self.filled()
        let pages = Int(try pageCount(disk))
        var random = SeededGenerator64(seed: seed)
        var flips: [(path: String, at: Int, bit: UInt8)] = []
        func add(_ path: String, _ at: Int) {
            flips.append((path, at, UInt8(1 << Int.random(in: 0..<8, using: &random))))
        }
        for (path, bytes) in disk.contents() where !bytes.isEmpty {
            if path.hasPrefix("pages/") {
                for _ in 0..<60 { add(path, Int.random(in: 0..<pages * Page.bytes, using: &random)) }
                for page in 0..<min(pages, 12) { add(path, page * Page.bytes + Int.random(in: 0..<24, using: &random)) }
            } else if path.hasPrefix("wal/") {
                let used = (bytes.lastIndex { $0 != 0 } ?? 0) + 1
                for _ in 0..<50 { add(path, Int.random(in: max(0, used - 2000)..<used, using: &random)) }
                for _ in 0..<40 { add(path, Int.random(in: 0..<used, using: &random)) }
                for _ in 0..<10 { add(path, Int.random(in: 0..<bytes.count, using: &random)) }
            } else {
                // The control file: what each of its slots says, and all of both.
                for slot in stride(from: 0, to: bytes.count, by: ControlData.slotBytes) {
                    for _ in 0..<80 { add(path, slot + Int.random(in: 0..<200, using: &random)) }
                    for _ in 0..<40 { add(path, slot + Int.random(in: 0..<ControlData.slotBytes, using: &random)) }
                }
            }
        }
        #expect(Set(flips.map { $0.path.prefix(4) }) == ["cont", "page", "wal/"])
        let failures = concurrently(flips.map { "\($0.path) \($0.at) \($0.bit)" }) { text in
            let parts = text.split(separator: " ")
            let copy = disk.afterKill(seed: 1)
            copy.damage(String(parts[0])) { $0[Int(parts[1])!] ^= UInt8(parts[2])! }
            do {
                let engine = try Engine(opening: copy, options: quietOptions())
                guard try engine.everything() == content else { throw Unexpected("other content was served") }
                guard try engine.problems().allSatisfy({ $0.contains("page ") }) else { throw Unexpected("unnamed") }
            } catch let error as any DiagnosableError {
                guard error.diagnosis.status == .dataError else { throw error }
            }
        }
        #expect(failures == [])
    }

    /// Commits between checkpoints and segments, those behind the last checkpoint as well; killed.
    private func killed() throws -> (disk: SimulatedDisk, content: [String: [[UInt8]: [UInt8]]]) {
        let disk = try CrashTests.initialized(seed: 12)
        let engine = try Engine(opening: disk, options: quietOptions())
        for round in 0..<4 {
            for n in 0..<20 {
                try engine.write { try $0.put("t", EngineModel.key(round * 15 + n), bytes("round \(round)")) }
            }
            try engine.switchWAL()
            if round < 3 { try engine.checkpoint() }
        }
        let content = try engine.everything()
        engine.abandon()
        return (disk.afterKill(seed: 1), content)
    }

    @Test("B6, B7: one slot of the control file is damaged at any byte: the other one leads to the same content")
    func oneSlot() throws {
        let (disk, content) = try killed()
        var places: [Int] = []
        for slot in [0, ControlData.slotBytes] {
            places += (0..<200).map { slot + $0 }
            places += stride(from: slot + 200, to: slot + ControlData.slotBytes, by: 311)
            places += (4092..<4096).map { slot + $0 }
        }
        let failures = concurrently(places) { at in
            let copy = disk.afterKill(seed: 1)
            copy.damage(ControlData.path) { $0[at] ^= 1 << UInt8(at % 8) }
            let engine = try Engine(opening: copy, options: quietOptions())
            guard try engine.everything() == content else { throw Unexpected("other content was served") }
            let problems = try engine.problems()
            guard problems.isEmpty else { throw Unexpected("\(problems)") }
            try engine.write { try $0.put("after", bytes("a"), bytes("b")) }
            engine.abandon()
            // Both slots are sound again.
            let again = copy.afterKill(seed: 1)
            again.damage(ControlData.path) { $0[(at + ControlData.slotBytes) % (2 * ControlData.slotBytes)] ^= 1 }
            _ = try Engine(opening: again, options: quietOptions())
        }
        #expect(failures == [])
    }

    @Test("B6: both slots of the control file are damaged: refused with the way out, and nothing is changed")
    func bothSlots() throws {
        let (disk, _) = try killed()
        for (first, second) in [(0, 0), (9, 40), (60, 4095), (3000, 12)] {
            let copy = disk.afterKill(seed: 1)
            copy.damage(ControlData.path) {
                $0[first] ^= 1
                $0[ControlData.slotBytes + second] ^= 1
            }
            let before = copy.contents()
            guard case .damagedControl = try damageMet(copy) else {
                Issue.record("\(first), \(second): not refused")
                continue
            }
            let diagnosis = try #require(try damageMet(copy.afterKill(seed: 1))).diagnosis
            #expect(diagnosis.status == .dataError && diagnosis.place == ControlData.path)
            #expect(diagnosis.next?.contains("holdfast restore") == true)
            let isUnchanged = copy.contents() == before
            #expect(isUnchanged, "\(first), \(second): something was changed")
        }
    }

    @Test("B3: a record in the middle is damaged and later ones show that it was durable: refused, nothing changed")
    func middleOfLog() throws {
        let disk = try CrashTests.initialized(seed: 13)
        let engine = try Engine(opening: disk, options: quietOptions())
        // From where to where each commit lies.
        var commits: [(start: LSN, end: LSN)] = []
        for n in 0..<12 {
            let start = engine.appendedLSN
            try engine.write { try $0.put("t", EngineModel.key(n), [UInt8](repeating: UInt8(n), count: 300)) }
            commits.append((start, engine.publishedLSN))
            if n == 6 { try engine.switchWAL() }
        }
        engine.abandon()
        let crashed = disk.afterKill(seed: 1)
        // The last but one's durability shows in the last one's mark; of the last one nothing shows it.
        for (index, commit) in commits.dropLast().enumerated() {
            let first = LogLayout.firstRecord(atOrAfter: commit.start)
            let bytes = Int(commit.end - first)
            for distance in [4, 40, bytes / 2, bytes - 9] {
                let place = first + distance
                let copy = crashed.afterKill(seed: 1)
                let name = SegmentName(timeline: .first, segment: SegmentNumber(containing: place))
                copy.damage(name.walPath) { $0[LogLayout.offset(place)] ^= 0x04 }
                let before = copy.contents()
                let error = try damageMet(copy)
                guard case .log(let diagnosis) = error else {
                    Issue.record("commit \(index) at \(place): \(String(describing: error))")
                    continue
                }
                #expect(diagnosis.status == .dataError)
                #expect(diagnosis.what.contains("\(commit.start)"), "\(diagnosis)")
                #expect(diagnosis.place?.contains(name.walPath) == true, "\(diagnosis)")
                #expect(diagnosis.next?.contains("holdfast restore") == true, "\(diagnosis)")
                #expect(diagnosis.next?.contains("--target-lsn \(commit.start)") == true, "\(diagnosis)")
                let isUnchanged = copy.contents() == before
                #expect(isUnchanged, "commit \(index) at \(place): something was changed")
            }
        }
    }
}
