import HoldfastCore
import Testing

@testable import HoldfastEngine

@Suite("Trees are made, dropped and cleared by name")
struct TreeCatalogTests {
    static func name(_ number: Int) -> [UInt8] { Array("tree-\(number)".utf8) }

    static func fill(_ tree: inout Tree, _ pages: MemoryPages, records: Int) throws {
        for number in 0..<records {
            let value = [UInt8](repeating: UInt8(number % 256), count: number % 97 == 0 ? 20_000 : 60)
            try TreePropertyTests.key(number).withUnsafeBytes { key in
                _ = try value.withUnsafeBytes { try tree.put(key, $0, in: pages) }
            }
        }
    }

    static func names(_ reader: some PageReader) throws -> [[UInt8]] {
        var names: [[UInt8]] = []
        try TreeCatalog.forEach(in: reader) { name, _ in
            names.append([UInt8](name))
            return true
        }
        return names
    }

    @Test("many trees by name, each with its own records and count")
    func manyTrees() throws {
        let pages = try MemoryPages()
        for number in 0..<300 {
            try Self.name(number).withUnsafeBytes { name in
                var tree = try TreeCatalog.create(name, in: pages)
                try Self.fill(&tree, pages, records: number % 5)
                try TreeCatalog.save(tree, as: name, in: pages)
            }
        }
        pages.commit()
        #expect(try StructureCheck.run(pages) == [])
        #expect(Set(try Self.names(pages)) == Set((0..<300).map(Self.name)))
        var ids: Set<UInt64> = []
        for number in 0..<300 {
            let tree = try #require(try Self.name(number).withUnsafeBytes { try TreeCatalog.find($0, in: pages) })
            #expect(tree.count == UInt64(number % 5))
            ids.insert(tree.id)
        }
        #expect(ids.count == 300)
        #expect(try Self.name(300).withUnsafeBytes { try TreeCatalog.find($0, in: pages) } == nil)
        #expect(throws: EngineError.self) {
            try [UInt8](repeating: 1, count: 256).withUnsafeBytes { _ = try TreeCatalog.create($0, in: pages) }
        }
    }

    @Test(
        "a dropped tree's pages come back bit by bit, and every commit between leaves a whole structure",
        arguments: [1, 3, 50])
    func dropAndReclaim(budget: Int) throws {
        let pages = try MemoryPages()
        var kept = try Self.name(1).withUnsafeBytes { try TreeCatalog.create($0, in: pages) }
        var doomed = try Self.name(2).withUnsafeBytes { try TreeCatalog.create($0, in: pages) }
        try Self.fill(&kept, pages, records: 50)
        try Self.name(1).withUnsafeBytes { try TreeCatalog.save(kept, as: $0, in: pages) }
        pages.commit()
        let before = try PageSpace.pageCount(pages) - PageSpace.freePages(pages) - 1
        try Self.fill(&doomed, pages, records: 2000)
        try Self.name(2).withUnsafeBytes { try TreeCatalog.save(doomed, as: $0, in: pages) }
        pages.commit()
        let snapshot = pages.snapshot()
        #expect(try Self.name(2).withUnsafeBytes { try TreeCatalog.drop($0, in: pages) })
        #expect(try !Self.name(2).withUnsafeBytes { try TreeCatalog.drop($0, in: pages) })
        pages.commit()
        #expect(try StructureCheck.run(pages) == [])
        #expect(try Self.names(pages) == [Self.name(1)])
        var steps = 0
        while try TreeCatalog.reclaimSome(pages, budgetPages: budget) {
            pages.commit(hole: 0xFF)
            if steps % (100 / budget + 1) == 0 { #expect(try StructureCheck.run(pages) == []) }
            steps += 1
        }
        pages.commit()
        #expect(steps > 0)
        #expect(try StructureCheck.run(pages) == [])
        #expect(try PageSpace.pageCount(pages) - PageSpace.freePages(pages) == before)
        #expect(try TreeModel.scan(doomed, snapshot).count == 2000, "an older version still has the tree")
    }

    @Test("a cleared tree keeps its root, id and name, and its pages come back", arguments: [0, 5, 98, 1000])
    func clear(records: Int) throws {
        let pages = try MemoryPages()
        var tree = try Self.name(1).withUnsafeBytes { try TreeCatalog.create($0, in: pages) }
        for _ in 0..<3 {
            try Self.fill(&tree, pages, records: records)
            pages.commit()
            let old = tree
            try TreeCatalog.clear(&tree, in: pages)
            try Self.name(1).withUnsafeBytes { try TreeCatalog.save(tree, as: $0, in: pages) }
            pages.commit()
            #expect(tree == Tree(id: old.id, root: old.root, count: 0))
            #expect(try TreeModel.scan(tree, pages).isEmpty)
            #expect(try StructureCheck.run(pages) == [])
        }
        while try TreeCatalog.reclaimSome(pages, budgetPages: 10) {}
        pages.commit()
        #expect(try StructureCheck.run(pages) == [])
        #expect(try PageSpace.pageCount(pages) - PageSpace.freePages(pages) == 3)
    }

    @Test("what a transaction freed is used before the page space grows, and a rollback forgets both")
    func pagesAreReused() throws {
        var tree = try TreeModel()
        let large = [UInt8](repeating: 1, count: 3_000_000)
        try tree.put([1], large)
        try tree.commit()
        let size = try PageSpace.pageCount(tree.pages)
        for _ in 0..<5 {
            try tree.delete([1])
            try tree.put([1], large)
            try tree.commit()
        }
        #expect(try PageSpace.pageCount(tree.pages) == size)
        let before = tree.tree
        try tree.delete([1])
        tree.pages.rollBack()
        tree.tree = before
        tree.model[[1]] = large
        try tree.verify(tree.pages)
        #expect(try StructureCheck.run(tree.pages) == [])
    }
}
