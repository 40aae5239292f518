import HoldfastCore
import Testing

@testable import HoldfastEngine

@Suite("Damaged page bytes are found and never trusted")
struct TreeDamageTests {
    /// A few trees with branches, chains, free pages and a tree that is still to be freed.
    static func example(seed: UInt64, records: Int = 400) throws -> MemoryPages {
        var random = SeededGenerator(seed)
        let pages = try MemoryPages()
        for number in 0..<3 {
            try TreeCatalogTests.name(number).withUnsafeBytes { name in
                var tree = try TreeCatalog.create(name, in: pages)
                for _ in 0..<records {
                    let key = TreePropertyTests.Keys.mixed.make(&random), value = TreePropertyTests.value(&random)
                    try key.withUnsafeBytes { key in
                        _ = try value.withUnsafeBytes { try tree.put(key, $0, in: pages) }
                        if Int.random(in: 0..<4, using: &random) == 0 { _ = try tree.delete(key, in: pages) }
                    }
                }
                try TreeCatalog.save(tree, as: name, in: pages)
                if number == 2 { _ = try TreeCatalog.drop(name, in: pages) }
            }
        }
        _ = try TreeCatalog.reclaimSome(pages, budgetPages: 5)
        pages.commit()
        #expect(try StructureCheck.run(pages) == [])
        return pages
    }

    /// Changes bytes of one page.
    static func damage(_ pages: MemoryPages, _ number: UInt32, _ change: (UnsafeMutableRawPointer) -> Void) throws {
        change(try pages.modify(PageNumber(number)))
        pages.commit()
    }

    /// The pages of a kind and level.
    static func pages(_ pages: MemoryPages, _ kind: PageKind, level: UInt8 = 0) -> [UInt32] {
        pages.committed.keys.sorted().filter {
            let page = Page(pages.committed[$0]!.base)
            return page.kind == kind && page.level == level
        }
    }

    static let plants: [(String, PageKind, @Sendable (UnsafeMutableRawPointer) -> Void)] = [
        ("wrong page number in the header", .leaf, { Page($0).number = PageNumber(77777) }),
        ("wrong kind", .leaf, { Page($0).rawKind = PageKind.overflow.rawValue }),
        (
            "slots swapped", .leaf,
            { page in
                let node = Node(page)
                let (head, offset) = (node.head(0), node.cellOffset(0))
                node.setSlot(0, head: node.head(1), cellOffset: node.cellOffset(1))
                node.setSlot(1, head: head, cellOffset: offset)
            }
        ),
        (
            "a head that is not its key's", .leaf,
            { Node($0).setSlot(0, head: .max, cellOffset: Node($0).cellOffset(0)) }
        ),
        ("a slot into the hole", .leaf, { Node($0).setCellOffset(0, 30) }),
        ("two slots with one cell", .leaf, { Node($0).setCellOffset(1, Node($0).cellOffset(0)) }),
        ("a lost record", .leaf, { try? Node($0).remove(0, PageNumber(0)) }),
        ("wrong next leaf", .leaf, { Node($0).next = PageNumber(Node($0).next.rawValue + 1) }),
        ("wrong previous leaf", .leaf, { Node($0).previous = PageNumber(Node($0).previous.rawValue + 1) }),
        ("wrong dead bytes", .leaf, { Node($0).deadBytes += 1 }),
        (
            "wrong level", .leaf,
            {
                Page($0).level = 1; Page($0).rawKind = PageKind.branch.rawValue
            }
        ),
        ("a branch's child twice", .branch, { Node($0).firstChild = (try? Node($0).child(1, PageNumber(0)))! }),
        ("a separator too high", .branch, { Node($0).setSlot(0, head: .max, cellOffset: Node($0).cellOffset(0)) }),
        ("a child outside the page space", .branch, { Node($0).firstChild = PageNumber(1 << 30) }),
        ("a chain cut short", .overflow, { Page($0).lower -= 1 }),
        ("a chain's page of another kind", .overflow, { Page($0).rawKind = PageKind.leaf.rawValue }),
        ("a free page lost", .freeList, { FreeListPage($0).count -= 1 }),
        (
            "a used page in the free list", .freeList,
            {
                FreeListPage($0).count -= 1
                FreeListPage($0).push(PageNumber(1))
            }
        ),
        ("a free list in a circle", .freeList, { FreeListPage($0).next = Page($0).number }),
        ("a wrong count of free pages", .meta, { Meta($0).freePages += 1 }),
        ("a page space too short", .meta, { Meta($0).pageCount -= 1 }),
        ("a page space too long", .meta, { Meta($0).pageCount += 1 }),
        ("a next tree's id that a tree has", .meta, { Meta($0).nextTreeID = 1 }),
        ("no meta page", .meta, { Page($0).rawKind = PageKind.leaf.rawValue }),
    ]

    @Test("the structure check finds planted damage", arguments: plants.indices)
    func planted(index: Int) throws {
        let (what, kind, change) = Self.plants[index]
        let pages = try Self.example(seed: 5)
        // Page 1, the catalog, comes first among leaves: take one of a tree that lives and has records.
        let live = try TreeCatalogTests.name(0).withUnsafeBytes { try #require(try TreeCatalog.find($0, in: pages)) }
        var target = try #require(Self.pages(pages, kind, level: kind == .branch ? 1 : 0).first)
        if kind == .leaf || kind == .branch {
            var (node, number) = try live.openRoot(pages)
            while kind == .leaf ? !node.isLeaf : node.level > 1 {
                (node, number) = try Tree.open(0, of: node, number, pages)
            }
            target = number.rawValue
            #expect(node.count > 2)
        }
        if kind == .overflow {
            var chain: OverflowChain?
            try live.scan(in: pages) { _, value in
                chain = value.chain
                return chain == nil
            }
            target = try #require(chain).first.rawValue
        }
        try Self.damage(pages, target, change)
        let problems = try StructureCheck.run(pages)
        #expect(!problems.isEmpty, "\(what) on page \(target)")
    }

    @Test("S9: the last tree's id is never given: the next would be one that a tree has had")
    func lastTreeID() throws {
        let pages = try Self.example(seed: 5)
        try Self.damage(pages, 0) { Meta($0).nextTreeID = .max }
        #expect(try StructureCheck.run(pages) == [])
        try TreeCatalogTests.name(9).withUnsafeBytes { name in
            #expect(throws: EngineError.self) { try TreeCatalog.create(name, in: pages) }
        }
        pages.commit()
        #expect(try StructureCheck.run(pages) == [])
    }

    @Test("a wrong record count in the catalog is found")
    func wrongCount() throws {
        let pages = try Self.example(seed: 6)
        try TreeCatalogTests.name(1).withUnsafeBytes { name in
            var tree = try #require(try TreeCatalog.find(name, in: pages))
            tree.count += 1
            try TreeCatalog.save(tree, as: name, in: pages)
        }
        pages.commit()
        #expect(try StructureCheck.run(pages).count == 1)
    }

    @Test(
        "S9: a count of records that no tree can have is damage, and not counted on", arguments: [UInt64.max, 1 << 43])
    func impossibleCount(count: UInt64) throws {
        let pages = try Self.example(seed: 6)
        try TreeCatalogTests.name(1).withUnsafeBytes { name in
            var tree = try #require(try TreeCatalog.find(name, in: pages))
            tree.count = count
            try TreeCatalog.save(tree, as: name, in: pages)
            pages.commit()
            #expect(throws: EngineError.self) {
                var found = try #require(try TreeCatalog.find(name, in: pages))
                _ = try found.put(name, name, in: pages)
            }
        }
        #expect(try !StructureCheck.run(pages).isEmpty)
    }

    @Test("siblings that lead in a circle end a scan with an error")
    func siblingCircle() throws {
        var tree = try TreeModel()
        for number in 0..<1000 { try tree.put(TreePropertyTests.key(number), [1, 2, 3]) }
        try tree.commit()
        let leaves = Self.pages(tree.pages, .leaf).filter { Node(tree.pages.committed[$0]!.base).count > 0 && $0 > 1 }
        let last = try #require(leaves.first { Node(tree.pages.committed[$0]!.base).next.rawValue == 0 })
        let first = try #require(leaves.first { Node(tree.pages.committed[$0]!.base).previous.rawValue == 0 })
        try Self.damage(tree.pages, last) { Node($0).next = PageNumber(first) }
        try Self.damage(tree.pages, first) { Node($0).previous = PageNumber(last) }
        for reverse in [false, true] {
            var seen = 0
            #expect(throws: EngineError.self) {
                try tree.tree.scan(in: tree.pages, reverse: reverse) { _, _ in
                    seen += 1
                    return seen < 5000
                }
            }
            #expect(seen == 1000)
        }
        #expect(try !StructureCheck.run(tree.pages).isEmpty)
    }

    @Test("a branch that is its own child ends every descent with an error")
    func branchCircle() throws {
        var tree = try TreeModel()
        for number in 0..<1000 { try tree.put(TreePropertyTests.key(number), [1, 2, 3]) }
        try tree.commit()
        let root = tree.tree.root
        try Self.damage(tree.pages, root.rawValue) { Node($0).firstChild = root }
        #expect(throws: EngineError.self) { try tree.put([0], []) }
        #expect(throws: EngineError.self) { try TreeModel.get([0], tree.tree, tree.pages) }
        #expect(throws: EngineError.self) { try TreeModel.scan(tree.tree, tree.pages) }
        #expect(try !StructureCheck.run(tree.pages).isEmpty)
    }

    @Test(
        "the allocator never hands out pages 0 and 1 or one outside the page space",
        arguments: [0, 1, 1 << 30] as [UInt32])
    func wildFreePage(number: UInt32) throws {
        var tree = try TreeModel()
        try tree.put([1], [UInt8](repeating: 1, count: 50_000))
        try tree.delete([1])
        try tree.commit()
        let list = try #require(Self.pages(tree.pages, .freeList).first)
        try Self.damage(tree.pages, list) { FreeListPage($0).push(PageNumber(number)) }
        #expect(throws: EngineError.self) { try tree.put([1], [UInt8](repeating: 1, count: 50_000)) }
    }

    /// Whatever comes of it: an error, a wrong answer, but never a trap and always an end.
    static func useEverything(_ pages: MemoryPages, _ random: inout SeededGenerator, rounds: Int = 30) {
        for number in 0..<2 {
            let name = TreeCatalogTests.name(number)
            guard var tree = try? name.withUnsafeBytes({ try TreeCatalog.find($0, in: pages) }) else {
                continue
            }
            var seen = 0
            for reverse in [false, true] {
                try? tree.scan(in: pages, reverse: reverse) { _, value in
                    seen += try value.withBytes(in: pages) { $0.count }
                    return true
                }
            }
            for _ in 0..<rounds {
                let key = TreePropertyTests.Keys.mixed.make(&random), value = TreePropertyTests.value(&random)
                key.withUnsafeBytes { key in
                    _ = try? tree.get(key, in: pages) { _ in }
                    _ = try? tree.count(in: pages, from: key)
                    do throws(EngineError) {
                        if Bool.random(using: &random) {
                            var outcome: Result<Bool, EngineError> = .success(false)
                            value.withUnsafeBytes { value in
                                do throws(EngineError) { outcome = .success(try tree.put(key, value, in: pages)) } catch
                                {
                                    outcome = .failure(error)
                                }
                            }
                            _ = try outcome.get()
                        } else {
                            _ = try tree.delete(key, in: pages)
                        }
                    } catch { pages.rollBack() }
                }
            }
        }
        _ = try? TreeCatalog.reclaimSome(pages, budgetPages: 100)
        pages.rollBack()
        _ = try? StructureCheck.run(pages.snapshot())
    }

    @Test("S9: lengths, counts and page numbers at their extremes never trap, and cost no memory")
    func extremes() throws {
        print("seed 9")
        var random = SeededGenerator(9)
        let whole = try Self.example(seed: 9, records: 120).snapshot()
        let all = MemoryPages(version: whole.version)
        let root = try TreeCatalogTests.name(0).withUnsafeBytes { try #require(try TreeCatalog.find($0, in: all)) }.root
        let targets = [0, 1, root.rawValue] + [PageKind.leaf, .overflow, .freeList].map { Self.pages(all, $0).last! }
        for target in targets {
            for offset in stride(from: 16, to: 56, by: 2) {
                for extreme in [0, 0x8000, 0xFFFF] as [UInt16] {
                    let pages = MemoryPages(version: whole.version)
                    try Self.damage(pages, target) { $0.storeBytes(of: extreme, toByteOffset: offset, as: UInt16.self) }
                    Self.useEverything(pages, &random, rounds: 4)
                }
            }
        }
        var tree = try TreeModel()
        try tree.put([1], [UInt8](repeating: 1, count: 9000))
        try tree.commit()
        try Self.damage(tree.pages, tree.tree.root.rawValue) { page in
            let cell = try? Node(page).cell(0, tree.tree.root)
            cell?.payload.storeBytes(of: UInt32(Limits.valueBytes), as: UInt32.self)
        }
        let error = #expect(throws: EngineError.self) { try TreeModel.get([1], tree.tree, tree.pages) }
        #expect(error?.description.contains("larger than the page space") == true)
    }

    @Test("random bytes in random places never trap a read, a write or the check", arguments: [1, 2, 3, 4] as [UInt64])
    func randomDamage(seed: UInt64) throws {
        print("seed \(seed)")
        var random = SeededGenerator(seed)
        let whole = try Self.example(seed: seed).snapshot()
        let numbers = whole.version.keys.sorted()
        for _ in 0..<60 {
            let pages = MemoryPages(version: whole.version)
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                // Headers and slots matter most, and the few pages that everything goes through.
                let number =
                    Bool.random(using: &random)
                    ? numbers.randomElement(using: &random)! : UInt32.random(in: 0...4, using: &random)
                let end = Bool.random(using: &random) ? 64 : Page.bytes
                let offset = Int.random(in: 16..<end, using: &random)
                let byte = [0, 1, 255, UInt8.random(in: 0...255, using: &random)].randomElement(using: &random)!
                try Self.damage(pages, number) { $0.storeBytes(of: byte, toByteOffset: offset, as: UInt8.self) }
            }
            Self.useEverything(pages, &random)
        }
    }
}
