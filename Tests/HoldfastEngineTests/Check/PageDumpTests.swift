import HoldfastCore
import HoldfastTestSupport
import Testing

@testable import HoldfastEngine

@Suite("A page's fields are shown, whether the page is sound or not")
struct PageDumpTests {
    @Test("each kind of page shows its fields")
    func kinds() throws {
        let directory = try CheckedDirectory.filled()
        func dump(_ page: PageNumber) throws -> PageDump {
            let dump = try PageDump.read(page, of: directory.disk)
            #expect(dump.faults == [] && dump.isChecksumSound && dump.number == page)
            return dump
        }
        guard case .meta(let pages, let head, let free, let next) = try dump(PageNumber(0)).content else {
            Issue.record("page 0 is the meta page")
            return
        }
        #expect(pages > 50 && head == directory.freeList && free > 20 && next == 4)
        guard case .node(let branch, let separators) = try dump(directory.root).content else {
            Issue.record("the root is a branch")
            return
        }
        #expect(branch.level == 1 && branch.count == separators.count && branch.firstChild == directory.leaf)
        guard case .child(let second) = separators[0].value else {
            Issue.record("a separator has a child")
            return
        }
        #expect(second == directory.secondLeaf)
        guard case .node(let leaf, let entries) = try dump(directory.leaf).content else {
            Issue.record("a leaf")
            return
        }
        #expect(leaf.level == 0 && leaf.next == directory.secondLeaf && leaf.previous.rawValue == 0)
        // The keys are whole, and those of the records.
        let keys = Set((0..<1500).map { EngineModel.key($0) })
        #expect(entries.count == leaf.count && entries.allSatisfy { keys.contains($0.key) })
        for entry in entries {
            guard case .inline(bytes: 90) = entry.value else {
                Issue.record("\(entry)")
                return
            }
        }
        guard case .overflow(let following, let bytes) = try dump(directory.overflow).content else {
            Issue.record("a piece of a large value")
            return
        }
        #expect(bytes == OverflowChain.pageBytes && following.rawValue > 1)
        guard case .freeList(_, let listed) = try dump(directory.freeList).content else {
            Issue.record("a page of the free list")
            return
        }
        #expect(listed.count == Int(free) - 1)
    }

    @Test("a damaged page is shown as far as it can be read, and what is wrong is said")
    func damaged() throws {
        let directory = try CheckedDirectory.filled()
        directory.edit(directory.leaf, stamping: false) { Node($0).setCellOffset(0, 10) }
        let leaf = try PageDump.read(directory.leaf, of: directory.disk)
        #expect(!leaf.isChecksumSound)
        #expect(
            leaf.faults.contains { $0.contains("checksum") } && leaf.faults.contains { $0.contains("slot 0 points") })
        guard case .node(let fields, let entries) = leaf.content else {
            Issue.record("still a leaf")
            return
        }
        #expect(entries.count == fields.count - 1)
        directory.edit(directory.secondLeaf) { Page($0).number = PageNumber(4711) }
        #expect(try PageDump.read(directory.secondLeaf, of: directory.disk).number == PageNumber(4711))
        directory.edit(directory.overflow, stamping: false) {
            $0.initializeMemory(as: UInt8.self, repeating: 0, count: Page.bytes)
        }
        guard case .zeros = try PageDump.read(directory.overflow, of: directory.disk).content else {
            Issue.record("a page of zeros")
            return
        }
    }

    @Test("S9: random bytes never trap, with a checksum that fits or without")
    func noise() throws {
        let seed = SeededGenerator64.announced("page dump of noise")
        var random = SeededGenerator64(seed: seed)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Page.bytes, alignment: 4096)
        defer { buffer.deallocate() }
        let directory = try CheckedDirectory.filled()
        let file = directory.disk.contents()[PageNumber.filePath(0)]!
        let targets = [PageNumber(0), directory.root, directory.leaf, directory.overflow, directory.freeList]
        var faulty = 0
        for round in 0..<4000 {
            let page = targets[round % targets.count], at = Int(page.fileOffset)
            buffer.copyBytes(from: file[at..<at + Page.bytes])
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let offset = Int.random(in: 16..<(Bool.random(using: &random) ? 120 : Page.bytes), using: &random)
                buffer[offset] = [0, 1, 0x7F, 0xFF, UInt8.random(in: 0...255, using: &random)].randomElement(
                    using: &random)!
            }
            if round % 2 == 0 {
                let view = Page(buffer.baseAddress!)
                view.checksum = view.computedChecksum(as: page)
            }
            if !PageDump(buffer.baseAddress!, at: page).faults.isEmpty { faulty += 1 }
        }
        #expect(faulty > 500)
    }

    @Test("a page beyond the end, and a directory that is none")
    func bad() throws {
        let directory = try CheckedDirectory.filled()
        for page in [1 << 17, 100_000, UInt32.max] as [UInt32] {
            let error = #expect(throws: EngineError.self) { try PageDump.read(PageNumber(page), of: directory.disk) }
            #expect(error?.diagnosis.status == .dataError && error?.description.contains("page \(page)") == true)
        }
        let error = #expect(throws: EngineError.self) {
            try PageDump.read(PageNumber(0), of: SimulatedDisk(seed: 1))
        }
        guard case .notADataDirectory = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }
}
