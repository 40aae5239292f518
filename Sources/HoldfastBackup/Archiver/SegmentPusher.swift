import HoldfastCore
import HoldfastRepository
import HoldfastWAL

/// Takes one complete segment of a data directory to the archive: reads it, checks it from end to end, summarizes
/// and pushes it. Any number of threads may use it at once.
package struct SegmentPusher<D: Disk>: Sendable {
    package let disk: D
    package let archive: WALArchive

    package init(disk: D, archive: WALArchive) {
        self.disk = disk
        self.archive = archive
    }

    /// When this returns, segment and summary are durable in the archive. Throws as `WALArchive.push` does,
    /// `ArchiverError` for a segment that is not whole, `DiskError` when the data directory cannot be read.
    package func push(_ name: SegmentName) throws -> WALArchive.PushResult {
        guard let bytes = try segment(name) else { throw ArchiverError.vanished(name) }
        let summarizer = try SegmentSummarizer(name, bytes, history: try history(name.timeline))
        // Another cluster's is refused before anything is read of what may lie before it.
        guard summarizer.identity.system == archive.repository.systemIdentifier else {
            throw RepositoryError.segmentConflict(
                name,
                why: "it is of the cluster with system identifier \(summarizer.identity.system); "
                    + "this repository's is \(archive.repository.systemIdentifier)")
        }
        let summary = try summarizer.summarize { earlier in try segment(earlier) ?? archive.fetch(earlier) }
        return try bytes.withUnsafeBytes { try archive.push(name, plaintext: $0, summary: summary) }
    }

    /// The bytes in `wal/`; `nil` when it is not there, or is another segment that was made ready under this name.
    private func segment(_ name: SegmentName) throws -> [UInt8]? {
        do throws(DiskError) {
            return try disk.readAll(name.walPath, limit: SegmentNumber.bytes)
        } catch {
            if error.code == .noEntry { return nil }
            throw error
        }
    }

    private func history(_ timeline: TimelineID) throws -> [UInt8]? {
        do throws(DiskError) {
            return try disk.readAll(TimelineHistory.walPath(timeline), limit: Repository.historyLimitBytes)
        } catch {
            guard error.code == .noEntry else { throw error }
        }
        return try archive.repository.history(timeline)
    }
}
