@testable import HoldfastAgent
import HoldfastTestSupport
import Testing

@Suite("A dump is lines that load reads back, byte for byte")
struct RecordTextTests {
    private func line(_ key: [UInt8], _ value: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        key.withUnsafeBytes { key in
            value.withUnsafeBytes { RecordText.append(key: key, value: $0, to: &out) }
        }
        return out
    }

    @Test("the escapes are the documented ones")
    func escapes() {
        #expect(
            line(Array("a\\b".utf8), [0x09, 0x0A, 0x0D, 0x00, 0x1B, 0x7F, 0xC3, 0xA9, 0x20])
                == Array("a\\\\b\t\\t\\n\\r\\x00\\x1B\\x7F\\xC3\\xA9 \n".utf8))
    }

    @Test("random records survive the round trip, each on one line")
    func roundTrip() throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("record text"))
        for _ in 0..<500 {
            let key = (0..<Int.random(in: 0..<40, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random)
            }
            let value = (0..<Int.random(in: 0..<200, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            let text = line(key, value)
            #expect(text.count { $0 == 0x0A } == 1 && text.last == 0x0A)
            let back = try RecordText.record(text.dropLast())
            #expect(back.key == key && back.value == value)
        }
    }

    @Test(
        "a line that is no record is refused with the reason",
        arguments: [
            ("", "it has no tab between key and value"), ("a", "it has no tab between key and value"),
            ("a\tb\tc", "it has more than one tab"), ("a\t\\", "it ends inside an escape"),
            ("a\t\\x4", "it ends inside an escape"), ("a\t\\xZZ", "\\x is not followed by two hex digits"),
            ("a\t\\q", "it has an unknown escape"),
            ("a\t\u{1}", "it has a control character that is not escaped"),
        ])
    func refused(text: String, why: String) {
        #expect(throws: RecordText.Fault(why: why)) { try RecordText.record(Array(text.utf8)) }
    }

    @Test("letters beyond ASCII are read as they are")
    func plainBytes() throws {
        #expect(try RecordText.record(Array("é\tü".utf8)) == (Array("é".utf8), Array("ü".utf8)))
    }
}
