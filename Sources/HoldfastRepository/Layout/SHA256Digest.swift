import Crypto
import HoldfastCore

/// 32 bytes of SHA-256; 64 lower-case hex digits in JSON and output.
package struct SHA256Digest: Hashable, Sendable, CustomStringConvertible {
    package static let byteCount = 32
    package let bytes: [UInt8]

    /// `nil` unless there are 32.
    package init?(_ bytes: some Collection<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        self.bytes = Array(bytes)
    }

    /// The digest of these bytes.
    package init(of buffer: UnsafeRawBufferPointer) {
        var hash = SHA256()
        hash.update(bufferPointer: buffer)
        bytes = Array(hash.finalize())
    }

    package init(of bytes: [UInt8]) { self = bytes.withUnsafeBytes { SHA256Digest(of: $0) } }

    package var description: String {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        text.reserveCapacity(64)
        for byte in bytes {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// Reads 64 hex digits.
    package init?(hexadecimal text: some StringProtocol) {
        guard text.utf8.count == 64 else { return nil }
        var bytes: [UInt8] = []
        var rest = text[...]
        while !rest.isEmpty {
            guard let value = parseHexadecimal(rest.prefix(2), atMost: 2) else { return nil }
            bytes.append(UInt8(value))
            rest = rest.dropFirst(2)
        }
        self.init(bytes)
    }
}

/// SHA-256 of bytes that come in pieces.
package struct RunningSHA256: Sendable {
    private var hash = SHA256()
    package init() {}
    package mutating func update(_ buffer: UnsafeRawBufferPointer) { hash.update(bufferPointer: buffer) }
    package func digest() -> SHA256Digest { SHA256Digest(Array(hash.finalize()))! }  // It has 32 bytes.
}

extension SHA256Digest: Codable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let digest = SHA256Digest(hexadecimal: try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a SHA-256 of 64 hex digits")
        }
        self = digest
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
