/// A reply as a client sees it.
package indirect enum WireValue: Sendable, Equatable {
    case null
    case simple(String)
    /// An error that the server answered: a code in capitals, a blank, text.
    case error(String)
    case integer(Int64)
    case bulk([UInt8])
    case boolean(Bool)
    case double(Double)
    /// A number beyond 64 bits, in decimal.
    case bigNumber(String)
    case array([WireValue])
    case set([WireValue])
    /// In the order in which the pairs came.
    case map([WirePair])
    /// Out of band, before or between replies.
    case push([WireValue])
}

package struct WirePair: Sendable, Equatable {
    package var key: WireValue
    package var value: WireValue

    package init(key: WireValue, value: WireValue) {
        self.key = key
        self.value = value
    }
}

extension WireValue {
    /// The bytes of a bulk or simple string.
    package var bytes: [UInt8]? {
        switch self {
        case .bulk(let bytes): bytes
        case .simple(let text): Array(text.utf8)
        default: nil
        }
    }

    /// A string of any kind, or a number, as text; nil if it is something else or not UTF-8.
    package var text: String? {
        switch self {
        case .bulk(let bytes): String(validating: bytes, as: UTF8.self)
        case .simple(let text), .bigNumber(let text): text
        case .integer(let value): String(value)
        default: nil
        }
    }

    /// An integer, or a string that spells one.
    package var integer: Int64? {
        switch self {
        case .integer(let value): value
        case .bulk(let bytes): bytes.withUnsafeBytes { parseInteger($0) }
        case .simple(let text), .bigNumber(let text): Array(text.utf8).withUnsafeBytes { parseInteger($0) }
        default: nil
        }
    }

    /// The elements of an array, set or push.
    package var elements: [WireValue]? {
        switch self {
        case .array(let values), .set(let values), .push(let values): values
        default: nil
        }
    }

    /// The pairs of a map, or of the flat array that RESP 2 has in its place.
    package var pairs: [WirePair]? {
        switch self {
        case .map(let pairs): pairs
        case .array(let values) where values.count.isMultiple(of: 2):
            stride(from: 0, to: values.count, by: 2).map { WirePair(key: values[$0], value: values[$0 + 1]) }
        default: nil
        }
    }

    /// The value of field `name` of a map.
    package subscript(_ name: String) -> WireValue? {
        pairs?.first { $0.key.text == name }?.value
    }

    package var isNull: Bool { self == .null }
}
