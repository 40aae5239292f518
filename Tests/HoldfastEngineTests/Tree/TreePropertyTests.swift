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

    @Test("random puts, updates and deletes, read back in every way", arguments: Keys.allCases, [1, 2, 3] as [UInt64])
    func randomOperations(keys: Keys, seed: UInt64) throws {
        print("seed \(seed) keys \(keys)")
        var random = SeededGenerator(seed)
        var tree = try TreeModel()
        var pinned: [(MemorySnapshot, TreeModel)] = []
        for round in 0..<16 {
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
            if round % 5 == 0 { pinned.append((tree.pages.snapshot(), tree)) }
        }
        for (snapshot, old) in pinned { try old.verify(snapshot) }
    }
}
