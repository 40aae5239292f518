import HoldfastCore
import Testing

@testable import HoldfastEngine

@Suite("A tree equals an ordered map")
struct TreePropertyTests {
    /// How the keys of a run look.
    enum Keys: String, CaseIterable, Sendable {
        case short, numbered, longCommonPrefix, veryLong, binary, mixed

        func make(_ random: inout SeededGenerator) -> [UInt8] {
            switch self {
            case .short:
                return (0..<Int.random(in: 0...3, using: &random)).map { _ in UInt8.random(in: 0...3, using: &random) }
            case .numbered:
                let digits = String(UInt32.random(in: 0..<2_000, using: &random))
                return Array(("user:" + String(repeating: "0", count: 11 - digits.utf8.count) + digits).utf8)
            case .longCommonPrefix:
                let tail = (0..<Int.random(in: 0...5, using: &random)).map { _ in
                    UInt8.random(in: 97...101, using: &random)
                }
                return [UInt8](repeating: 120, count: Bool.random(using: &random) ? 1500 : 700) + tail
            case .veryLong:
                let byte = UInt8.random(in: 0...20, using: &random)
                return [UInt8](repeating: byte, count: Int.random(in: 2000...2048, using: &random))
            case .binary:
                return (0..<Int.random(in: 0...9, using: &random)).map { _ in Bool.random(using: &random) ? 0 : 255 }
            case .mixed:
                return Self.allCases[Int.random(in: 0..<5, using: &random)].make(&random)
            }
        }
    }

    static func value(_ random: inout SeededGenerator) -> [UInt8] {
        let length =
            switch Int.random(in: 0..<20, using: &random) {
            case 0: Int.random(in: 3000...30000, using: &random)
            case 1...3: Int.random(in: 500...4100, using: &random)
            case 4...6: 0
            default: Int.random(in: 1...120, using: &random)
            }
        return [UInt8](repeating: UInt8.random(in: 0...255, using: &random), count: length)
    }

    @Test("random puts, updates and deletes, read back in every way", arguments: Keys.allCases, [1, 2] as [UInt64])
    func randomOperations(keys: Keys, seed: UInt64) throws {
        print("seed \(seed) keys \(keys)")
        var random = SeededGenerator(seed)
        var tree = try TreeModel()
        var pinned: [(MemorySnapshot, TreeModel)] = []
        for round in 0..<12 {
            let growing = round % 4 < 3
            for _ in 0..<120 {
                let key = keys.make(&random)
                if Int.random(in: 0..<10, using: &random) < (growing ? 8 : 2) {
                    try tree.put(key, Self.value(&random))
                } else {
                    try tree.delete(growing ? key : tree.model.keys.randomElement(using: &random) ?? key)
                }
            }
            try tree.commit(hole: 0xA5)
            try tree.verify(tree.pages)
            #expect(try StructureCheck.run(tree.pages) == [])
            if round % 5 == 0 { pinned.append((tree.pages.snapshot(), tree)) }
        }
        for (snapshot, old) in pinned { try old.verify(snapshot) }
    }

    enum Order: CaseIterable, Sendable { case ascending, descending, random }

    @Test("loads in any order, then everything deleted in any order, give every page back", arguments: Order.allCases)
    func loadAndEmpty(order: Order) throws {
        var random = SeededGenerator(7)
        print("seed 7 order \(order)")
        for emptying in Order.allCases {
            var tree = try TreeModel()
            var numbers = Array(0..<3000)
            if order == .descending { numbers.reverse() }
            if order == .random { numbers.shuffle(using: &random) }
            for number in numbers { try tree.put(Self.key(number), [UInt8](repeating: 1, count: number % 50)) }
            try tree.commit()
            try tree.verify(tree.pages)
            #expect(try StructureCheck.run(tree.pages) == [])
            numbers.sort()
            if emptying == .descending { numbers.reverse() }
            if emptying == .random { numbers.shuffle(using: &random) }
            for (done, number) in numbers.enumerated() {
                try tree.delete(Self.key(number))
                if done % 500 == 0 {
                    try tree.commit()
                    #expect(try StructureCheck.run(tree.pages) == [])
                }
            }
            try tree.commit()
            #expect(try StructureCheck.run(tree.pages) == [])
            let pages = try PageSpace.pageCount(tree.pages), free = try PageSpace.freePages(tree.pages)
            #expect(pages - free == 3, "page 0, the catalog and the empty root are left")
            #expect(pages > 10)
        }
    }

    static func key(_ number: Int) -> [UInt8] {
        let digits = String(number)
        return Array(("user:" + String(repeating: "0", count: 11 - digits.utf8.count) + digits).utf8)
    }

    @Test("an ordered load fills its pages")
    func orderedLoadFillsPages() throws {
        var tree = try TreeModel()
        for number in 0..<5000 { try tree.put(Self.key(number), [UInt8](repeating: 1, count: 100)) }
        try tree.commit()
        // 16 + 100 bytes, of which the prefix and the slot's head save some: at least 70 a page.
        #expect(try PageSpace.pageCount(tree.pages) < 5000 / 70 + 4)
        #expect(try StructureCheck.run(tree.pages) == [])
    }

    @Test("values as large as allowed, and one byte more")
    func limits() throws {
        var tree = try TreeModel()
        let key = [UInt8](repeating: 255, count: Limits.keyBytes)
        var large = [UInt8](repeating: 0, count: Limits.valueBytes)
        for index in stride(from: 0, to: large.count, by: 4099) { large[index] = UInt8(truncatingIfNeeded: index) }
        try tree.put(key, large)
        try tree.put([], [])
        try tree.commit()
        #expect(try TreeModel.get(key, tree.tree, tree.pages) == large)
        #expect(try TreeModel.get([], tree.tree, tree.pages) == [])
        #expect(try StructureCheck.run(tree.pages) == [])
        large.append(0)
        #expect(throws: EngineError.self) { try tree.put([1], large) }
        #expect(throws: EngineError.self) { try tree.put(key + [1], []) }
        #expect(tree.tree.count == 2)
        try tree.put(key, [1])
        try tree.commit()
        #expect(try StructureCheck.run(tree.pages) == [])
        #expect(try PageSpace.freePages(tree.pages) == UInt32((Limits.valueBytes + 8159) / 8160))
    }

    @Test("a part of a value, its length, counts of ranges and seeks agree with the map")
    func partsAndRanges() throws {
        print("seed 11")
        var random = SeededGenerator(11)
        var tree = try TreeModel()
        for _ in 0..<1500 { try tree.put(Keys.mixed.make(&random), Self.value(&random)) }
        try tree.commit()
        let keys = tree.sortedKeys
        let reader = tree.pages.snapshot()
        for (key, value) in tree.model {
            let stored = try #require(try key.withUnsafeBytes { try tree.tree.find($0, in: reader) })
            #expect(stored.count == value.count)
            let offset = Int.random(in: 0...value.count, using: &random)
            var part = [UInt8](repeating: 0, count: Int.random(in: 0...9000, using: &random))
            let copied = try part.withUnsafeMutableBytes { try stored.copy(from: offset, to: $0, in: reader) }
            #expect(Array(part[0..<copied]) == Array(value[offset...].prefix(part.count)))
        }
        var cursor = Cursor(tree.tree)
        for _ in 0..<300 {
            let low = Keys.mixed.make(&random), high = Keys.mixed.make(&random)
            let inside = keys.filter { !$0.lexicographicallyPrecedes(low) && $0.lexicographicallyPrecedes(high) }
            try low.withUnsafeBytes { low in
                try high.withUnsafeBytes { high in
                    #expect(try tree.tree.count(in: reader, from: low, to: high) == UInt64(inside.count))
                    #expect(
                        try tree.tree.count(in: reader, from: low) + tree.tree.count(in: reader, to: low)
                            == tree.tree.count)
                    for reverse in [false, true] {
                        var found: [[UInt8]] = []
                        try tree.tree.scan(in: reader, from: low, to: high, reverse: reverse) { key, _ in
                            found.append([UInt8](key))
                            return true
                        }
                        #expect(found == (reverse ? inside.reversed() : inside))
                    }
                }
            }
            let below = keys.last { $0.lexicographicallyPrecedes(low) },
                at = keys.last { !low.lexicographicallyPrecedes($0) }
            for (orAt, expected) in [(false, below), (true, at)] {
                let found = try low.withUnsafeBytes { try cursor.seek(below: $0, orAt: orAt, in: reader) }
                #expect((found ? [UInt8](cursor.key) : nil) == expected)
            }
        }
        var picked: Set<[UInt8]> = []
        for _ in 0..<1000 {
            #expect(try cursor.seekRandom(in: reader, using: &random))
            picked.insert([UInt8](cursor.key))
        }
        #expect(picked.isSubset(of: keys) && picked.count > 100)
    }
}
