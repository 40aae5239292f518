/// A position in the write-ahead log: the number of bytes that lie before it in one endless log.
///
/// Printed as PostgreSQL prints it, `16/B374D848`; in object names as 16 hex digits.
public struct LSN: RawRepresentable, Comparable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: UInt64

    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// "No position". No record ends here, since a segment begins with a header.
    public static let zero = LSN(0)
    public static let max = LSN(UInt64.max)

    @inlinable public static func < (a: LSN, b: LSN) -> Bool { a.rawValue < b.rawValue }
    @inlinable public static func + (a: LSN, bytes: Int) -> LSN { LSN(a.rawValue &+ UInt64(bytes)) }
    /// Bytes from `b` to `a`; `a` must not lie before `b`.
    @inlinable public static func - (a: LSN, b: LSN) -> Int { Int(a.rawValue - b.rawValue) }

    /// `16/B374D848`
    public var description: String {
        hexadecimal(rawValue >> 32) + "/" + hexadecimal(rawValue & 0xFFFF_FFFF)
    }

    /// 16 hex digits without a slash, for names of objects and files.
    public var objectName: String { hexadecimal(rawValue, digits: 16) }

    /// Reads `16/B374D848`, or 16 hex digits as in object names. `nil` for anything else.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        if parts.count == 2, let high = parseHexadecimal(parts[0], atMost: 8),
            let low = parseHexadecimal(parts[1], atMost: 8)
        {
            self.init(high << 32 | low)
        } else if parts.count == 1, text.utf8.count == 16, let value = parseHexadecimal(text, atMost: 16) {
            self.init(value)
        } else {
            return nil
        }
    }
}

/// `value` in upper-case hex digits, at least `digits` of them.
package func hexadecimal(_ value: UInt64, digits: Int = 1) -> String {
    let text = String(value, radix: 16, uppercase: true)
    return String(repeating: "0", count: Swift.max(0, digits - text.utf8.count)) + text
}

/// The number that 1 to `atMost` hex digits and nothing else spell; `nil` otherwise.
package func parseHexadecimal(_ text: some StringProtocol, atMost: Int) -> UInt64? {
    guard (1...atMost).contains(text.utf8.count),
        text.utf8.allSatisfy({ (48...57).contains($0) || (65...70).contains($0) || (97...102).contains($0) })
    else { return nil }
    return UInt64(text, radix: 16)
}
