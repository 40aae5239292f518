import Foundation
import HoldfastArchive
import HoldfastBackup
import HoldfastCore
import HoldfastEngine
import HoldfastRepository
import HoldfastTestSupport
import HoldfastWAL
import HoldfastWire
import Synchronization
import Testing

@Suite("A page that is torn while it is copied is read again, and whole in the backup", .serialized)
struct TornPageTests {
    private static let keys = 3000

    private static func put(_ engine: Engine, _ keys: Range<Int>, _ value: String) throws {
        try engine.write { transaction in
            for number in keys {
                let text = String(repeating: "\(value) of \(number) ", count: 8)
                try transaction.put("0", Array("key\(number)".utf8), Array(text.utf8))
            }
        }
    }

    /// The page files as a backup on the leader's host may find them: most pages as they are, some as a write in
    /// progress leaves them, with the beginning of one version and the end of another.
    private final class TornFiles: Sendable {
        private struct Shared {
            var earlier: [UInt8] = []
            var torn: [PageNumber] = []
        }
        private let node: ArchivedNode
        private let shared = Mutex(Shared())
        private var path: String { PageNumber.filePath(0) }

        init(_ node: ArchivedNode) throws {
            self.node = node
            try FileManager.default.createDirectory(
                atPath: node.directory.path + "/shown/pages", withIntermediateDirectories: true)
        }

        private func current() throws -> [UInt8] { Array(try Data(contentsOf: URL(filePath: node.data + "/" + path))) }

        /// Keeps the present versions.
        func remember() throws {
            let bytes = try current()
            shared.withLock { $0.earlier = bytes }
        }

        /// Shows every page that changed since, torn at a sector of its own.
        func show() throws {
            let now = try current()
            let shown = shared.withLock { shared in
                var shown = now
                shared.torn = []
                for number in 0..<min(now.count, shared.earlier.count) / Page.bytes {
                    let start = number * Page.bytes
                    let cut = start + 512 * (1 + number % 15)
                    shown.replaceSubrange(cut..<start + Page.bytes, with: shared.earlier[cut..<start + Page.bytes])
                    let fault = shown.withUnsafeMutableBytes {
                        Page($0.baseAddress! + start).fault(expected: PageNumber(UInt32(number)))
                    }
                    if fault != nil { shared.torn.append(PageNumber(UInt32(number))) }
                }
                return shown
            }
            try Data(shown).write(to: URL(filePath: node.directory.path + "/shown/" + path))
        }

        var torn: [PageNumber] { shared.withLock { $0.torn } }
    }

    /// A thread that writes round by round, from `start` to `stop`.
    private final class Writer: Sendable {
        private let isRunning = Atomic(true)
        private let hasEnded = Atomic(false)
        private let count = Atomic(0)
        private let failure = Mutex<String?>(nil)
        private let body: @Sendable (Int) throws -> Void

        init(_ body: @escaping @Sendable (_ round: Int) throws -> Void) { self.body = body }

        var rounds: Int { count.load(ordering: .acquiring) }

        /// Returns when some rounds were written.
        func start() throws {
            Thread { [self] in
                do {
                    while isRunning.load(ordering: .acquiring) {
                        try body(rounds)
                        count.add(1, ordering: .releasing)
                    }
                } catch { failure.withLock { $0 = "\(error)" } }
                hasEnded.store(true, ordering: .releasing)
            }.start()
            try waitUntil("the writer writes") { rounds > 1 || hasEnded.load(ordering: .acquiring) }
        }

        func stop() throws {
            isRunning.store(false, ordering: .releasing)
            try waitUntil("the writer has ended") { hasEnded.load(ordering: .acquiring) }
            #expect(failure.withLock { $0 } == nil)
        }
    }

    private func requireRestorable(_ node: ArchivedNode) throws {
        let expected = try node.engine.allRecords()
        #expect(expected["0"]?.count == Self.keys)
        try node.archiveEverything()
        let restored = try node.restored(to: .latest, number: 1)
        #expect(try restored.allRecords() == expected)
        try restored.close()
    }

    @Test("C1, C2: pages that are torn at every read, while writers write: read through the leader, and restored right")
    func underWriters() async throws {
        let node = try await ArchivedNode(cacheBytes: 1 << 20, shownData: "shown")
        let files = try TornFiles(node)
        try Self.put(node.engine, 0..<Self.keys, "first")
        try node.engine.checkpoint()
        try files.remember()
        // Every page changes; those of the upper half never again, so that nothing but the backup holds them.
        try Self.put(node.engine, 0..<Self.keys, "second")
        let engine = node.engine
        let writer = Writer { round in
            let from = round * 50 % (Self.keys / 2)
            try Self.put(engine, from..<from + 50, "round \(round)")
            if round % 20 == 19 { try engine.checkpoint() }
        }
        var request = BackupJob.Request(
            leader: WireServer(.unix(path: node.socket)), label: "torn",
            archive: ArchiveOptions(compression: Compression(.zstd)))
        request.archivePatienceSeconds = 60
        // The start's checkpoint has written what was changed: the files are looked at from here on.
        let job = BackupJob(node.repository, request) { event in
            guard case .started = event else { return }
            try files.show()
            try writer.start()
        }
        let record = try job.run()
        try writer.stop()
        print("pages shown torn: \(files.torn.count) of \(record.pages), commits meanwhile: \(writer.rounds)")
        #expect(files.torn.count > 20)
        try requireRestorable(node)
        try await node.stop()
    }

    @Test("C2: pages copied while a writer writes them without a pause, straight from the leader's files")
    func liveFiles() async throws {
        let node = try await ArchivedNode(cacheBytes: 1 << 20)
        try Self.put(node.engine, 0..<Self.keys, "first")
        let engine = node.engine
        let writer = Writer { round in
            try Self.put(engine, 0..<Self.keys, "round \(round)")
            try engine.checkpoint()
        }
        try writer.start()
        for codec in [Codec.zstd, .gzip] { #expect(try node.backup(codec).pages > 0) }
        try writer.stop()
        try requireRestorable(node)
        try await node.stop()
    }
}
