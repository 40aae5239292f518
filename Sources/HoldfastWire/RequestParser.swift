import Glibc

/// Where one argument of a request lies.
package struct ArgumentRange: Sendable {
    package var offset: Int
    package var count: Int
}

/// Why a request cannot be read. The text is what Redis says in the same place; after it the connection is closed,
/// since nobody knows where the next request would begin.
package struct RequestFault: Error, Equatable {
    package var reason: String
    package init(_ reason: String) { self.reason = "Protocol error: " + reason }
}

/// Reads requests (RESP arrays of bulk strings, or inline lines) out of a buffer that its caller owns.
///
/// The parser copies no argument and allocates nothing but one range for each argument that has arrived.
/// It can be called again with the same bytes and more behind them: it goes on where it stopped, so that a
/// large request which comes in small pieces is looked at once.
///
///     while true {
///         switch parser.next(in: input) {          // input begins with the request
///         case .request(let bytes): run(parser.arguments(in: input)); input = rest behind `bytes`
///         case .needMore: wait for input
///         case .failed(let fault): say so and close
///         }
///     }
///
/// One owner, one thread at a time.
package final class RequestParser {
    package enum Step: Equatable {
        /// A whole request of so many bytes. It has no arguments if it was an empty line or array.
        case request(bytes: Int)
        case needMore
        case failed(RequestFault)
    }

    /// May be changed between two requests.
    package var limits: WireLimits
    private var ranges = RangeList()
    /// Bytes already understood, from the request's first.
    private var position = 0
    /// Elements still to come; nil before the header has been read.
    private var remaining: Int?
    /// The length of the bulk string whose bytes come next; nil before its header.
    private var bulk: Int?
    /// Holds the arguments of an inline request, whose quotes and escapes are resolved.
    private var inline: UnsafeMutableRawBufferPointer?

    package init(limits: WireLimits = WireLimits()) {
        self.limits = limits
    }

    deinit { inline?.deallocate() }

    /// The arguments of the request that `next` just reported; valid until `next` is called again
    /// and while `input` (the same buffer) is.
    @inline(__always)
    package func arguments(in input: UnsafeRawBufferPointer) -> RequestArguments {
        RequestArguments(bytes: inline.map { UnsafeRawBufferPointer($0) } ?? input, ranges: ranges.list)
    }

    /// Forgets a request that was read in part.
    package func reset() {
        ranges.clear()
        position = 0
        remaining = nil
        bulk = nil
        if inline != nil {
            inline?.deallocate()
            inline = nil
        }
    }

    /// Reads on. `input` begins with the first byte of the request.
    package func next(in input: UnsafeRawBufferPointer) -> Step {
        if remaining == nil { reset() }
        if remaining == 0 { reset() }
        do throws(RequestFault) {
            if remaining == nil {
                guard input.count > 0 else { return .needMore }
                if input[0] != 0x2A { return try nextInline(input) }
                guard let line = try line(in: input, "too big mbulk count string") else { return .needMore }
                guard let count = parseInteger(line), count <= Int64(limits.arguments) else {
                    throw RequestFault("invalid multibulk length")
                }
                if count <= 0 { return .request(bytes: position) }
                remaining = Int(count)
            }
            while remaining! > 0 {
                if bulk == nil {
                    guard position < input.count else { return .needMore }
                    guard input[position] == 0x24 else {
                        throw RequestFault("expected '$', got '\(shown(input[position]))'")
                    }
                    guard let line = try line(in: input, "too big bulk count string") else { return .needMore }
                    guard let count = parseInteger(line), count >= 0, count <= Int64(limits.bulkBytes),
                        position + Int(count) + 2 <= limits.frameBytes
                    else { throw RequestFault("invalid bulk length") }
                    bulk = Int(count)
                }
                let count = bulk!
                guard input.count - position >= count + 2 else { return .needMore }
                guard input[position + count] == 0x0D, input[position + count + 1] == 0x0A else {
                    throw RequestFault("bulk string is not followed by CRLF")
                }
                ranges.append(ArgumentRange(offset: position, count: count))
                position += count + 2
                bulk = nil
                remaining! -= 1
            }
            return .request(bytes: position)
        } catch {
            reset()
            return .failed(error)
        }
    }

    /// How many bytes from the request's first are needed at least before `next` can get further; a hint for the buffer.
    package var wanted: Int { position + (bulk.map { $0 + 2 } ?? 1) }

    /// The bytes between the type byte at `position` and CRLF; moves behind it. nil if the line's end is not there yet.
    private func line(in input: UnsafeRawBufferPointer, _ tooLong: String) throws(RequestFault)
        -> UnsafeRawBufferPointer?
    {
        // Counts are short: a plain loop beats a call of memchr.
        let start = position + 1
        var at = start
        let end = min(input.count, start + 32)
        while at < end, input[at] != 0x0D { at += 1 }
        if at == end {
            guard end == input.count else { throw RequestFault(tooLong) }
            return nil
        }
        guard at + 1 < input.count else { return nil }
        guard input[at + 1] == 0x0A else { throw RequestFault("expected LF after CR") }
        position = at + 2
        return UnsafeRawBufferPointer(rebasing: input[start..<at])
    }

    private func shown(_ byte: UInt8) -> String {
        (0x20...0x7E).contains(byte) ? String(UnicodeScalar(byte)) : "\\x" + String(byte, radix: 16)
    }
}

extension RequestParser {
    /// An inline request: words on one line, as typed into a terminal, with the quotes of `redis-cli`.
    private func nextInline(_ input: UnsafeRawBufferPointer) throws(RequestFault) -> Step {
        // How TLS begins. It may have no end of line for long, and its client would wait for an answer as long.
        if input[0] == 0x16 { throw RequestFault("TLS is not spoken here") }
        let window = min(input.count, limits.lineBytes)
        guard let found = memchr(input.baseAddress!, 0x0A, window) else {
            if input.count >= limits.lineBytes { throw RequestFault("too big inline request") }
            return .needMore
        }
        let lineEnd = UnsafeRawPointer(found) - input.baseAddress!
        var end = lineEnd
        if end > 0, input[end - 1] == 0x0D { end -= 1 }
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(end, 1), alignment: 1)
        inline = memory
        guard Self.split(UnsafeRawBufferPointer(rebasing: input[..<end]), into: memory, &ranges) else {
            throw RequestFault("unbalanced quotes in request")
        }
        return .request(bytes: lineEnd + 1)
    }

    /// Splits `line` at blanks; `"…"` with escapes and `'…'` are one word each (as `sdssplitargs` of Redis).
    /// Words are never longer than what spells them, so that `memory` of the line's size holds them. false: quotes do not match.
    private static func split(
        _ line: UnsafeRawBufferPointer, into memory: UnsafeMutableRawBufferPointer, _ ranges: inout RangeList
    ) -> Bool {
        var at = 0
        var out = 0
        func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
        while true {
            while at < line.count, isSpace(line[at]) { at += 1 }
            guard at < line.count else { return true }
            let start = out
            var quote: UInt8 = 0
            word: while true {
                guard at < line.count else {
                    if quote != 0 { return false }
                    break
                }
                let byte = line[at]
                switch (quote, byte) {
                case (0, 0x22), (0, 0x27): quote = byte
                case (0, _) where isSpace(byte): break word
                case (0x22, 0x5C) where at + 3 < line.count && line[at + 1] == 0x78:
                    if let value = hexadecimal(line[at + 2], line[at + 3]) {
                        memory[out] = value
                        at += 3
                    } else {
                        memory[out] = 0x78
                        at += 1
                    }
                    out += 1
                case (0x22, 0x5C) where at + 1 < line.count:
                    at += 1
                    memory[out] = escaped(line[at])
                    out += 1
                case (0x27, 0x5C) where at + 1 < line.count && line[at + 1] == 0x27:
                    at += 1
                    memory[out] = 0x27
                    out += 1
                case (0x22, 0x22), (0x27, 0x27):
                    // A closing quote ends the word.
                    guard at + 1 == line.count || isSpace(line[at + 1]) else { return false }
                    at += 1
                    break word
                default:
                    memory[out] = byte
                    out += 1
                }
                at += 1
            }
            ranges.append(ArgumentRange(offset: start, count: out - start))
        }
    }

    private static func escaped(_ byte: UInt8) -> UInt8 {
        switch byte {
        case 0x6E: 0x0A
        case 0x72: 0x0D
        case 0x74: 0x09
        case 0x62: 0x08
        case 0x61: 0x07
        default: byte
        }
    }

    private static func hexadecimal(_ high: UInt8, _ low: UInt8) -> UInt8? {
        func digit(_ byte: UInt8) -> UInt8? {
            switch byte {
            case 0x30...0x39: byte - 0x30
            case 0x41...0x46: byte - 0x37
            case 0x61...0x66: byte - 0x57
            default: nil
            }
        }
        guard let high = digit(high), let low = digit(low) else { return nil }
        return high << 4 | low
    }
}

/// The ranges of one request's arguments: memory that the parser owns and uses again.
private struct RangeList: ~Copyable {
    private var memory = UnsafeMutableBufferPointer<ArgumentRange>.allocate(capacity: 16)
    private var count = 0

    deinit { memory.deallocate() }

    var list: UnsafeBufferPointer<ArgumentRange> { UnsafeBufferPointer(rebasing: memory[..<count]) }

    mutating func append(_ range: ArgumentRange) {
        if count == memory.count { resize(to: count * 2) }
        memory.initializeElement(at: count, to: range)
        count += 1
    }

    /// Memory for a request of many arguments is given back.
    mutating func clear() {
        count = 0
        if memory.count > 1024 { resize(to: 16) }
    }

    private mutating func resize(to capacity: Int) {
        let other = UnsafeMutableBufferPointer<ArgumentRange>.allocate(capacity: capacity)
        _ = other.initialize(from: list)
        memory.deallocate()
        memory = other
    }
}

/// The arguments of one request, borrowed from the parser and its input: valid until the parser is used again.
package struct RequestArguments {
    private let bytes: UnsafeRawBufferPointer
    private let ranges: UnsafeBufferPointer<ArgumentRange>

    @inline(__always)
    init(bytes: UnsafeRawBufferPointer, ranges: UnsafeBufferPointer<ArgumentRange>) {
        self.bytes = bytes
        self.ranges = ranges
    }

    package var count: Int { ranges.count }

    /// Argument `index` (0 is the command's name), valid while the input is.
    package subscript(_ index: Int) -> UnsafeRawBufferPointer {
        precondition(index >= 0 && index < ranges.count)
        let range = ranges[index]
        return UnsafeRawBufferPointer(start: bytes.baseAddress.map { $0 + range.offset }, count: range.count)
    }

    /// Argument `index` as text; bytes that are not UTF-8 are replaced.
    package func text(_ index: Int) -> String { String(decoding: self[index], as: UTF8.self) }
}
