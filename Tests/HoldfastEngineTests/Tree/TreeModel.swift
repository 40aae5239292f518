import HoldfastCore
import Testing

@testable import HoldfastEngine

/// A generator that a printed seed repeats (splitmix64).
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// A tree over memory beside the dictionary it must equal.
struct TreeModel {
    let pages: MemoryPages
    var tree: Tree
    var model: [[UInt8]: [UInt8]] = [:]
    static let name = Array("t".utf8)

    init() throws {
        let pages = try MemoryPages()
        self.pages = pages
        tree = try Self.name.withUnsafeBytes { try TreeCatalog.create($0, in: pages) }
        pages.commit()
    }

    mutating func put(_ key: [UInt8], _ value: [UInt8]) throws {
        let isNew = try key.withUnsafeBytes { key in try value.withUnsafeBytes { try tree.put(key, $0, in: pages) } }
        #expect(isNew == (model.updateValue(value, forKey: key) == nil))
    }

    mutating func delete(_ key: [UInt8]) throws {
        let existed = try key.withUnsafeBytes { try tree.delete($0, in: pages) }
        #expect(existed == (model.removeValue(forKey: key) != nil))
    }

    func commit(hole: UInt8 = 0) throws {
        try Self.name.withUnsafeBytes { try TreeCatalog.save(tree, as: $0, in: pages) }
        pages.commit(hole: hole)
    }

    /// The keys in order.
    var sortedKeys: [[UInt8]] { model.keys.sorted { $0.lexicographicallyPrecedes($1) } }

    static func get(_ key: [UInt8], _ tree: Tree, _ reader: some PageReader) throws -> [UInt8]? {
        try key.withUnsafeBytes { try tree.get($0, in: reader) { $0.map { [UInt8]($0) } } }
    }

    static func scan(_ tree: Tree, _ reader: some PageReader, reverse: Bool = false) throws -> [([UInt8], [UInt8])] {
        var records: [([UInt8], [UInt8])] = []
        try tree.scan(in: reader, reverse: reverse) { key, value in
            records.append(([UInt8](key), try value.withBytes(in: reader) { [UInt8]($0) }))
            return true
        }
        return records
    }

    /// Reads everything back in every way.
    func verify(_ reader: some PageReader) throws {
        let keys = sortedKeys
        #expect(tree.count == UInt64(keys.count))
        let forward = try Self.scan(tree, reader), backward = try Self.scan(tree, reader, reverse: true)
        #expect(forward.map(\.0) == keys)
        #expect(backward.map(\.0) == keys.reversed())
        #expect(forward.map(\.1) == keys.map { model[$0]! })
        #expect(backward.map(\.1) == keys.reversed().map { model[$0]! })
        for (key, value) in model { #expect(try Self.get(key, tree, reader) == value) }
    }
}
