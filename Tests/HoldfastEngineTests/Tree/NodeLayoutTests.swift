import HoldfastCore
import Testing

@testable import HoldfastEngine

@Suite("The bytes of tree pages are what their tables say")
struct NodeLayoutTests {
    /// The page's rows of 16 bytes that are not zero, with their offsets; `*` for rows that repeat.
    static func dump(_ pages: MemoryPages, _ number: UInt32) throws -> String {
        var page = Array(UnsafeRawBufferPointer(start: try pages.page(PageNumber(number)), count: Page.bytes))
        // No checksum before it is written: an editor's notes.
        page.replaceSubrange(0..<4, with: [0, 0, 0, 0])
        var lines: [String] = [], last = ""
        for row in stride(from: 0, to: Page.bytes, by: 16) {
            let bytes = page[row..<row + 16]
            if bytes.allSatisfy({ $0 == 0 }) { continue }
            let digits = bytes.map { hexadecimal(UInt64($0), digits: 2).lowercased() }
            let text = digits.joined(separator: " ")
            if text != last { lines.append("\(row): " + text) } else if lines.last != "*" { lines.append("*") }
            last = text
        }
        return lines.joined(separator: "\n")
    }

    @Test("meta page, catalog, leaf, branch, overflow chain and free list, byte by byte")
    func golden() throws {
        var tree = try TreeModel()
        func put(_ key: String, _ value: [UInt8]) throws { try tree.put(Array(key.utf8), value) }
        try put("user:0002", [0xB2, 0xB2])
        try put("user:0001", [0xB1])
        try put("user:0010", [UInt8](repeating: 0xEE, count: 8200))
        try put("user:1", [0xC1])
        try tree.commit()
        #expect(try Self.dump(tree.pages, 2) == Self.leaf)
        #expect(try Self.dump(tree.pages, 4) == Self.lastOfChain)
        try tree.delete(Array("user:0010".utf8))
        for letter in ["a", "b", "c"] { try put("user:1\(letter)", [UInt8](repeating: 0x77, count: 3000)) }
        try tree.commit()
        #expect(try StructureCheck.run(tree.pages) == [])
        #expect(try Self.dump(tree.pages, 0) == Self.meta)
        #expect(try Self.dump(tree.pages, 1) == Self.catalog)
        #expect(try Self.dump(tree.pages, 2) == Self.branch)
        try tree.put(Array("user:1c".utf8), [])
        for letter in ["a", "b"] { try tree.delete(Array("user:1\(letter)".utf8)) }
        try tree.commit()
        #expect(try Self.dump(tree.pages, 2) == Self.merged)
        #expect(try Self.dump(tree.pages, 4) == Self.freeList)
    }

    static let leaf = """
        0: 00 00 00 00 02 00 00 00 00 00 00 00 00 00 00 00
        16: 02 00 01 00 44 00 d3 1f 00 00 00 00 00 00 00 00
        32: 00 00 00 00 04 00 00 00 00 00 00 00 72 65 73 75
        48: eb 1f 72 65 73 75 f5 1f 72 65 73 75 da 1f 72 65
        64: 73 75 d3 1f 00 00 00 00 00 00 00 00 00 00 00 00
        8144: 00 00 00 06 00 01 00 3a 31 c1 09 80 08 00 3a 30
        8160: 30 31 30 08 20 00 00 03 00 00 00 09 00 01 00 3a
        8176: 30 30 30 31 b1 09 00 02 00 3a 30 30 30 32 b2 b2
        """
    static let lastOfChain = """
        0: 00 00 00 00 04 00 00 00 00 00 00 00 00 00 00 00
        16: 04 00 00 00 48 00 00 20 00 00 00 00 00 00 00 00
        32: ee ee ee ee ee ee ee ee ee ee ee ee ee ee ee ee
        *
        64: ee ee ee ee ee ee ee ee 00 00 00 00 00 00 00 00
        """
    static let meta = """
        16: 01 00 00 00 30 00 00 20 05 00 00 00 00 00 00 00
        32: 00 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00
        """
    static let catalog = """
        0: 00 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
        16: 02 00 00 00 32 00 e4 1f 00 00 00 00 00 00 00 00
        32: 00 00 00 00 01 00 00 00 00 00 00 00 00 00 74 01
        48: e4 1f 00 00 00 00 00 00 00 00 00 00 00 00 00 00
        8160: 00 00 00 00 02 00 18 00 02 00 00 00 00 00 00 00
        8176: 01 00 00 00 00 00 00 00 06 00 00 00 00 00 00 00
        """
    static let branch = """
        0: 00 00 00 00 02 00 00 00 00 00 00 00 00 00 00 00
        16: 03 01 00 00 32 00 f5 1f 00 00 00 00 00 00 00 00
        32: 03 00 00 00 01 00 00 00 00 00 00 00 72 65 73 75
        48: f5 1f 00 00 00 00 00 00 00 00 00 00 00 00 00 00
        8176: 00 00 00 00 00 07 00 04 00 3a 31 63 04 00 00 00
        """
    static let merged = """
        0: 00 00 00 00 02 00 00 00 00 00 00 00 00 00 00 00
        16: 02 00 00 00 44 00 e7 1f 00 00 00 00 00 00 00 00
        32: 00 00 00 00 04 00 05 00 00 00 00 00 31 30 30 30
        48: f6 1f 32 30 30 30 f0 1f 00 00 00 31 eb 1f 00 00
        64: 63 31 e7 1f 00 00 00 00 00 00 00 00 00 00 00 00
        8160: 00 00 00 00 00 00 00 02 00 00 00 01 00 01 00 c1
        8176: 04 00 02 00 b2 b2 04 00 01 00 b1 75 73 65 72 3a
        """
    static let freeList = """
        0: 00 00 00 00 04 00 00 00 00 00 00 00 00 00 00 00
        16: 05 00 00 00 24 00 00 20 00 00 00 00 01 00 00 00
        32: 03 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
        """
}
