import HoldfastTestSupport

/// The same records for every store: 16-byte keys, 100-byte values.
struct Workload {
    enum Keys {
        /// Spread over the key space by a bijection, so that no two are equal.
        case random
        /// In the order in which they are loaded.
        case ordered
        /// `user:` and eleven digits, in a random order: the first bytes of all are the same.
        case prefixed
    }

    let records: Int
    let seed: UInt64
    let keys: Keys
    /// About the golden part of `records`, without a common divisor: its multiples visit every record, far from each other.
    private let stride: UInt64

    init(records: Int, seed: UInt64, keys: Keys = .random) {
        self.records = records
        self.seed = seed
        self.keys = keys
        func divisor(_ a: UInt64, _ b: UInt64) -> UInt64 { b == 0 ? a : divisor(b, a % b) }
        var stride = UInt64(Double(records) * 0.618_033_988)
        while divisor(stride, UInt64(records)) != 1 { stride += 1 }
        self.stride = stride
    }

    static let keyBytes = 16
    static let valueBytes = 100

    /// Key `index` of the load.
    @inline(__always) func key(_ index: Int, into key: UnsafeMutableRawPointer) {
        switch keys {
        case .random:
            var z = UInt64(index) &* 0x9E37_79B9_7F4A_7C15 &+ seed
            z = (z ^ (z >> 32)) &* 0xD6E8_FEB8_6659_FD93
            key.storeBytes(of: z.bigEndian, as: UInt64.self)
            key.storeBytes(of: UInt64(index).bigEndian, toByteOffset: 8, as: UInt64.self)
        case .ordered:
            key.storeBytes(of: UInt64(index).bigEndian, as: UInt64.self)
            key.storeBytes(of: seed, toByteOffset: 8, as: UInt64.self)
        case .prefixed:
            var number = UInt64(index) &* stride % UInt64(records)
            for (at, byte) in "user:".utf8.enumerated() { key.storeBytes(of: byte, toByteOffset: at, as: UInt8.self) }
            for at in (5..<16).reversed() {
                key.storeBytes(of: 0x30 + UInt8(number % 10), toByteOffset: at, as: UInt8.self)
                number /= 10
            }
        }
    }

    /// Value `index`; another `version` has other bytes.
    @inline(__always) func value(_ index: Int, version: UInt64 = 0, into value: UnsafeMutableRawPointer) {
        var z = UInt64(index) &+ seed &+ version &* 0x9E37_79B9_7F4A_7C15
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

/// Memory of one key and one value.
final class RecordBuffer {
    let key = UnsafeMutableRawBufferPointer.allocate(byteCount: Workload.keyBytes, alignment: 8)
    let value = UnsafeMutableRawBufferPointer.allocate(byteCount: Workload.valueBytes, alignment: 8)

    func fill(_ workload: Workload, _ index: Int, version: UInt64 = 0) {
        workload.key(index, into: key.baseAddress!)
        workload.value(index, version: version, into: value.baseAddress!)
    }

    deinit {
        key.deallocate()
        value.deallocate()
    }
}

/// A store under measurement. Each call returns the operations a second that it reached.
protocol Contender: AnyObject, Sendable {
    var name: String { get }
    /// What it was told, for the reader of the figures.
    var settings: String { get }
    /// Puts all records in transactions of `batch`, each durable before the next begins.
    func load(_ workload: Workload, batch: Int) throws -> Double
    /// One record a durable transaction.
    func commits(_ workload: Workload, count: Int) throws -> Double
    /// Reads on the calling thread.
    func gets(_ workload: Workload, _ indexes: ArraySlice<Int>) throws -> Double
    /// Every record, its bytes borrowed.
    func scan(_ workload: Workload) throws -> Double
    /// Every record, key and value copied out.
    func scanCopies(_ workload: Workload) throws -> Double
    func close() throws
}
