import Glibc

/// Random numbers that a printed seed repeats (SplitMix64).
public struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64

    public init(seed: UInt64) { state = seed }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// A seed of the clock, or of `HOLDFAST_SEED` to repeat a run; printed, so that a failure can be repeated.
    public static func announcedSeed(_ test: String) -> UInt64 {
        let seed =
            getenv("HOLDFAST_SEED").flatMap { UInt64(String(cString: $0)) } ?? UInt64.random(in: 1...0xFFFF_FFFF)
        print("\(test): HOLDFAST_SEED=\(seed)")
        return seed
    }
}
