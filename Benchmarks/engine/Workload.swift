import HoldfastTestSupport

/// The same records for every store: 16-byte keys in a random but repeatable order, 100-byte values.
struct Workload {
    let records: Int
    let seed: UInt64

    /// Key `index` of the load: spread over the key space by a bijection, so that no two are equal.
    @inline(__always) func key(_ index: Int, into key: UnsafeMutableRawPointer) {
        var z = UInt64(index) &* 0x9E37_79B9_7F4A_7C15 &+ seed
        z = (z ^ (z >> 32)) &* 0xD6E8_FEB8_6659_FD93
        key.storeBytes(of: z.bigEndian, as: UInt64.self)
        key.storeBytes(of: UInt64(index).bigEndian, toByteOffset: 8, as: UInt64.self)
    }

    @inline(__always) func value(_ index: Int, into value: UnsafeMutableRawPointer) {
        var z = UInt64(index) &+ seed
        for word in 0..<12 {
            z = z &* 0x5851_F42D_4C95_7F2D &+ 0x1405_7B7E_F767_814F
            value.storeBytes(of: z, toByteOffset: word * 8, as: UInt64.self)
        }
        value.storeBytes(of: UInt32(truncatingIfNeeded: z), toByteOffset: 96, as: UInt32.self)
    }

    /// Indexes in a random order, with repetition.
    func indexes(_ count: Int) -> [Int] {
        var random = SeededGenerator(seed: seed)
        return (0..<count).map { _ in Int(random.next() % UInt64(records)) }
    }
}

/// A store under measurement. Each call returns the operations a second that it reached.
protocol Contender: AnyObject {
    var name: String { get }
    /// Puts all records in transactions of `batch`, each durable before the next begins.
    func load(_ workload: Workload, batch: Int) throws -> Double
    /// One record a durable transaction.
    func commits(_ workload: Workload, count: Int) throws -> Double
    func gets(_ workload: Workload, _ indexes: [Int]) throws -> Double
    func scan(_ workload: Workload) throws -> Double
    func close() throws
}
