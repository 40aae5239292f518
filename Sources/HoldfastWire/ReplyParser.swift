import Glibc

/// Reads replies (RESP 2 and 3) out of a buffer that its caller owns.
///
/// A reply is first walked through without building anything, resumably, as its bytes come in; values are built when
/// it is there as a whole, so that memory is bounded by what has really arrived, whatever counts and lengths it announces.
package struct ReplyParser {
    package enum Step {
        /// A whole reply and its length in bytes.
        case reply(WireValue, bytes: Int)
        case needMore
        case failed(String)
    }

    private let limits: WireLimits
    private var position = 0
    /// For each open aggregate, how many elements are still to come. Empty: not begun.
    private var open: [Int] = []

    package init(limits: WireLimits = .replies) { self.limits = limits }

    /// Reads on. `input` begins with the first byte of the reply, and may be longer than at the last call.
    package mutating func next(in input: UnsafeRawBufferPointer) -> Step {
        if open.isEmpty {
            position = 0
            open.append(1)
        }
        while let left = open.last {
            if left == 0 {
                open.removeLast()
                continue
            }
            let element: Element
            switch read(input, at: position) {
            case .element(let found): element = found
            case .needMore: return .needMore
            case .failed(let why):
                open.removeAll()
                return .failed(why)
            }
            position = element.end
            // An attribute stands before a value and does not count as one.
            if element.type != UInt8(ascii: "|") { open[open.count - 1] -= 1 }
            if element.children > 0 {
                open.append(element.children)
                if open.count > limits.depth {
                    open.removeAll()
                    return .failed("replies nested deeper than \(limits.depth)")
                }
            }
        }
        var cursor = 0
        let value = build(input, &cursor)
        return .reply(value, bytes: position)
    }

    /// One message of a stream.
    enum MessageStep {
        /// A bulk string where it lies in the input, and the reply's length in bytes.
        case bulk(UnsafeRawBufferPointer, bytes: Int)
        case other(Step)
    }

    /// As `next`, but a bulk string is not copied.
    mutating func nextMessage(in input: UnsafeRawBufferPointer) -> MessageStep {
        // Nothing is begun with nothing: what comes may be a bulk string.
        guard let type = input.first else { return .other(.needMore) }
        guard open.isEmpty, type == UInt8(ascii: "$") else { return .other(next(in: input)) }
        switch read(input, at: 0) {
        case .needMore: return .other(.needMore)
        case .failed(let why): return .other(.failed(why))
        case .element(let element):
            guard let body = element.body else { return .other(.reply(.null, bytes: element.end)) }
            return .bulk(body, bytes: element.end)
        }
    }

    /// One value's head and, for strings, its body.
    private struct Element {
        var type: UInt8
        /// Between the type byte and CRLF.
        var line: UnsafeRawBufferPointer
        /// Of a bulk string; nil for null.
        var body: UnsafeRawBufferPointer?
        var children = 0
        var end: Int
    }

    private enum ReadResult {
        case element(Element)
        case needMore
        case failed(String)
    }

    private func read(_ input: UnsafeRawBufferPointer, at start: Int) -> ReadResult {
        guard start < input.count else { return .needMore }
        let window = min(input.count - start, limits.lineBytes)
        guard let found = memchr(input.baseAddress! + start, 0x0D, window) else {
            return window == limits.lineBytes ? .failed("a line longer than \(limits.lineBytes) bytes") : .needMore
        }
        let lineEnd = UnsafeRawPointer(found) - input.baseAddress!
        guard lineEnd + 1 < input.count else { return .needMore }
        guard input[lineEnd + 1] == 0x0A else { return .failed("CR without LF") }
        let type = input[start]
        guard lineEnd > start else { return .failed("an empty line") }
        let line = UnsafeRawBufferPointer(rebasing: input[(start + 1)..<lineEnd])
        let end = lineEnd + 2
        guard end <= limits.frameBytes else { return .failed("a reply longer than \(limits.frameBytes) bytes") }
        switch type {
        case UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "("), UInt8(ascii: ","):
            return .element(Element(type: type, line: line, end: end))
        case UInt8(ascii: "_"):
            return .element(Element(type: type, line: line, end: end))
        case UInt8(ascii: "#"):
            guard line.count == 1, line[0] == UInt8(ascii: "t") || line[0] == UInt8(ascii: "f") else {
                return .failed("a boolean that is neither t nor f")
            }
            return .element(Element(type: type, line: line, end: end))
        case UInt8(ascii: ":"):
            guard parseInteger(line) != nil else { return .failed("not an integer") }
            return .element(Element(type: type, line: line, end: end))
        case UInt8(ascii: "$"), UInt8(ascii: "!"), UInt8(ascii: "="):
            guard let length = parseInteger(line), length >= -1, length <= Int64(limits.bulkBytes) else {
                return .failed("length \(printableLine(line)) of a string")
            }
            if length == -1 { return .element(Element(type: type, line: line, end: end)) }
            let count = Int(length)
            guard end + count + 2 <= limits.frameBytes else {
                return .failed("a reply longer than \(limits.frameBytes) bytes")
            }
            guard input.count - end >= count + 2 else { return .needMore }
            guard input[end + count] == 0x0D, input[end + count + 1] == 0x0A else {
                return .failed("a string that is not followed by CRLF")
            }
            var body = UnsafeRawBufferPointer(rebasing: input[end..<(end + count)])
            if type == UInt8(ascii: "=") {
                guard count >= 4, body[3] == UInt8(ascii: ":") else {
                    return .failed("a verbatim string without its kind")
                }
                body = UnsafeRawBufferPointer(rebasing: body[4...])
            }
            return .element(Element(type: type, line: line, body: body, end: end + count + 2))
        case UInt8(ascii: "*"), UInt8(ascii: "~"), UInt8(ascii: ">"), UInt8(ascii: "%"), UInt8(ascii: "|"):
            guard let count = parseInteger(line), count >= -1, count <= Int64(limits.arguments) else {
                return .failed("count \(printableLine(line)) of an aggregate")
            }
            let pairs = type == UInt8(ascii: "%") || type == UInt8(ascii: "|")
            let children = max(0, Int(count)) * (pairs ? 2 : 1)
            return .element(Element(type: type, line: line, children: children, end: end))
        default:
            return .failed("a reply of unknown type 0x\(String(type, radix: 16))")
        }
    }

    private func printableLine(_ line: UnsafeRawBufferPointer) -> String {
        String(line.prefix(24).map { (0x20...0x7E).contains($0) ? Character(UnicodeScalar($0)) : "?" })
    }

    /// Builds the value at `cursor` of a reply that has been walked through: nothing can be missing or wrong any more.
    /// An element takes three bytes of input at least, so that announced counts are bounded by the input.
    private func build(_ input: UnsafeRawBufferPointer, _ cursor: inout Int) -> WireValue {
        var element = element(input, &cursor)
        // A loop: attributes may stand before one value without end, and nest nothing.
        while element.type == UInt8(ascii: "|") {
            for _ in 0..<element.children { _ = build(input, &cursor) }
            element = self.element(input, &cursor)
        }
        let children = element.children
        func values() -> [WireValue] { (0..<children).map { _ in build(input, &cursor) } }
        switch element.type {
        case UInt8(ascii: "+"): return .simple(String(decoding: element.line, as: UTF8.self))
        case UInt8(ascii: "-"): return .error(String(decoding: element.line, as: UTF8.self))
        case UInt8(ascii: ":"): return .integer(parseInteger(element.line) ?? 0)
        case UInt8(ascii: "("): return .bigNumber(String(decoding: element.line, as: UTF8.self))
        case UInt8(ascii: ","):
            let text = String(decoding: element.line, as: UTF8.self)
            return .double(Double(text) ?? .nan)
        case UInt8(ascii: "#"): return .boolean(element.line[0] == UInt8(ascii: "t"))
        case UInt8(ascii: "$"), UInt8(ascii: "="): return element.body.map { .bulk(Array($0)) } ?? .null
        case UInt8(ascii: "!"): return element.body.map { .error(String(decoding: $0, as: UTF8.self)) } ?? .null
        case UInt8(ascii: "*"): return isNull(element) ? .null : .array(values())
        case UInt8(ascii: "~"): return .set(values())
        case UInt8(ascii: ">"): return .push(values())
        case UInt8(ascii: "%"):
            return .map(
                (0..<element.children / 2).map { _ in
                    let key = build(input, &cursor)
                    return WirePair(key: key, value: build(input, &cursor))
                })
        default: return .null
        }
    }

    private func element(_ input: UnsafeRawBufferPointer, _ cursor: inout Int) -> Element {
        guard case .element(let element) = read(input, at: cursor) else {
            preconditionFailure("a reply that was complete")
        }
        cursor = element.end
        return element
    }

    private func isNull(_ element: Element) -> Bool { element.line.count == 2 && element.line[0] == UInt8(ascii: "-") }
}
