import HoldfastCore
import HoldfastTestSupport
import Testing

@testable import HoldfastWAL

@Suite("What a commit logs of a page makes the new version from the old one")
struct PageChangeTests {
    /// Two pages' memory, freed with it.
    final class Pages {
        let old = UnsafeMutableRawPointer.allocate(byteCount: Page.bytes, alignment: 8)
        let new = UnsafeMutableRawPointer.allocate(byteCount: Page.bytes, alignment: 8)
        let redone = UnsafeMutableRawPointer.allocate(byteCount: Page.bytes, alignment: 8)
        deinit {
            old.deallocate()
            new.deallocate()
            redone.deallocate()
        }
        func bytes(_ page: UnsafeMutableRawPointer) -> [UInt8] {
            Array(UnsafeRawBufferPointer(start: page, count: Page.bytes))
        }
    }

    private func randomize(_ base: UnsafeMutableRawPointer, _ random: inout SeededGenerator) {
        let page = Page(base)
        page.format(number: PageNumber(7), kind: .leaf)
        page.lower = Int.random(in: 24...4000, using: &random)
        page.upper = Int.random(in: 4000...8192, using: &random)
        page.lsn = LSN(1000)
        for at in 24..<page.lower {
            base.storeBytes(of: UInt8.random(in: 0...255, using: &random), toByteOffset: at, as: UInt8.self)
        }
        for at in page.upper..<8192 {
            base.storeBytes(of: UInt8.random(in: 0...255, using: &random), toByteOffset: at, as: UInt8.self)
        }
    }

    /// What trees do: bytes change, slots shift, bounds move.
    private func mutate(_ base: UnsafeMutableRawPointer, _ random: inout SeededGenerator) {
        let page = Page(base)
        for _ in 0..<Int.random(in: 0...6, using: &random) {
            switch Int.random(in: 0...3, using: &random) {
            case 0:
                let at = Int.random(in: 16...8191, using: &random)
                if at < 20 || at >= 24 {
                    base.storeBytes(of: UInt8.random(in: 0...255, using: &random), toByteOffset: at, as: UInt8.self)
                }
            case 1:
                let shift = min(8, page.upper - page.lower)
                let at = Int.random(in: 24...page.lower, using: &random)
                (base + at + shift).copyMemory(from: base + at, byteCount: page.lower - at)
                page.lower += shift
            case 2:
                let shift = min(8, page.lower - 24)
                let at = Int.random(in: 24...(page.lower - shift), using: &random)
                (base + at).copyMemory(from: base + at + shift, byteCount: page.lower - at - shift)
                page.lower -= shift
            default:
                page.upper = Int.random(in: page.lower...8192, using: &random)
            }
        }
        page.zeroHole()
    }

    @Test("a difference applied to the old version is the new version, from random versions")
    func roundTrip() throws {
        let seed = SeededGenerator.announcedSeed("page difference")
        var random = SeededGenerator(seed: seed)
        let pages = Pages()
        let builder = CommitBuilder()
        var differences = 0
        for round in 0..<300 {
            randomize(pages.old, &random)
            if round % 10 == 0 {
                randomize(pages.new, &random)
            } else {
                pages.new.copyMemory(from: pages.old, byteCount: Page.bytes)
                mutate(pages.new, &random)
            }
            builder.reset()
            if builder.addDifference(page: PageNumber(7), old: pages.old, new: pages.new) { differences += 1 }
            pages.redone.copyMemory(from: pages.old, byteCount: Page.bytes)
            var changes = PageChangeIterator(builder.payload)
            let change = try #require(try changes.next())
            #expect(try changes.next() == nil)
            #expect(try apply(change, to: pages.redone, commitEnd: LSN(2000)))
            Page(pages.new).lsn = LSN(2000)
            Page(pages.new).checksum = 0
            Page(pages.redone).checksum = 0
            let wanted = pages.bytes(pages.new), got = pages.bytes(pages.redone)
            try #require(wanted == got, "round \(round) of seed \(seed)")
            #expect(builder.bytes <= Page.bytes - 16 + 8)
        }
        #expect(differences > 200)
    }

    @Test("a slot put into the array at the page's front costs a move, not the slots behind it")
    func slotShift() {
        let pages = Pages()
        var random = SeededGenerator(seed: 5)
        randomize(pages.old, &random)
        Page(pages.old).lower = 3000
        for at in 24..<3000 {
            pages.old.storeBytes(of: UInt8(truncatingIfNeeded: at * 7 + at / 256), toByteOffset: at, as: UInt8.self)
        }
        Page(pages.old).zeroHole()
        pages.new.copyMemory(from: pages.old, byteCount: Page.bytes)
        (pages.new + 508).copyMemory(from: pages.new + 500, byteCount: 2500)
        Page(pages.new).lower = 3008
        let builder = CommitBuilder()
        #expect(builder.addDifference(page: PageNumber(7), old: pages.old, new: pages.new))
        #expect(builder.bytes < 60)
    }

    @Test("an image is applied whatever the page holds; a difference only to an older version")
    func conditions() throws {
        let pages = Pages()
        var random = SeededGenerator(seed: 3)
        randomize(pages.old, &random)
        pages.new.copyMemory(from: pages.old, byteCount: Page.bytes)
        pages.new.storeBytes(of: ~pages.new.load(fromByteOffset: 24, as: UInt8.self), toByteOffset: 24, as: UInt8.self)
        let builder = CommitBuilder()
        builder.addDifference(page: PageNumber(7), old: pages.old, new: pages.new)
        builder.addImage(page: PageNumber(7), of: pages.new)
        var changes = PageChangeIterator(builder.payload)
        let difference = try #require(try changes.next())
        let image = try #require(try changes.next())
        #expect(!difference.isImage && image.isImage)

        pages.redone.copyMemory(from: pages.old, byteCount: Page.bytes)
        Page(pages.redone).lsn = LSN(2000)
        let before = pages.bytes(pages.redone)
        #expect(try apply(difference, to: pages.redone, commitEnd: LSN(2000)) == false)
        #expect(pages.bytes(pages.redone) == before)

        // Torn, of another page, from the future: an image does not care.
        pages.redone.initializeMemory(as: UInt8.self, repeating: 0xEE, count: Page.bytes)
        #expect(try apply(image, to: pages.redone, commitEnd: LSN(2000)))
        Page(pages.new).lsn = LSN(2000)
        Page(pages.new).checksum = 0
        #expect(pages.bytes(pages.redone) == pages.bytes(pages.new))
    }

    @Test("S9: changes with absurd offsets, lengths and bounds are refused, never carried out beyond the page")
    func hostile() {
        let guardBytes = 64
        let memory = UnsafeMutableRawPointer.allocate(byteCount: Page.bytes + 2 * guardBytes, alignment: 8)
        defer { memory.deallocate() }
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("hostile changes"))
        let extremes: [UInt16] = [0, 1, 15, 16, 24, 0x7FFF, 0x8000, 0x8010, 0xFFFF, 8191, 8192, 8193]
        var refused = 0
        for round in 0..<3000 {
            memory.initializeMemory(as: UInt8.self, repeating: 0xA5, count: Page.bytes + 2 * guardBytes)
            let page = Page(memory + guardBytes)
            page.format(number: PageNumber(7), kind: .leaf)
            var payload = [UInt8](repeating: 0, count: Int.random(in: 0...200, using: &random))
            for at in payload.indices { payload[at] = UInt8.random(in: 0...255, using: &random) }
            for at in stride(from: 0, to: payload.count - 1, by: 2) where Bool.random(using: &random) {
                let value = extremes.randomElement(using: &random)!
                payload[at] = UInt8(value & 0xFF)
                payload[at + 1] = UInt8(value >> 8)
            }
            payload.withUnsafeBytes { raw in
                let change = PageChange(page: PageNumber(7), form: round % 2 == 0 ? .difference : .image, payload: raw)
                do { try apply(change, to: page.base, commitEnd: LSN(9)) } catch { refused += 1 }
            }
            let bytes = UnsafeRawBufferPointer(start: memory, count: Page.bytes + 2 * guardBytes)
            #expect(bytes[..<guardBytes].allSatisfy { $0 == 0xA5 })
            #expect(bytes[(guardBytes + Page.bytes)...].allSatisfy { $0 == 0xA5 })
        }
        #expect(refused > 2000)
    }

    @Test("S9: an image must have exactly the bytes that its bounds promise")
    func hostileImage() {
        let pages = Pages()
        for (lower, upper, count) in [(24, 24, 8), (24, 8192, 9), (24, 8192, 7), (24, 8191, 8), (8192, 8192, 8175)] {
            var payload = [UInt8](repeating: 0, count: count)
            for (at, value) in [(4, lower & 255), (5, lower >> 8), (6, upper & 255), (7, upper >> 8)] where at < count {
                payload[at] = UInt8(value)
            }
            payload.withUnsafeBytes { raw in
                let change = PageChange(page: PageNumber(7), form: .image, payload: raw)
                #expect(throws: ImpossibleChange.self, "\(lower) \(upper) \(count)") {
                    try apply(change, to: pages.redone, commitEnd: LSN(9))
                }
            }
        }
    }

    @Test("S9: a payload that announces more than it holds, or an unknown form, is refused")
    func hostilePayload() {
        for bytes: [UInt8] in [
            [1], [0, 0, 0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 1, 0, 0xFF, 0xFF], [0, 0, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 3, 0, 0, 0],
        ] {
            bytes.withUnsafeBytes { raw in
                var changes = PageChangeIterator(raw)
                #expect(throws: ImpossibleChange.self) { try changes.next() }
            }
        }
    }
}
