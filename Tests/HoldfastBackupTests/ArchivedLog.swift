import HoldfastBackup
import HoldfastCore
import HoldfastRepository
import HoldfastRepositoryTestSupport
import HoldfastTestSupport
import HoldfastWAL

/// A data directory's log with archiving on, written as the engine writes it, and what it holds.
final class ArchivedLog {
    static let system = SystemIdentifier(rawValue: 7)
    let directory: TemporaryDirectory
    let disk: RealDisk
    let writer: LogWriter<RealDisk>
    private var transaction: UInt64 = 0
    private var time: Int64 = 1_795_000_000_000_000

    init(token: TimelineToken = TimelineToken(rawValue: 0xFEED), system: SystemIdentifier = system) throws {
        directory = try TemporaryDirectory("log")
        disk = try RealDisk(root: directory.path)
        try disk.createDirectory("wal")
        try disk.createDirectory("wal/archive_status")
        var options = LogOptions()
        options.isArchiving = true
        let identity = LogIdentity(system: system, timeline: .first, token: token)
        writer = try LogWriter(disk: disk, identity: identity, start: .newLog, options: options) { _ in }
    }

    /// Commits images of these pages; returns the commit's LSN.
    @discardableResult
    func commit(_ pages: some Sequence<UInt32>) throws -> LSN {
        let builder = CommitBuilder()
        var image = [UInt8](repeating: 0, count: 8192)
        for page in pages {
            for index in 64..<8192 { image[index] = UInt8(truncatingIfNeeded: Int(page) &+ index) }
            image.withUnsafeMutableBytes { bytes in
                let view = Page(bytes.baseAddress!)
                view.format(number: PageNumber(page), kind: .leaf)
                view.lower = Page.headerBytes + 4000
                view.upper = 5000
                builder.addImage(page: PageNumber(page), of: bytes.baseAddress!)
            }
        }
        transaction += 1
        time += 1_000_000
        return try writer.append(
            commit: builder, first: TransactionID(transaction), last: TransactionID(transaction), time: time
        ).end
    }

    func restorePoint(_ name: String) throws -> LSN { try writer.append(.restorePoint(name: name, time: time)).end }

    /// Closes the segment and makes all durable: it is `.ready` then.
    func switchSegment() throws {
        _ = try writer.switchSegment()
        try writer.flush(through: writer.appendedLSN)
    }

    func status() throws -> [String] { try disk.list("wal/archive_status") }
    func bytes(_ name: SegmentName) throws -> [UInt8] { try disk.readAll(name.walPath) }

    static func name(_ number: UInt64) -> SegmentName {
        SegmentName(timeline: .first, segment: SegmentNumber(number))
    }

    static func archive(_ store: any ObjectStore) throws -> WALArchive {
        WALArchive(
            try Repository.openOrCreate(store, cluster: "main", systemIdentifier: system),
            tokenOfHistory: TimelineHistory.ownToken)
    }
}
