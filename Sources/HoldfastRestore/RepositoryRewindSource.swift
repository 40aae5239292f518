import HoldfastCore
import HoldfastEngine
import HoldfastRepository
import HoldfastWAL

/// The pages of a rewind from the newest usable backup, along the newest history that anybody claimed.
///
/// A backup from before the fork is as good as one from behind it: replay then begins at its start, if that lies before the
/// node's own redo point.
package final class RepositoryRewindSource: RewindSource {
    private let repository: Repository
    private var history: TimelineHistory?
    private var backup: BackupRecord?
    private var keeper: LeaseKeeper?

    package init(_ repository: Repository) { self.repository = repository }

    package var name: String { backup.map { "backup \($0.id)" } ?? "the repository of cluster \(repository.cluster)" }

    package func identify() throws -> RewindPeer {
        guard let newest = try repository.timelines().last else {
            throw RestoreError.noBackup(cluster: repository.cluster)
        }
        let history: TimelineHistory
        if let bytes = try repository.history(newest) {
            history = try TimelineHistory(decoding: bytes)
        } else {
            let archive = WALArchive(repository, tokenOfHistory: TimelineHistory.ownToken)
            guard let token = try archive.token(of: newest) else { throw RestoreError.noTimeline(newest) }
            history = TimelineHistory(first: token, timeline: newest)
        }
        self.history = history
        return RewindPeer(system: repository.systemIdentifier, history: history, durable: nil)
    }

    package func begin(fork: LSN) throws -> ControlData.Position? {
        guard let history else { preconditionFailure("identify comes first") }
        let entries = try repository.backups()
        guard let backup = entries.compactMap(\.usable).last(where: { RestorePlan.lies($0, on: history) }) else {
            throw RestoreError.noBackup(cluster: repository.cluster)
        }
        // Announced before it is read, so that an expiry sees it.
        let hold = try repository.takeHold(on: backup.id, walFrom: backup.startLSN, purpose: "rewind")
        keeper = LeaseKeeper(hold, everySeconds: Double(LockName.holdSeconds) / 10)
        self.backup = backup
        let start = min(backup.startLSN, fork)
        try WALCoverage(repository, history, from: start).requireContiguous(
            from: start, to: backup.stopLSN, for: "backup \(backup.id)")
        return .init(timeline: backup.timeline, lsn: backup.startLSN)
    }

    package func read(_ runs: [PageRun], _ body: (PageNumber, UnsafeRawBufferPointer) throws -> Void) throws {
        guard let backup else { preconditionFailure("begin comes first") }
        let zeros = UnsafeMutableRawBufferPointer.allocate(
            byteCount: PageRun.mostPages * Page.bytes, alignment: Page.bytes)
        defer { zeros.deallocate() }
        zeros.initializeMemory(as: UInt8.self, repeating: 0)
        let wanted = runs.map { UInt64($0.first.rawValue)..<UInt64($0.first.rawValue) + UInt64($0.count) }
        var run = 0
        var next = wanted.first?.lowerBound ?? 0
        // What the backup does not hold was not allocated then.
        func zero(upTo page: UInt64) throws {
            while run < wanted.count, next < page {
                let end = min(wanted[run].upperBound, page)
                if next < end {
                    let bytes = UnsafeRawBufferPointer(rebasing: zeros[..<(Int(end - next) * Page.bytes)])
                    try body(PageNumber(UInt32(next)), bytes)
                    next = end
                }
                guard next == wanted[run].upperBound else { return }
                run += 1
                next = run < wanted.count ? wanted[run].lowerBound : next
            }
        }
        try BackupObjects(repository, backup).pages(wanted) { first, bytes in
            try zero(upTo: UInt64(first.rawValue))
            try body(first, bytes)
            next = UInt64(first.rawValue) + UInt64(bytes.count / Page.bytes)
            if run < wanted.count, next == wanted[run].upperBound {
                run += 1
                next = run < wanted.count ? wanted[run].lowerBound : next
            }
        }
        try zero(upTo: .max)
    }

    package func end() throws -> ControlData.Position {
        guard let backup else { preconditionFailure("begin comes first") }
        try keeper?.stop()
        return .init(timeline: backup.timeline, lsn: backup.stopLSN)
    }
}
