/// A branch of history. The first is 1; every promotion takes a number above the highest claimed.
public struct TimelineID: RawRepresentable, Comparable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public init(_ rawValue: UInt32) { self.rawValue = rawValue }
    public static let first = TimelineID(1)
    public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }

    /// Eight hex digits, as in segment names: `00000002`.
    public var description: String { hexadecimal(UInt64(rawValue), digits: 8) }

    /// Reads exactly eight hex digits.
    public init?(name: some StringProtocol) {
        guard name.utf8.count == 8, let value = parseHexadecimal(name, atMost: 8) else { return nil }
        self.init(UInt32(value))
    }
}

/// 64 random bits drawn when a timeline is opened. Two nodes that took the same number by mistake differ here.
public struct TimelineToken: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static func random() -> Self { Self(rawValue: UInt64.random(in: 1...UInt64.max)) }
    /// 16 hex digits.
    public var description: String { hexadecimal(rawValue, digits: 16) }
    public init?(name: some StringProtocol) {
        guard name.utf8.count == 16, let value = parseHexadecimal(name, atMost: 16) else { return nil }
        self.init(rawValue: value)
    }
}

/// 63 random bits drawn by `init`: what makes a data directory lineage one cluster.
/// Printed, and written in JSON, as a decimal string.
public struct SystemIdentifier: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static func random() -> Self { Self(rawValue: UInt64.random(in: 1...(UInt64.max >> 1))) }
    public var description: String { String(rawValue) }
    public init?(_ text: some StringProtocol) {
        guard let value = UInt64(text), value <= UInt64.max >> 1, value > 0 else { return nil }
        self.init(rawValue: value)
    }
}

/// Counts committed transactions of a cluster, from 1. 0 is "none yet".
public struct TransactionID: RawRepresentable, Comparable, Hashable, Sendable, CustomStringConvertible {
    /// No transaction has a greater number: 63 bits, as the catalog's `bigint` holds. What was read and says more is
    /// damage, and nobody counts on from it.
    public static let last = TransactionID(UInt64.max >> 1)

    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    public var description: String { String(rawValue) }
}

/// The place of a page in the page space. Page `n` lies in file `n / 131072` at `n % 131072 * 8192`.
public struct PageNumber: RawRepresentable, Comparable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
    @inlinable public init(_ rawValue: UInt32) { self.rawValue = rawValue }
    @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    public var description: String { String(rawValue) }

    /// 1 GiB files: `pages/00000000`, decimal, eight digits.
    public static let pagesPerFile: UInt32 = 131_072
    package var fileIndex: Int { Int(rawValue / Self.pagesPerFile) }
    /// Bytes from the start of its file.
    package var fileOffset: UInt64 { UInt64(rawValue % Self.pagesPerFile) * UInt64(Page.bytes) }
    /// The path of page file `index` below the data directory.
    package static func filePath(_ index: Int) -> String {
        let digits = String(index)
        return "pages/" + String(repeating: "0", count: Swift.max(0, 8 - digits.utf8.count)) + digits
    }
}
