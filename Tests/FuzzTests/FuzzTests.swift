import FuzzTargets
import HoldfastTestSupport
import Testing

@Suite("No input from outside crashes its reader", .serialized)
struct FuzzTests {
    static let names = FuzzTargets.all.map { $0.name }

    @Test("what real encoders make, cut, changed, spliced and repeated at random, is read to its end", arguments: names)
    func mutations(name: String) throws {
        let target = try #require(FuzzTargets.named(name))
        let seeds = try target.seeds()
        #expect(!seeds.isEmpty)
        for seed in seeds { target.run(bytes: seed) }
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("fuzz \(name)"))
        for _ in 0..<100 {
            var bytes = seeds[Int.random(in: 0..<seeds.count, using: &random)]
            for _ in 0...Int.random(in: 0..<6, using: &random) { Self.mutate(&bytes, seeds, &random) }
            target.run(bytes: bytes)
        }
        target.run(bytes: [])
    }

    private static func mutate(_ bytes: inout [UInt8], _ seeds: [[UInt8]], _ random: inout SeededGenerator) {
        guard !bytes.isEmpty else { return bytes = seeds[0] }
        let at = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<6, using: &random) {
        case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 2: bytes.removeSubrange(at..<min(bytes.count, at + Int.random(in: 1...16, using: &random)))
        case 3:
            // The lengths that S9 names, where they may stand for one.
            let number = [0, UInt64.max, 1 << 31, UInt64(UInt32.max), 1 << 63, 1 << 15].randomElement(using: &random)!
            let size = [1, 2, 4, 8].randomElement(using: &random)!
            withUnsafeBytes(of: number.littleEndian) {
                bytes.replaceSubrange(at..<min(bytes.count, at + size), with: $0.prefix(size))
            }
        case 4:
            let other = seeds[Int.random(in: 0..<seeds.count, using: &random)]
            let from = Int.random(in: 0...other.count, using: &random)
            bytes.replaceSubrange(at..., with: other[from...])
        default:
            let part = bytes[at..<min(bytes.count, at + Int.random(in: 1...64, using: &random))]
            bytes.insert(contentsOf: part, at: at)
        }
    }
}
