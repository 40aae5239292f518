import HoldfastTestSupport
import Testing

@testable import HoldfastWire

@Suite("Requests are read as they came, however they are cut")
struct RequestParserTests {
    /// All requests in `bytes`, with the parser seeing `pieces` of it one after the other.
    static func parse(_ bytes: [UInt8], cutAt cuts: [Int] = [], limits: WireLimits = WireLimits()) -> (
        requests: [[[UInt8]]], fault: RequestFault?
    ) {
        let parser = RequestParser(limits: limits)
        var requests: [[[UInt8]]] = []
        var consumed = 0
        for end in cuts.sorted() + [bytes.count] {
            while true {
                // A copy of its own, so that reading behind the input is found.
                let visible = Array(bytes[consumed..<max(consumed, end)])
                let step = visible.withUnsafeBytes { input in
                    let step = parser.next(in: input)
                    if case .request = step {
                        let arguments = parser.arguments(in: input)
                        requests.append((0..<arguments.count).map { Array(arguments[$0]) })
                    }
                    return step
                }
                if case .request(let count) = step {
                    consumed += count
                    continue
                }
                if case .failed(let fault) = step { return (requests, fault) }
                break
            }
        }
        return (requests, nil)
    }

    static func encode(_ requests: [[[UInt8]]]) -> [UInt8] {
        let writer = ReplyWriter()
        requests.forEach { writer.request($0) }
        return Array(writer.bytes)
    }

    @Test("what a client writes is what the server reads, cut anywhere")
    func roundTrip() {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("RequestParser"))
        for _ in 0..<200 {
            let requests = (0..<Int.random(in: 1...5, using: &random)).map { _ in
                (0..<Int.random(in: 1...6, using: &random)).map { _ in
                    (0..<[0, 1, 7, 300].randomElement(using: &random)!).map { _ in
                        UInt8.random(in: 0...255, using: &random)
                    }
                }
            }
            let bytes = Self.encode(requests)
            let cuts = (0..<4).map { _ in Int.random(in: 0...bytes.count, using: &random) }
            let read = Self.parse(bytes, cutAt: cuts)
            #expect(read.fault == nil)
            #expect(read.requests == requests)
        }
    }

    @Test("one request, cut at each byte")
    func cutEverywhere() {
        let requests = [["SET", "key", "a\r\nb"], ["GET", ""]].map { $0.map { Array($0.utf8) } }
        let bytes = Self.encode(requests)
        for cut in 0...bytes.count {
            let read = Self.parse(bytes, cutAt: [cut])
            #expect(read.requests == requests && read.fault == nil, "cut at \(cut)")
        }
        let all = Self.parse(bytes, cutAt: Array(0...bytes.count))
        #expect(all.requests == requests)
    }

    @Test("empty arrays and lines are no requests")
    func empty() {
        let read = Self.parse(Array("*0\r\n\r\n*-1\r\n  \r\n*1\r\n$4\r\nPING\r\n".utf8))
        #expect(read.fault == nil)
        #expect(read.requests.filter { !$0.isEmpty } == [[Array("PING".utf8)]])
    }

    @Test(
        "inline requests with quotes and escapes",
        arguments: [
            ("get a", ["get", "a"]), ("  set  k  \"a b\"  ", ["set", "k", "a b"]),
            ("echo \"\\x41\\n\\\"\"", ["echo", "A\n\""]),
            ("echo 'it\\'s'", ["echo", "it's"]), ("echo \"\"", ["echo", ""]), ("echo a\"b\"", ["echo", "ab"]),
            ("echo \"\\xZZ\"", ["echo", "xZZ"]), ("a\tb", ["a", "b"]),
        ])
    func inline(_ line: String, _ words: [String]) {
        for ending in ["\r\n", "\n"] {
            let read = Self.parse(Array((line + ending).utf8))
            #expect(read.requests == [words.map { Array($0.utf8) }])
        }
    }

    @Test(
        "S9: lengths that are absurd, and frames that are malformed, fail with the reason",
        arguments: [
            ("*2147483648\r\n", "invalid multibulk length"), ("*4294967295\r\n", "invalid multibulk length"),
            ("*9223372036854775808\r\n", "invalid multibulk length"), ("*1048577\r\n", "invalid multibulk length"),
            ("*x\r\n", "invalid multibulk length"), ("*\r\n", "invalid multibulk length"),
            ("*+1\r\n", "invalid multibulk length"),
            ("*1\r\n$-1\r\n", "invalid bulk length"), ("*1\r\n$2147483648\r\n", "invalid bulk length"),
            ("*1\r\n$4294967295\r\n", "invalid bulk length"), ("*1\r\n$9223372036854775808\r\n", "invalid bulk length"),
            ("*1\r\n$9223372036854775807\r\n", "invalid bulk length"), ("*1\r\n$67108865\r\n", "invalid bulk length"),
            ("*1\r\n:1\r\n", "expected '$', got ':'"), ("*1\r\n\u{0}\r\n", "expected '$', got '\\x0'"),
            ("*1\r\n$1\r\nab\r\n", "bulk string is not followed by CRLF"), ("*1\rx", "expected LF after CR"),
            ("*11111111111111111111111111111111111111111111", "too big mbulk count string"),
            ("*1\r\n$1111111111111111111111111111111111111111", "too big bulk count string"),
            ("echo \"a\r\n", "unbalanced quotes in request"), ("echo \"a\"b\r\n", "unbalanced quotes in request"),
        ])
    func malformed(_ text: String, _ reason: String) {
        let read = Self.parse(Array(text.utf8))
        #expect(read.fault == RequestFault(reason))
        #expect(read.requests.isEmpty)
    }

    @Test("S9: a line without an end is refused at its bound")
    func endlessLine() {
        let read = Self.parse([UInt8](repeating: 0x61, count: 64 << 10))
        #expect(read.fault == RequestFault("too big inline request"))
        #expect(Self.parse([UInt8](repeating: 0x61, count: (64 << 10) - 1)).fault == nil)
    }

    @Test("S9: a request whose parts are small and whose whole is not is refused at the frame's bound")
    func frameBound() {
        var limits = WireLimits()
        limits.frameBytes = 1000
        let read = Self.parse(
            Self.encode([[UInt8]](repeating: [UInt8](repeating: 1, count: 90), count: 20).map { [$0] }), limits: limits)
        #expect(read.fault == nil, "twenty small requests are no large one")
        let whole = Self.parse(
            Self.encode([[[UInt8]](repeating: [UInt8](repeating: 1, count: 90), count: 20)]), limits: limits)
        #expect(whole.fault == RequestFault("invalid bulk length"))
    }

    @Test("S9: random bytes never trap, and are read or refused")
    func randomBytes() {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("RequestParser.random"))
        let alphabet = Array("*$\r\n0123456789-\"'\\x abc".utf8)
        for _ in 0..<3000 {
            let bytes = (0..<Int.random(in: 0...40, using: &random)).map { _ in alphabet.randomElement(using: &random)!
            }
            let whole = Self.parse(bytes)
            let cut = Self.parse(bytes, cutAt: Array(0...bytes.count))
            #expect(whole.requests == cut.requests && whole.fault == cut.fault, "\(bytes)")
        }
    }

    @Test(
        "integers are spelled in one way",
        arguments: [
            ("0", 0), ("-1", -1), ("9223372036854775807", Int64.max), ("-9223372036854775808", Int64.min), ("10", 10),
            ("", nil), ("-", nil), ("+1", nil), ("01", nil), ("-0", nil), (" 1", nil), ("1 ", nil), ("1.0", nil),
            ("9223372036854775808", nil), ("-9223372036854775809", nil), ("99999999999999999999", nil),
        ] as [(String, Int64?)])
    func integers(_ text: String, _ value: Int64?) {
        #expect(Array(text.utf8).withUnsafeBytes { parseInteger($0) } == value)
    }
}
