import HoldfastCore
import Testing

@Suite("LSNs, names and identifiers print and read back")
struct VocabularyTests {
    @Test("an LSN is printed as PostgreSQL prints it, and read back")
    func lsn() {
        #expect(LSN(0x16_B374_D848).description == "16/B374D848")
        #expect(LSN(0x16_B374_D848).objectName == "00000016B374D848")
        #expect(LSN("16/B374D848") == LSN(0x16_B374_D848))
        #expect(LSN("0/0") == .zero)
        #expect(LSN("00000016B374D848") == LSN(0x16_B374_D848))
        for bad in ["", "/", "1/", "/1", "1/2/3", "123456789/0", "0/123456789", "x/1", "+1/1", " 1/1", "16B374D848"] {
            #expect(LSN(bad) == nil, "\(bad)")
        }
    }

    @Test("a segment's name is PostgreSQL's: timeline, then 256 segments to each 4 GiB")
    func segments() {
        let name = SegmentName(timeline: TimelineID(2), segment: SegmentNumber(containing: LSN(0x16_B374_D848)))
        #expect(name.description == "0000000200000016000000B3")
        #expect(SegmentName("0000000200000016000000B3") == name)
        #expect(name.segment.start == LSN(0x16_B300_0000))
        #expect(name.segment.end == name.segment.next.start)
        for bad in [
            "", "0000000200000016000001B3", "0000000200000016000000B", "0000000200000016000000B3.ready", "xyz",
            "00000001FFFFFFFF000000FF",
        ] {
            #expect(SegmentName(bad) == nil, "\(bad)")
        }
    }

    @Test("S3: only plain names are allowed, and bad ones are never printed raw")
    func names() {
        for good in ["a", "main", "Node-1.x_y", String(repeating: "a", count: 63)] { #expect(ObjectName.isValid(good)) }
        let bad = [
            "", ".", "..", "-a", "a/b", "../x", "a\0b", "a\nb", "\u{1B}[31m", "ä", String(repeating: "a", count: 64),
            String(repeating: "x", count: 10_000_000),
        ]
        for name in bad {
            #expect(!ObjectName.isValid(name))
            let message = ObjectName.refusal(name, of: "cluster").description
            #expect(message.utf8.count < 2000)
            #expect(message.unicodeScalars.allSatisfy { $0 == "\n" || $0 == "…" || (" "..."~").contains($0) })
            #expect(message.filter { $0 == "\n" }.count == 1, "the name must not break the line")
        }
    }

    @Test("system identifiers are 63 bits and positive")
    func identifiers() {
        #expect(SystemIdentifier("9223372036854775808") == nil)
        #expect(SystemIdentifier("0") == nil)
        #expect(SystemIdentifier("9223372036854775807")?.rawValue == UInt64(Int64.max))
        for _ in 0..<100 { #expect(SystemIdentifier.random().rawValue <= UInt64(Int64.max)) }
    }

    @Test("S9: every LSN lies in a segment that has a start and an end")
    func lastSegment() {
        let last = SegmentNumber(containing: .max)
        #expect(last.start < LSN.max && last.end == .max)
        let before = SegmentNumber(last.rawValue - 1)
        #expect(before.end == last.start)
    }
}
