import HoldfastCore
import HoldfastTestSupport
import Testing

@testable import HoldfastWAL

@Suite("The changes of a commit are found part by part, wherever its parts end")
struct ChangeScannerTests {
    private typealias Change = (page: UInt32, form: PageChange.Form, bytes: Int)

    /// A commit's payload of random changes.
    private func payload(_ random: inout SeededGenerator) -> (bytes: [UInt8], changes: [Change]) {
        var bytes: [UInt8] = []
        var changes: [Change] = []
        for _ in 0..<Int.random(in: 1...40, using: &random) {
            let page = UInt32.random(in: 0...UInt32.max, using: &random)
            let form: PageChange.Form = Bool.random(using: &random) ? .image : .difference
            let count = Int.random(in: 0...(Bool.random(using: &random) ? 20 : 8176), using: &random)
            withUnsafeBytes(of: page.littleEndian) { bytes += $0 }
            withUnsafeBytes(of: form.rawValue.littleEndian) { bytes += $0 }
            withUnsafeBytes(of: UInt16(count).littleEndian) { bytes += $0 }
            bytes += (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
            changes.append((page, form, count))
        }
        return (bytes, changes)
    }

    /// Calls `body` with a record of this body.
    private func with<R>(
        _ body: [UInt8], kind: RecordKind = .commit, flags: RecordFlags, _ use: (LogRecord) throws -> R
    ) rethrows -> R {
        try body.withUnsafeBytes {
            try use(
                LogRecord(
                    start: LSN(4096), end: LSN(8192), timeline: .first, kind: kind, flags: flags, mark: .zero, crc: 0,
                    previousCRC: 0, body: $0))
        }
    }

    @Test("cut at random places, each change is found once where it begins, and again where it goes on")
    func parts() throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("commit parts"))
        var scanner = ChangeScanner()
        for _ in 0..<300 {
            let (bytes, changes) = payload(&random)
            var cuts = (0..<Int.random(in: 0...12, using: &random)).map { _ in
                Int.random(in: 0...bytes.count, using: &random)
            }
            cuts = [0] + cuts.sorted() + [bytes.count]
            var begun: [ChangeScanner.Found] = []
            for (index, (from, to)) in zip(cuts, cuts.dropFirst()).enumerated() {
                let isLast = index == cuts.count - 2
                var flags: RecordFlags = index == 0 ? .begin : []
                if isLast { flags.insert(.commit) }
                let trailer = isLast ? [UInt8](repeating: 0xEE, count: CommitFormat.trailerBytes) : []
                let found = with(trailer + bytes[from..<to], flags: flags) { scanner.scan($0) }
                // Those whose header ended before this part and whose payload did not.
                var at = 0
                var open = 0
                for change in changes {
                    let start = at + PageChange.headerBytes, end = start + change.bytes
                    if start <= from, end > from { open += 1 }
                    at = end
                }
                #expect(found.filter(\.isContinued).count == open, "\(from)..<\(to)")
                begun += found.filter { !$0.isContinued }
                // A filler may lie between parts.
                #expect(with([0, 0], kind: .filler, flags: []) { scanner.scan($0) } == [])
            }
            #expect(begun.map(\.page.rawValue) == changes.map(\.page))
            #expect(begun.map(\.form) == changes.map(\.form))
            #expect(begun.map(\.bytes) == changes.map(\.bytes))
        }
    }

    @Test("parts without their beginning, and bytes that are no changes, name no pages")
    func lost() throws {
        var random = SeededGenerator(seed: 7)
        let (bytes, changes) = payload(&random)
        var scanner = ChangeScanner()
        let trailer = [UInt8](repeating: 0, count: CommitFormat.trailerBytes)
        #expect(with(bytes, flags: []) { scanner.scan($0) } == [])
        #expect(with(trailer + bytes, flags: .commit) { scanner.scan($0) } == [])
        // A form that does not exist ends it; the next commit is read again.
        var wild = bytes
        wild[4] = 9
        #expect(with(trailer + wild, flags: [.begin, .commit]) { scanner.scan($0) } == [])
        #expect(with(trailer + bytes, flags: [.begin, .commit]) { scanner.scan($0) }.count == changes.count)
        // A crashed writer's parts end with whatever is no part.
        _ = with(Array(bytes.prefix(20)), flags: .begin) { scanner.scan($0) }
        _ = with([], kind: .witness, flags: []) { scanner.scan($0) }
        #expect(with(trailer + bytes, flags: .commit) { scanner.scan($0) } == [])
        #expect(with([1], flags: [.begin, .commit]) { scanner.scan($0) } == [])
    }
}
