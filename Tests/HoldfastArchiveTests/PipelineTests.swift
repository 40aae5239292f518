import Foundation
import HoldfastCore
import HoldfastTestSupport
import Synchronization
import Testing

@testable import HoldfastArchive

@Suite("The backup pipeline proves every page, and stops when told")
struct PipelineTests {
    /// Page 200, torn for its first `times` reads.
    private final class TornPage: Sendable {
        private let state = Mutex((reads: 0, intact: [UInt8]()))
        private let times: Int

        init(times: Int) { self.times = times }

        func tear(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) {
            let page = 200 * UInt64(Page.bytes)
            guard offset <= page, offset + UInt64(buffer.count) > page else { return }
            let at = Int(page - offset)
            let bytes = Array(buffer[at..<at + Page.bytes])
            let tears = state.withLock { state -> Bool in
                state.intact = bytes
                state.reads += 1
                return state.reads <= times
            }
            guard tears else { return }
            for index in at + 4096..<at + Page.bytes { buffer[index] = 0xA5 }
        }

        func settle(_ number: PageNumber, _ buffer: UnsafeMutableRawBufferPointer) {
            precondition(number == PageNumber(200))
            buffer.copyBytes(from: state.withLock { $0.intact })
        }
    }

    private func torn(_ times: Int, settles: Bool, _ random: inout SeededGenerator) -> MemoryPages {
        let page = TornPage(times: times)
        let settle: @Sendable (PageNumber, UnsafeMutableRawBufferPointer) -> Void = { page.settle($0, $1) }
        return MemoryPages(
            [(0, 300, 0)], random: &random, tamper: { (_, offset, buffer) in page.tear(buffer, at: offset) },
            settled: settles ? settle : nil)
    }

    @Test("C2: a torn page is read again, then asked for from the server, before it is called bad")
    func tornPages() throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("torn pages"))
        for (times, settles) in [(1, false), (4, false), (1_000_000, true)] {
            let pages = torn(times, settles: settles, &random)
            let archives = MemoryArchives()
            let result = try pack(pages, into: archives, codec: .zstd)
            let target = try TemporaryDirectory()
            _ = try ArchiveReader(result.index, checksums: result.checksums, source: archives).restore(
                into: target.path)
            #expect(try contents(target.path + "/pages/00000000") == pages.promised(0))
        }
    }

    @Test("B5: a page that stays bad fails the backup and is named")
    func badPage() throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("bad page"))
        let pages = torn(1_000_000, settles: false, &random)
        let error = #expect(throws: ArchiveError.self) { try pack(pages, into: MemoryArchives(), codec: .none) }
        guard case .damagedPage(PageNumber(200), "pages/00000000", .checksum) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(error!.diagnosis.place == "pages/00000000 at 1638400")
    }

    @Test("B5: a page in another's place is not copied into a backup")
    func misplaced() throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("misplaced page"))
        let pages = MemoryPages(
            [(0, 4, 0)], random: &random,
            tamper: { _, offset, buffer in
                guard offset == 0, buffer.count > Page.bytes else { return }
                let page = Page(buffer.baseAddress! + 3 * Page.bytes)
                page.format(number: PageNumber(1), kind: .leaf)
                page.stampChecksum()
                buffer.baseAddress!.advanced(by: 2 * Page.bytes).copyMemory(from: page.base, byteCount: Page.bytes)
            })
        // The first read is wrong, the re-read right: taken. Were the identity not looked at, it would be wrong.
        let archives = MemoryArchives()
        let result = try pack(pages, into: archives, codec: .zstd)
        #expect(result.files.first { $0.path == "pages/00000000" }?.crc == CRC32C.of(pages.promised(0)))
    }

    @Test("cancelling stops the backup, and the error of a sink stops it too")
    func stopping() throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("stopping"))
        let pages = MemoryPages([(0, 1500, 0)], random: &random)
        let flag = CancellationFlag()
        let written = Mutex(UInt64(0))
        let options = ArchiveOptions(
            compression: Compression(.none), workers: 3,
            progress: { progress in
                written.withLock { $0 = progress.bytes }
                if progress.bytes >= 2 << 20 { flag.cancel() }
            }, cancellation: flag)
        let writer = try ArchiveWriter(
            tag: testTag, options: options, pageFiles: pages.files, source: pages, sink: MemoryArchives())
        #expect(throws: ArchiveError.cancelled) { try writer.writePages() }
        // Six buffers bound what was still on its way.
        #expect(written.withLock { $0 } <= 9 << 20)

        let full = MemoryArchives(limit: 3 << 20)
        #expect(throws: MemoryArchives.SinkFull.self) { try pack(pages, into: full, codec: .none, workers: 4) }
    }

    @Test("cancelling stops a restore")
    func stoppingRestore() throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("stopping a restore"))
        let pages = MemoryPages([(0, 1500, 0)], random: &random)
        let archives = MemoryArchives()
        let result = try pack(pages, into: archives, codec: .none)
        let flag = CancellationFlag()
        let options = RestoreOptions(
            progress: { if $0.bytes >= 2 << 20 { flag.cancel() } }, cancellation: flag)
        let target = try TemporaryDirectory()
        #expect(throws: ArchiveError.cancelled) {
            try ArchiveReader(result.index, checksums: nil, source: archives, options: options).restore(
                into: target.path)
        }
    }

    @Test("a limited rate, one worker or eight, low priority: the same bytes")
    func same() throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("workers"))
        let pages = MemoryPages([(0, 700, 0)], random: &random)
        let reference = MemoryArchives()
        _ = try pack(pages, into: reference, codec: .zstd, workers: 1)
        for (workers, rate) in [(8, nil), (3, 40 << 20)] as [(Int, UInt64?)] {
            let archives = MemoryArchives()
            let writer = try ArchiveWriter(
                tag: testTag,
                options: ArchiveOptions(workers: workers, maxRateBytesPerSecond: rate, isPolite: true),
                pageFiles: pages.files, source: pages, sink: archives)
            try writer.writePages()
            _ = try writer.finish(testMembers)
            #expect(archives.archives == reference.archives)
        }
    }

    @Test("what cannot be packed is refused before anything is written")
    func refusals() throws {
        var random = SeededGenerator(seed: 1)
        let pages = MemoryPages([(0, 1, 0)], random: &random)
        func make(_ options: ArchiveOptions, _ files: [PageFileMember]) throws {
            _ = try ArchiveWriter(
                tag: testTag, options: options, pageFiles: files, source: pages, sink: MemoryArchives())
        }
        #expect(throws: ArchiveError.self) { try make(.init(workers: 0), pages.files) }
        #expect(throws: ArchiveError.self) { try make(.init(maxRateBytesPerSecond: 0), pages.files) }
        #expect(throws: ArchiveError.self) { try make(.init(compression: Compression(.zstd, level: 99)), pages.files) }
        #expect(throws: ArchiveError.self) { try make(.init(directories: ["../x"]), pages.files) }
        for bytes: UInt64 in [1, 8191, 2 << 30] {
            #expect(throws: ArchiveError.self) { try make(.init(), [.init(index: 0, bytes: bytes, modified: 0)]) }
        }
        #expect(throws: ArchiveError.self) {
            try pack(pages, into: MemoryArchives(), codec: .none, members: [testMembers[0], testMembers[0]])
        }
    }
}
