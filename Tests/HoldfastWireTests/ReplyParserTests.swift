import HoldfastTestSupport
import Testing

@testable import HoldfastWire

@Suite("Replies are read as they came, and never believed beyond what arrived")
struct ReplyParserTests {
    enum Outcome: Equatable {
        case reply(WireValue)
        case incomplete
        case failed
    }

    /// Feeds `bytes` in the given cuts; the reply must end where the bytes do.
    static func parse(_ bytes: [UInt8], cutAt cuts: [Int] = []) -> Outcome {
        var parser = ReplyParser()
        for end in cuts.sorted() + [bytes.count] {
            let visible = Array(bytes[..<end])
            switch visible.withUnsafeBytes({ parser.next(in: $0) }) {
            case .reply(let value, let count):
                return count == bytes.count ? .reply(value) : .failed
            case .failed: return .failed
            case .needMore: continue
            }
        }
        return .incomplete
    }

    static func random(_ depth: Int, _ random: inout SeededGenerator) -> WireValue {
        switch Int.random(in: 0..<(depth > 0 ? 10 : 6), using: &random) {
        case 0: .null
        case 1: .simple("OK \(Int.random(in: 0...9, using: &random))")
        case 2: .error("ERR no")
        case 3: .integer(Int64.random(in: .min ... .max, using: &random))
        case 4:
            .bulk((0..<Int.random(in: 0...30, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) })
        case 5: .boolean(Bool.random(using: &random))
        case 6, 7: .array((0..<Int.random(in: 0...4, using: &random)).map { _ in Self.random(depth - 1, &random) })
        case 8: .set((0..<Int.random(in: 0...4, using: &random)).map { _ in Self.random(depth - 1, &random) })
        default:
            .map(
                (0..<Int.random(in: 0...3, using: &random)).map { _ in
                    WirePair(key: Self.random(0, &random), value: Self.random(depth - 1, &random))
                })
        }
    }

    static func write(_ value: WireValue, _ writer: ReplyWriter) {
        switch value {
        case .null: writer.null()
        case .simple(let text): writer.simple(text)
        case .error(let text): writer.error(text)
        case .integer(let number): writer.integer(number)
        case .bulk(let bytes): writer.bulk(bytes)
        case .boolean(let flag): writer.boolean(flag)
        case .array(let values):
            writer.array(values.count)
            values.forEach { write($0, writer) }
        case .set(let values):
            writer.set(values.count)
            values.forEach { write($0, writer) }
        case .map(let pairs):
            writer.map(pairs.count)
            for pair in pairs {
                write(pair.key, writer)
                write(pair.value, writer)
            }
        default: Issue.record("not written by servers: \(value)")
        }
    }

    @Test("what the server writes in RESP 3 is what the client reads, cut anywhere")
    func roundTrip() {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("ReplyParser"))
        for _ in 0..<300 {
            let value = Self.random(4, &random)
            let writer = ReplyWriter(version: .resp3)
            Self.write(value, writer)
            let bytes = Array(writer.bytes)
            let cuts = (0..<5).map { _ in Int.random(in: 0...bytes.count, using: &random) }
            #expect(Self.parse(bytes, cutAt: cuts) == .reply(value))
            if bytes.count > 1 { #expect(Self.parse(Array(bytes.dropLast())) == .incomplete) }
        }
    }

    @Test("RESP 2 has flat arrays for maps and a null bulk string")
    func version2() {
        let writer = ReplyWriter(version: .resp2)
        writer.map(1)
        writer.bulk("a")
        writer.null()
        writer.boolean(true)
        writer.nullArray()
        #expect(Array(writer.bytes) == Array("*2\r\n$1\r\na\r\n$-1\r\n:1\r\n*-1\r\n".utf8))
        #expect(WireValue.array([.bulk([97]), .null])["a"] == .null)
    }

    @Test(
        "every type of RESP 3",
        arguments: [
            ("_\r\n", .null), ("$-1\r\n", .null), ("*-1\r\n", .null), ("#t\r\n", .boolean(true)),
            (",1.5\r\n", .double(1.5)),
            ("(12345678901234567890123\r\n", .bigNumber("12345678901234567890123")),
            ("!5\r\nERR x\r\n", .error("ERR x")),
            ("=7\r\ntxt:abc\r\n", .bulk([97, 98, 99])), (">1\r\n+x\r\n", .push([.simple("x")])),
            ("|1\r\n+k\r\n:1\r\n:2\r\n", .integer(2)), ("*1\r\n|1\r\n+k\r\n:1\r\n:2\r\n", .array([.integer(2)])),
            ("%1\r\n+k\r\n*0\r\n", .map([WirePair(key: .simple("k"), value: .array([]))])),
        ] as [(String, WireValue)])
    func types(_ text: String, _ value: WireValue) { #expect(Self.parse(Array(text.utf8)) == .reply(value)) }

    @Test(
        "S9: lengths that are absurd and replies that are malformed fail",
        arguments: [
            "$2147483648\r\n", "$9223372036854775808\r\n", "$-2\r\n", "*4294967295\r\n", "*-2\r\n",
            "%9223372036854775807\r\n",
            "$1\r\nab\r\n", "?\r\n", "\r\n", ":x\r\n", "#x\r\n", "+a\rb", "=2\r\nab\r\n", "HTTP/1.1 200 OK\r\n",
        ])
    func malformed(_ text: String) { #expect(Self.parse(Array(text.utf8)) == .failed) }

    @Test("S9: a bulk string's length has a bound of its own, below the reply's")
    func bulkBound() {
        var limits = WireLimits()
        limits.bulkBytes = 10
        func isRefused(_ text: String) -> Bool {
            var parser = ReplyParser(limits: limits)
            let step = Array(text.utf8).withUnsafeBytes { parser.next(in: $0) }
            if case .failed = step { return true }
            return false
        }
        #expect(!isRefused("$10\r\n"))
        #expect(isRefused("$11\r\n"))
        #expect(isRefused("*1\r\n=11\r\n"))
    }

    @Test("S9: a count of millions announces nothing but a wait")
    func announcedCount() {
        // The largest count that is allowed: 64 million elements, of which none has come.
        #expect(Self.parse(Array("*67108864\r\n".utf8)) == .incomplete)
        #expect(Self.parse(Array("$536870912\r\n".utf8)) == .incomplete)
    }

    @Test("S9: nesting is bounded")
    func nesting() {
        let deep = String(repeating: "*1\r\n", count: 100_000)
        #expect(Self.parse(Array(deep.utf8)) == .failed)
        let allowed = String(repeating: "*1\r\n", count: 30) + ":1\r\n"
        if case .reply = Self.parse(Array(allowed.utf8)) {} else { Issue.record("30 levels are fine") }
    }

    @Test("S9: random bytes never trap")
    func randomBytes() {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("ReplyParser.random"))
        let alphabet = Array("*$+-:%~|>_#,=!(\r\n\r\n0123t".utf8)
        for _ in 0..<5000 {
            let bytes = (0..<Int.random(in: 0...40, using: &random)).map { _ in alphabet.randomElement(using: &random)!
            }
            var parser = ReplyParser()
            _ = bytes.withUnsafeBytes { parser.next(in: $0) }
        }
    }

    @Test("a stream's message is found where it lies, however its bytes come, and none of them before it")
    func messages() {
        let bytes = Array("$5\r\nab\r\nc\r\n".utf8)
        for cut in 0..<bytes.count {
            var parser = ReplyParser()
            bytes.withUnsafeBytes { all in
                let part = UnsafeRawBufferPointer(rebasing: all[..<cut])
                if case .other(.needMore) = parser.nextMessage(in: part) {} else { Issue.record("at \(cut)") }
                guard case .bulk(let body, bytes: 11) = parser.nextMessage(in: all) else {
                    Issue.record("no message behind \(cut) bytes")
                    return
                }
                #expect(Array(body) == Array("ab\r\nc".utf8))
            }
        }
    }

    @Test("an error's text cannot break out of its line")
    func injection() {
        let writer = ReplyWriter()
        writer.error("ERR a\r\n+OK")
        #expect(Array(writer.bytes) == Array("-ERR a  +OK\r\n".utf8))
    }

    @Test("S9: attributes without end before a value take no stack")
    func manyAttributes() {
        let one = Array("|0\r\n".utf8)
        let bytes = Array(repeatElement(one, count: 400_000).joined()) + Array("+OK\r\n".utf8)
        #expect(Self.parse(bytes) == .reply(.simple("OK")))
    }
}
