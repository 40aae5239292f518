import HoldfastTestSupport

/// One reply of RESP 2 or 3 with the bytes that spell it, so that two servers' replies can be compared to the byte.
struct RawReply: Equatable, CustomStringConvertible {
    /// A scalar: all of it. An aggregate: its first line, `elements` follow.
    var bytes: [UInt8]
    var elements: [RawReply] = []

    var type: UInt8 { bytes[0] }
    var isError: Bool { type == UInt8(ascii: "-") }
    var isArray: Bool { type == UInt8(ascii: "*") }
    /// A null of either version.
    var isNull: Bool {
        bytes.starts(with: "_".utf8) || bytes.starts(with: "$-1".utf8) || bytes.starts(with: "*-1".utf8)
    }

    /// A simple string or error without its type; `nil` for others.
    var text: String? {
        [UInt8(ascii: "+"), UInt8(ascii: "-")].contains(type)
            ? String(decoding: bytes.dropFirst().dropLast(2), as: UTF8.self) : nil
    }
    var integer: Int64? {
        type == UInt8(ascii: ":") ? Int64(String(decoding: bytes.dropFirst().dropLast(2), as: UTF8.self)) : nil
    }
    /// What a bulk string holds.
    var bulk: [UInt8]? {
        guard type == UInt8(ascii: "$"), !isNull, let end = bytes.firstIndex(of: 10) else { return nil }
        return Array(bytes[(end + 1)...].dropLast(2))
    }

    var description: String {
        let shown = bytes.prefix(160).map { byte in
            (0x20...0x7E).contains(byte) ? String(UnicodeScalar(byte)) : "\\x" + String(byte, radix: 16)
        }.joined()
        let more = bytes.count > 160 ? "… (\(bytes.count) bytes)" : ""
        return shown + more + (elements.isEmpty ? "" : " " + elements.prefix(20).description)
    }
}

extension RawConnection {
    /// The next reply; `nil` when the other end closes before it is whole.
    func reply() throws -> RawReply? {
        guard let line = try lineBytes() else { return nil }
        let count = Int(String(decoding: line.dropFirst().dropLast(2), as: UTF8.self)) ?? -1
        switch line[0] {
        case UInt8(ascii: "$"), UInt8(ascii: "="), UInt8(ascii: "!"):
            guard count >= 0 else { return RawReply(bytes: line) }
            let body = try bytes(count + 2)
            return body.count == count + 2 ? RawReply(bytes: line + body) : nil
        case UInt8(ascii: "*"), UInt8(ascii: "~"), UInt8(ascii: ">"), UInt8(ascii: "%"):
            var reply = RawReply(bytes: line)
            for _ in 0..<max(0, line[0] == UInt8(ascii: "%") ? 2 * count : count) {
                guard let element = try self.reply() else { return nil }
                reply.elements.append(element)
            }
            return reply
        case UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: ":"), UInt8(ascii: "_"), UInt8(ascii: "#"),
            UInt8(ascii: ","), UInt8(ascii: "("):
            return RawReply(bytes: line)
        default: throw NeverHappened(what: "a reply of RESP", errors: String(decoding: line, as: UTF8.self))
        }
    }

    /// Sends requests, all at once.
    func send(_ requests: [[[UInt8]]]) {
        var bytes: [UInt8] = []
        for words in requests {
            bytes += Array("*\(words.count)\r\n".utf8)
            for word in words { bytes += Array("$\(word.count)\r\n".utf8) + word + [13, 10] }
        }
        send(bytes)
    }
}
