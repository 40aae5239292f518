import HoldfastCore

/// A JSON document that keeps the order of its keys, so that what people and scripts read is stable.
package indirect enum JSONValue: Sendable, Equatable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
    case null
    case boolean(Bool)
    case integer(Int64)
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object([(key: String, value: JSONValue)])

    package init(stringLiteral value: String) { self = .string(value) }
    package init(integerLiteral value: Int64) { self = .integer(value) }
    package init(booleanLiteral value: Bool) { self = .boolean(value) }
    package init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
    package init(dictionaryLiteral elements: (String, JSONValue)...) {
        self = .object(elements.map { (key: $0.0, value: $0.1) })
    }
    package init(nilLiteral: ()) { self = .null }

    package init(_ value: Int) { self = .integer(Int64(value)) }
    package init(_ value: String?) { self = value.map { .string($0) } ?? .null }
    package init(_ lsn: LSN?) { self = lsn.map { .string($0.description) } ?? .null }

    package static func == (a: JSONValue, b: JSONValue) -> Bool { a.text() == b.text() }

    /// One line without blanks, or indented by two.
    package func text(indented: Bool = false) -> String {
        var out = ""
        write(to: &out, level: indented ? 0 : nil)
        return out
    }

    private func write(to out: inout String, level: Int?) {
        switch self {
        case .null: out += "null"
        case .boolean(let value): out += value ? "true" : "false"
        case .integer(let value): out += String(value)
        case .number(let value): out += value.isFinite ? "\(value)" : "null"
        case .string(let value): Self.write(value, to: &out)
        case .array(let values):
            Self.list(values, "[", "]", to: &out, level) { $0.write(to: &$1, level: $2) }
        case .object(let pairs):
            Self.list(pairs, "{", "}", to: &out, level) { pair, out, level in
                Self.write(pair.key, to: &out)
                out += level == nil ? ":" : ": "
                pair.value.write(to: &out, level: level)
            }
        }
    }

    private static func list<T>(
        _ elements: [T], _ open: String, _ close: String, to out: inout String, _ level: Int?,
        _ write: (T, inout String, Int?) -> Void
    ) {
        out += open
        let inner = level.map { $0 + 1 }
        for (index, element) in elements.enumerated() {
            if index > 0 { out += "," }
            if let inner { out += "\n" + String(repeating: "  ", count: inner) }
            write(element, &out, inner)
        }
        if let level, !elements.isEmpty { out += "\n" + String(repeating: "  ", count: level) }
        out += close
    }

    private static func write(_ text: String, to out: inout String) {
        out += "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\r": out += "\\r"
            case "\t": out += "\\t"
            // Control characters, and the line separators that some readers trip over.
            case _
            where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) || scalar.value == 0x2028
                || scalar.value == 0x2029:
                out += "\\u" + hexadecimal(UInt64(scalar.value), digits: 4)
            default: out.unicodeScalars.append(scalar)
            }
        }
        out += "\""
    }
}
