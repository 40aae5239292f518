/// How the vocabulary stands in JSON, the same in every object and every `--format json`: an LSN as
/// `"0/3000028"`, a timeline and a transaction as integers, a system identifier as a decimal string,
/// a token as 16 hex digits, a time as RFC 3339 UTC with microseconds.

extension LSN: Codable {
    public init(from decoder: any Decoder) throws {
        self = try decodeText(decoder, "an LSN such as 0/3000028") { $0.contains("/") ? LSN($0) : nil }
    }
    public func encode(to encoder: any Encoder) throws { try encodeText(description, encoder) }
}

extension Timestamp: Codable {
    public init(from decoder: any Decoder) throws {
        self = try decodeText(decoder, "an RFC 3339 time") { Timestamp($0) }
    }
    public func encode(to encoder: any Encoder) throws { try encodeText(description, encoder) }
}

extension SystemIdentifier: Codable {
    public init(from decoder: any Decoder) throws {
        self = try decodeText(decoder, "a system identifier") { SystemIdentifier($0) }
    }
    public func encode(to encoder: any Encoder) throws { try encodeText(description, encoder) }
}

extension TimelineToken: Codable {
    public init(from decoder: any Decoder) throws {
        self = try decodeText(decoder, "a timeline's token") { TimelineToken(name: $0) }
    }
    public func encode(to encoder: any Encoder) throws { try encodeText(description, encoder) }
}

// Timelines and transactions stand as the integers that they are: `RawRepresentable`'s own coding.
extension TimelineID: Codable {}
extension TransactionID: Codable {}

private func decodeText<T>(_ decoder: any Decoder, _ form: String, _ read: (String) -> T?) throws -> T {
    let container = try decoder.singleValueContainer()
    let text = try container.decode(String.self)
    guard let value = read(text) else {
        throw DecodingError.dataCorruptedError(in: container, debugDescription: "\"\(printable(text))\" is not \(form)")
    }
    return value
}

private func encodeText(_ text: String, _ encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(text)
}

extension SegmentName: Codable {
    public init(from decoder: any Decoder) throws {
        self = try decodeText(decoder, "a segment's name of 24 hex digits") { SegmentName($0) }
    }
    public func encode(to encoder: any Encoder) throws { try encodeText(description, encoder) }
}
