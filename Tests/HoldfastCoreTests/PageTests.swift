import CShims
import HoldfastCore
import HoldfastTestSupport
import Testing

@Suite("Pages say who they are and whether they are whole")
struct PageTests {
    private func withPage(_ body: (Page) throws -> Void) rethrows {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: Page.bytes, alignment: 4096)
        defer { memory.deallocate() }
        try body(Page(memory))
    }

    @Test("the header's bytes are those of its table")
    func golden() {
        withPage { page in
            page.format(number: PageNumber(0x01020304), kind: .leaf, level: 0)
            page.lsn = LSN(0x16_B374_D848)
            page.flags = 0x0506
            page.lower = 0x20
            page.upper = 0x1FF0
            page.stampChecksum()
            let header = (4..<24).map { page.base.load(fromByteOffset: $0, as: UInt8.self) }
            #expect(
                header == [
                    4, 3, 2, 1, 0x48, 0xD8, 0x74, 0xB3, 0x16, 0, 0, 0, 2, 0, 6, 5, 0x20, 0, 0xF0, 0x1F,
                ])
            #expect(page.checksum == hf_crc32c_portable(0x01020304, page.base + 4, 8188))
            #expect(page.fault(expected: PageNumber(0x01020304)) == nil)
        }
    }

    @Test("B5: flipped bits and misplaced pages are found; zeros are a page never written")
    func faults() {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("page faults"))
        withPage { page in
            page.format(number: PageNumber(7), kind: .leaf)
            for at in 24..<Page.bytes {
                page.base.storeBytes(of: UInt8.random(in: 0...255, using: &random), toByteOffset: at, as: UInt8.self)
            }
            page.stampChecksum()
            #expect(page.fault(expected: PageNumber(7)) == nil)
            #expect(page.fault(expected: PageNumber(8)) == .misplaced(found: PageNumber(7)))
            for _ in 0..<2000 {
                let at = Int.random(in: 0..<Page.bytes, using: &random)
                let bit = UInt8(1) << UInt8.random(in: 0..<8, using: &random)
                let old = page.base.load(fromByteOffset: at, as: UInt8.self)
                page.base.storeBytes(of: old ^ bit, toByteOffset: at, as: UInt8.self)
                #expect(page.fault(expected: PageNumber(7)) != nil)
                page.base.storeBytes(of: old, toByteOffset: at, as: UInt8.self)
            }
            page.base.initializeMemory(as: UInt8.self, repeating: 0, count: Page.bytes)
            #expect(page.fault(expected: PageNumber(7)) == nil)
        }
    }

    @Test("CRC32C: the known answer, and hardware equals software at every length and seed")
    func crc() {
        let text = Array("123456789".utf8)
        #expect(hf_crc32c(0, text, text.count) == 0xE306_9283)
        #expect(hf_crc32c_portable(0, text, text.count) == 0xE306_9283)
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("crc"))
        let bytes = (0..<40_000).map { _ in UInt8.random(in: 0...255, using: &random) }
        var lengths = Array(0...64) + [767, 768, 769, 8159, 8160, 8161, 8188, 8192, 16_320, 40_000 - 7]
        for _ in 0..<50 { lengths.append(Int.random(in: 0...39_000, using: &random)) }
        for length in lengths {
            let seed = UInt32.random(in: 0...UInt32.max, using: &random)
            bytes.withUnsafeBytes { buffer in
                let start = buffer.baseAddress! + Int.random(in: 0...7, using: &random)
                #expect(hf_crc32c(seed, start, length) == hf_crc32c_portable(seed, start, length), "\(length) bytes")
            }
        }
    }
}
