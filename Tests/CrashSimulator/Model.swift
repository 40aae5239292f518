import CShims
import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport

/// What an engine should hold, as a hash for each record: cheap to copy, so that every state that a crash may leave can
/// be kept. Two states are compared by their digests.
struct Model {
    static let trees = ["t0", "t1", "t2"]
    static let keysOfTree = 180
    static let keys: [[UInt8]] = (0..<keysOfTree).map { n in
        Array("user:\(String(repeating: "0", count: n % 7))\(n)".utf8)
    }

    /// By tree, then key; 0: no record.
    private(set) var records = [UInt64](repeating: 0, count: trees.count * keysOfTree)
    /// The sum of all hashes: whatever the order in which records are met.
    private(set) var digest: UInt64 = 0

    subscript(_ tree: Int, _ key: Int) -> UInt64 { records[tree * Self.keysOfTree + key] }

    mutating func set(_ tree: Int, _ key: Int, _ hash: UInt64) {
        let at = tree * Self.keysOfTree + key
        digest = digest &- records[at] &+ hash
        records[at] = hash
    }

    mutating func clear(_ tree: Int) {
        for key in 0..<Self.keysOfTree { set(tree, key, 0) }
    }

    // MARK: Hashes

    static func treeSeed(_ name: String) -> UInt32 {
        var name = name
        return name.withUTF8 { hf_crc32c(0, $0.baseAddress, $0.count) }
    }

    /// Never 0.
    static func hash(_ treeSeed: UInt32, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> UInt64 {
        let ofKey = hf_crc32c(treeSeed, key.baseAddress, key.count)
        let ofValue = value.count == 0 ? ofKey : hf_crc32c(ofKey, value.baseAddress, value.count)
        var z = UInt64(ofKey) << 32 | UInt64(ofValue)
        z = (z ^ UInt64(value.count) &* 0x9E37_79B9_7F4A_7C15) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 29)) &* 0x94D0_49BB_1331_11EB
        return (z ^ (z >> 32)) | 1
    }

    /// The digest of all that a snapshot shows.
    static func digest(_ snapshot: borrowing Snapshot) throws -> UInt64 {
        var sum: UInt64 = 0
        for tree in try snapshot.trees() {
            let seed = treeSeed(tree.name)
            try snapshot.scan(tree.name) { key, value in
                sum = sum &+ hash(seed, key, value)
                return true
            }
        }
        return sum
    }
}

extension Model {
    /// One operation of a transaction, here and in the engine; what the engine says of the record must be true.
    mutating func change(_ transaction: Transaction, _ random: inout SeededGenerator) throws {
        let tree = random.number(0...Self.trees.count - 1), number = random.number(0...Self.keysOfTree - 1)
        let name = Self.trees[tree], key = Self.keys[number]
        let known = self[tree, number]
        switch random.number(0...199) {
        case 0..<130:
            let value = random.value()
            let isNew = try transaction.put(name, key, value)
            guard isNew == (known == 0) else { throw Violation("put says that a key is new: \(isNew)") }
            set(tree, number, Self.hash(tree, key, value))
        case 130..<185:
            let was = try transaction.delete(name, key)
            guard was == (known != 0) else { throw Violation("delete says that there was a record: \(was)") }
            set(tree, number, 0)
        case 185:
            try transaction.clear(name)
            clear(tree)
        default:
            let value = try transaction.get(name, key)
            guard value.map({ Self.hash(tree, key, $0) }) ?? 0 == known else {
                throw Violation("a transaction reads another value than was committed")
            }
        }
    }

    private static func hash(_ tree: Int, _ key: [UInt8], _ value: [UInt8]) -> UInt64 {
        key.withUnsafeBytes { key in
            value.withUnsafeBytes { hash(treeSeed(trees[tree]), key, $0) }
        }
    }
}

extension SeededGenerator {
    mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &self) < percent }
    mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }

    /// A value: mostly small, some of a good part of a page, a few of many pages.
    mutating func value() -> [UInt8] {
        let count =
            switch number(0...59) {
            case 0...2: number(8000...40_000)
            case 3...9: number(500...3000)
            default: number(0...150)
            }
        var word = next()
        return [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            for at in 0..<count {
                if at & 7 == 0 { word = word &* 0x9E37_79B9_7F4A_7C15 &+ 1 }
                buffer[at] = UInt8(truncatingIfNeeded: word >> UInt64(32 + (at & 7) * 3))
            }
            initialized = count
        }
    }
}
