import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("A check of a directory names every kind of damage, and writes nothing")
struct DirectoryCheckTests {
    @Test("a new directory and one that was used are sound")
    func sound() throws {
        let fresh = try CrashTests.initialized(seed: 3)
        let before = fresh.contents()
        #expect(try DirectoryCheck(disk: fresh).run().problems == [])
        #expect(fresh.contents() == before)
        let used = try CheckedDirectory.filled()
        let result = try used.check()
        #expect(result.problems == [] && result.unlisted == 0)
        #expect(result.pages >= 50)
        // The lock is given back.
        #expect(try used.check() == result)
        try Engine(opening: used.disk, options: quietOptions()).close()
    }

    private struct Plant {
        var what: String
        /// The page that is changed, and the one that is named.
        var page: KeyPath<CheckedDirectory, PageNumber>
        var named: KeyPath<CheckedDirectory, PageNumber>
        var words: String
        var stamping = true
        var change: (CheckedDirectory, UnsafeMutableRawPointer) throws -> Void
    }

    private static var plants: [Plant] {
        [
            Plant(what: "keys out of order", page: \.leaf, named: \.leaf, words: "out of order") { _, page in
                let node = Node(page)
                let (head, offset) = (node.head(0), node.cellOffset(0))
                node.setSlot(0, head: node.head(1), cellOffset: node.cellOffset(1))
                node.setSlot(1, head: head, cellOffset: offset)
            },
            Plant(
                what: "a separator above its child's keys", page: \.root, named: \.secondLeaf,
                words: "its first key is below what its parent says"
            ) { _, page in
                Node(page).setSlot(0, head: .max, cellOffset: Node(page).cellOffset(0))
            },
            Plant(
                what: "a page reachable twice", page: \.root, named: \.secondLeaf, words: "it is used twice"
            ) { directory, page in
                Node(page).firstChild = directory.secondLeaf
            },
            Plant(what: "a page of a tree in the free list", page: \.freeList, named: \.leaf, words: "it is used twice")
            {
                directory, page in
                FreeListPage(page).count -= 1
                FreeListPage(page).push(directory.leaf)
            },
            Plant(what: "a page lost by the tree", page: \.root, named: \.leaf, words: "neither in use nor free") {
                directory, page in
                Node(page).firstChild = directory.secondLeaf
            },
            Plant(
                what: "a wrong count of free pages", page: \.zero, named: \.zero, words: "free pages, and the list has"
            ) {
                $1.storeBytes(of: Meta($1).freePages + 1, toByteOffset: 32, as: UInt32.self)
            },
            Plant(
                what: "a wrong count of records", page: \.one, named: \.root, words: "the catalog counts 1501 records"
            ) {
                directory, page in
                for slot in 0..<Node(page).count {
                    let cell = try Node(page).cell(slot, PageNumber(1))
                    guard cell.payload.loadUnaligned(as: UInt32.self) == directory.root.rawValue else { continue }
                    cell.payload.storeBytes(of: 1501, toByteOffset: 16, as: UInt64.self)
                }
            },
            Plant(what: "wrong siblings", page: \.leaf, named: \.leaf, words: "as the next leaf") { _, page in
                Node(page).next = PageNumber(Node(page).next.rawValue + 1)
            },
            Plant(what: "wrong dead bytes", page: \.leaf, named: \.leaf, words: "dead bytes") {
                Node($1).deadBytes += 1
            },
            Plant(what: "a chain cut short", page: \.overflow, named: \.overflow, words: "piece of a large value") {
                Page($1).lower -= 1
            },
            Plant(what: "a page of another kind", page: \.overflow, named: \.overflow, words: "piece of a large value")
            {
                Page($1).rawKind = PageKind.free.rawValue
            },
            Plant(what: "a child outside", page: \.root, named: \.root, words: "outside the page space") {
                Node($1).firstChild = PageNumber(1 << 30)
            },
            Plant(what: "a page newer than the log", page: \.leaf, named: \.leaf, words: "behind the end of the log") {
                Page($1).lsn = LSN(1 << 50)
            },
            Plant(what: "a flipped bit", page: \.leaf, named: \.leaf, words: "checksum", stamping: false) {
                let byte = $1.load(fromByteOffset: 5000, as: UInt8.self)
                $1.storeBytes(of: byte ^ 4, toByteOffset: 5000, as: UInt8.self)
            },
            Plant(
                what: "a page in another's place", page: \.leaf, named: \.leaf, words: "these are the bytes of page",
                stamping: false
            ) { directory, page in
                let at = Int(directory.secondLeaf.fileOffset)
                let bytes = directory.disk.contents()[PageNumber.filePath(0)]![at..<at + Page.bytes]
                UnsafeMutableRawBufferPointer(start: page, count: Page.bytes).copyBytes(from: bytes)
            },
            Plant(
                what: "zeros that a tree points to", page: \.leaf, named: \.leaf,
                words: "all zeros but something refers",
                stamping: false
            ) { _, page in
                page.initializeMemory(as: UInt8.self, repeating: 0, count: Page.bytes)
            },
        ]
    }

    @Test("B5: each kind of damage is named with its page", arguments: plants.indices)
    func planted(index: Int) throws {
        let plant = Self.plants[index]
        let directory = try CheckedDirectory.filled()
        try directory.edit(directory[keyPath: plant.page], stamping: plant.stamping) { page in
            try plant.change(directory, page)
        }
        let result = try directory.check()
        #expect(
            result.names("page \(directory[keyPath: plant.named])", plant.words),
            "\(plant.what) on page \(directory[keyPath: plant.page]): \(result.problems)")
        // Bytes that are damaged are named once, although whoever follows the tree meets them too.
        let named = result.problems.count { $0.object == "page \(directory[keyPath: plant.named])" }
        #expect(plant.stamping || named == 1, "\(result.problems)")
    }

    @Test("a leaked page: one that the free list forgot")
    func leaked() throws {
        let directory = try CheckedDirectory.filled()
        var lost = PageNumber(0)
        directory.edit(directory.freeList) { page in
            let list = FreeListPage(page)
            lost = list.entry(list.count - 1)
            list.count -= 1
        }
        let result = try directory.check()
        #expect(result.names("page \(lost)", "neither in use nor free"), "\(result.problems)")
        #expect(result.names("page 0", "free pages, and the list has"), "\(result.problems)")
        #expect(result.problems.count == 2)
    }

    @Test("page files: cut inside a page, missing, of another name")
    func files() throws {
        let cut = try CheckedDirectory.filled()
        let path = PageNumber.filePath(0)
        cut.disk.damage(path) { $0.removeLast(100) }
        #expect(try cut.check().names(path, "no whole number of pages"))
        let missing = try CheckedDirectory.filled()
        missing.disk.lose(path)
        #expect(try missing.check().names("page 0", "its file does not exist"))
        let named = try CheckedDirectory.filled()
        try named.disk.rename(path, to: "pages/00000001")
        #expect(try named.check().names("pages/00000001", "pages/00000000 is expected"))
    }

    @Test("A3: a place of the device that cannot be read is named, and the check goes on")
    func unreadable() throws {
        let directory = try CheckedDirectory.filled()
        // The second read of the sweep's first run: page by page.
        let reads = Atomic(0)
        directory.disk.injectFaults { call in
            guard call.kind == .read, call.path.hasPrefix("pages/") else { return nil }
            return reads.wrappingAdd(1, ordering: .relaxed).newValue == 1 ? .error(.inputOutput) : nil
        }
        #expect(try directory.check().names("page 0", "it cannot be read: Input/output error"))
        directory.disk.injectFaults { call in
            call.kind == .read && call.path.hasPrefix("pages/") ? .error(.inputOutput) : nil
        }
        let result = try directory.check()
        #expect(result.names("page 7", "it cannot be read"), "\(result.problems.prefix(3))")
    }

    @Test("a directory of damaged pages only: so many problems are listed, all are counted")
    func manyProblems() throws {
        let directory = try CheckedDirectory.filled()
        directory.disk.damage(PageNumber.filePath(0)) { bytes in
            bytes = [UInt8](repeating: 0x5A, count: 3000 * Page.bytes)
        }
        let result = try directory.check()
        #expect(result.problems.count == CheckResult.maximumProblems)
        #expect(UInt64(result.problems.count) + result.unlisted >= 3000)
    }

    // MARK: The control file and the log

    @Test("a directory that was killed, or waits for recovery, is refused with what to do: 75")
    func needsRecovery() throws {
        let disk = try CrashTests.initialized(seed: 4)
        let engine = try Engine(opening: disk, options: quietOptions())
        _ = try engine.write { try $0.put("t", bytes("a"), bytes("1")) }
        engine.abandon()
        let killed = disk.afterKill(seed: 4)
        let before = killed.contents()
        let error = #expect(throws: EngineError.self) { try DirectoryCheck(disk: killed).run() }
        #expect(error?.diagnosis.status == .tryAgain)
        #expect(error?.description.contains("not stopped in order") == true)
        #expect(killed.contents() == before)
        // Refused, it holds no lock.
        try Engine(opening: killed, options: quietOptions()).close()
        #expect(try DirectoryCheck(disk: killed).run().problems == [])
        for name in ["backup_label", "recovery.signal", "promote.signal", "standby.signal"] {
            let waiting = killed.afterKill(seed: 5)
            try waiting.replaceAtomically(name, with: [1])
            let error = #expect(throws: EngineError.self) { try DirectoryCheck(disk: waiting).run() }
            #expect(error?.description.contains(name) == true && error?.diagnosis.status == .tryAgain)
        }
    }

    @Test("a directory in use is refused: 75")
    func inUse() throws {
        let disk = try CrashTests.initialized(seed: 4)
        let engine = try Engine(opening: disk, options: quietOptions())
        defer { engine.abandon() }
        let error = #expect(throws: EngineError.self) { try DirectoryCheck(disk: disk).run() }
        guard case .disk(let cause) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(cause.code == .wouldBlock && cause.diagnosis.status == .tryAgain)
    }

    @Test("B6: one slot of the control file is damaged, or an old copy: named; both damaged: refused with the way out")
    func controlSlots() throws {
        let directory = try CheckedDirectory.filled()
        let sound = try ControlSlots(of: directory.disk)
        let (inUse, other) = (try #require(sound.inUse), 1 - sound.inUse!)
        let bytes = directory.disk.contents()[ControlData.path]!
        for slot in 0..<2 {
            let damaged = directory.copy()
            damaged.disk.damage(ControlData.path) { $0[slot * ControlData.slotBytes + 60] ^= 1 }
            guard slot == other else {
                // The older slot says that the server runs: its pages cannot be judged.
                #expect(throws: EngineError.self) { try damaged.check() }
                continue
            }
            let result = try damaged.check()
            #expect(result.names("control", "slot \(slot) is damaged"), "\(result.problems)")
            #expect(result.names("control", "slot \(inUse) is in use"), "\(result.problems)")
        }
        let old = directory.copy()
        let data = try #require(sound.slots[other].data), sequence = try #require(sound.slots[other].sequence)
        old.disk.damage(ControlData.path) { control in
            let from = other * ControlData.slotBytes
            control.replaceSubrange(from..<from + ControlData.slotBytes, with: data.encoded(sequence: sequence - 2))
        }
        #expect(try old.check().names("control", "slot \(other) is an old copy"))
        let both = directory.copy()
        both.disk.damage(ControlData.path) { $0 = [UInt8](repeating: 0x11, count: bytes.count) }
        let error = #expect(throws: EngineError.self) { try both.check() }
        #expect(error?.diagnosis.status == .dataError)
        for word in ["slot 0", "slot 1", "restore"] { #expect(error?.description.contains(word) == true, "\(word)") }
    }

    @Test("B6: an old copy of a whole control file is told from the log, which goes on")
    func staleControl() throws {
        let directory = try CheckedDirectory.filled()
        let old = directory.disk.contents()[ControlData.path]!
        let engine = try Engine(opening: directory.disk, options: quietOptions())
        _ = try engine.write { try $0.put("t", bytes("later"), bytes("1")) }
        try engine.close()
        #expect(try directory.check().problems == [])
        directory.disk.damage(ControlData.path) { $0 = old }
        let error = #expect(throws: EngineError.self) { try directory.check() }
        guard case .staleControl = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(error?.diagnosis.status == .dataError)
        // The way out that it names.
        try Engine(opening: directory.disk, options: quietOptions()).close()
        #expect(try directory.check().problems == [])
    }

    @Test("a log that ends before the place where it was durable is named")
    func shortLog() throws {
        let directory = try CheckedDirectory.filled()
        let control = try ControlSlots(of: directory.disk).current()
        let path = SegmentName(timeline: .first, segment: SegmentNumber(containing: control.redo.lsn)).walPath
        directory.disk.damage(path) { $0[LogLayout.offset(control.redo.lsn) + 20] ^= 1 }
        #expect(try directory.check().names(path, "was durable to \(control.knownDurableEnd)"))
    }
}

extension CheckedDirectory {
    fileprivate var zero: PageNumber { PageNumber(0) }
    fileprivate var one: PageNumber { PageNumber(1) }
}
