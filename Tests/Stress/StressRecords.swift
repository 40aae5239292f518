import HoldfastCore
import HoldfastEngine

/// What a read saw that no state of the engine can have held.
public struct StressViolation: Error, CustomStringConvertible {
    public let description: String
}

/// The records of the stress program: groups of keys. A transaction writes its number to every key of one group, and the
/// number alone decides which keys are there and what they hold; so whoever reads a group of any version can tell from its
/// first record what all the others must be, without a model beside the engine.
struct StressRecords: Sendable {
    let groups: Int
    let keys: Int
    static let tree = "stress"
    /// Holds the number of the last transaction.
    static let counterTree = "counter"

    enum Order: CaseIterable { case byKey, ascending, descending }

    func key(_ group: Int, _ index: Int) -> [UInt8] {
        [UInt8(group >> 8), UInt8(truncatingIfNeeded: group), UInt8(index >> 8), UInt8(truncatingIfNeeded: index)]
    }

    /// `nil`: a transaction of this number leaves the key out. The first key of a group is never left out.
    static func value(_ number: UInt64, _ index: Int) -> [UInt8]? {
        var hash = (number &+ UInt64(index) << 32) &* 0x9E37_79B9_7F4A_7C15
        hash = (hash ^ hash >> 29) &* 0xBF58_476D_1CE4_E5B9
        hash ^= hash >> 32
        if index > 0, hash & 7 == 0 { return nil }
        // Some need pages of their own.
        let length = hash >> 3 & 127 == 0 ? 9000 : Int(hash >> 16 & 255)
        return encode(number) + [UInt8](repeating: UInt8(truncatingIfNeeded: hash), count: length)
    }

    static func encode(_ number: UInt64) -> [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: number >> (56 - 8 * UInt64($0))) }
    }

    static func decode(_ bytes: [UInt8]) -> UInt64 { bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) } }

    /// Writes `number` to the whole group, in an order that `first` chooses, and to the counter.
    func write(_ number: UInt64, to group: Int, beginningAt first: Int, in transaction: Transaction) throws {
        for step in 0..<keys {
            let index = (first + step) % keys
            let key = key(group, index)
            if let value = Self.value(number, index) {
                try transaction.put(Self.tree, key, value)
            } else {
                try transaction.delete(Self.tree, key)
            }
        }
        try transaction.put(Self.counterTree, [0], Self.encode(number))
    }

    func counter(_ snapshot: borrowing Snapshot) throws -> UInt64 {
        try snapshot.get(Self.counterTree, [0]).map(Self.decode) ?? 0
    }

    /// The number of the transaction that wrote the group last; 0: none has.
    /// - Throws: `StressViolation` when the group is not what one transaction wrote.
    func read(_ group: Int, _ order: Order, in snapshot: borrowing Snapshot) throws -> UInt64 {
        let place = "group \(group) at \(snapshot.lsn)"
        let number = try snapshot.get(Self.tree, key(group, 0)).map(Self.decode) ?? 0
        if order == .byKey {
            for index in 0..<keys {
                let found = try snapshot.get(Self.tree, key(group, index))
                try check(found, number, index, place)
            }
            return number
        }
        var expected = (0..<keys).filter { number > 0 && Self.value(number, $0) != nil }
        if order == .descending { expected.reverse() }
        var next = 0
        try key(group, 0).withUnsafeBytes { from in
            try key(group + 1, 0).withUnsafeBytes { to in
                try snapshot.scan(Self.tree, from: from, to: to, reverse: order == .descending) { found, value in
                    guard next < expected.count, Array(found) == key(group, expected[next]) else {
                        throw StressViolation(description: "\(place): a scan found \(Array(found)), not of \(number)")
                    }
                    try check(Array(value), number, expected[next], place)
                    next += 1
                    return true
                }
            }
        }
        guard next == expected.count else {
            throw StressViolation(description: "\(place): a scan found \(next) of \(expected.count) keys of \(number)")
        }
        return number
    }

    private func check(_ found: [UInt8]?, _ number: UInt64, _ index: Int, _ place: String) throws {
        let expected = number == 0 ? nil : Self.value(number, index)
        guard found != expected else { return }
        let shown = found.map { "\($0.count) bytes of \(Self.decode($0))" } ?? "nothing"
        throw StressViolation(description: "\(place): key \(index) holds \(shown), the group is of \(number)")
    }
}
