import HoldfastWire

extension JSONValue {
    /// A server's answer as JSON: maps keep their order, bytes that are no text are escaped.
    package init(_ value: WireValue) {
        switch value {
        case .null: self = .null
        case .simple(let text), .error(let text), .bigNumber(let text): self = .string(text)
        case .integer(let number): self = .integer(number)
        case .bulk(let bytes): self = .string(RecordText.text(of: bytes))
        case .boolean(let truth): self = .boolean(truth)
        case .double(let number): self = .number(number)
        case .array(let values), .set(let values), .push(let values): self = .array(values.map { JSONValue($0) })
        case .map(let pairs):
            self = .object(pairs.map { (key: $0.key.text ?? "", value: JSONValue($0.value)) })
        }
    }
}
