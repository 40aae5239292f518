import HoldfastArchive
import HoldfastCore
import Synchronization

/// The WAL of a cluster as its repository keeps it: each segment compressed, with a summary that was there before it.
///
/// Equality is the SHA-256 of the plain bytes and nothing else: a segment that is pushed again with equal content
/// succeeds, with other content it is refused by name, and what exists is kept. What `fetch` returns has been checked
/// from end to end. Every method may be called by several threads at once.
package final class WALArchive: Sendable {
    package let repository: Repository
    package let compression: Compression
    /// The token that a history's bytes give its own timeline: HoldfastWAL knows the format.
    private let tokenOfHistory: (@Sendable (TimelineID, [UInt8]) throws -> TimelineToken)?
    /// Tokens that were found already; a timeline's never changes.
    private let tokens = Mutex<[TimelineID: TimelineToken]>([:])

    /// Whoever pushes gives `tokenOfHistory`; a reader needs none.
    package init(
        _ repository: Repository, compression: Compression = Compression(.zstd, level: 1),
        tokenOfHistory: (@Sendable (TimelineID, [UInt8]) throws -> TimelineToken)? = nil
    ) {
        self.repository = repository
        self.compression = compression
        self.tokenOfHistory = tokenOfHistory
    }

    var store: any ObjectStore { repository.store }
    var layout: RepositoryLayout { repository.layout }

    /// The token that a timeline has in this repository: its history's, or without one its first segment's.
    /// `nil` when nothing of the timeline is here yet.
    package func token(of timeline: TimelineID) throws -> TimelineToken? {
        if let known = tokens.withLock({ $0[timeline] }) { return known }
        var found: TimelineToken?
        if let tokenOfHistory, let history = try repository.history(timeline) {
            found = try tokenOfHistory(timeline, history)
        } else if let first = try segments(of: timeline).first {
            found = try summary(first.name)?.token
        }
        if let found { tokens.withLock { $0[timeline] = found } }
        return found
    }

    /// The summary of a segment, checked; `nil` when it is not there.
    package func summary(_ name: SegmentName) throws -> SegmentSummary? {
        let path = layout.summary(name)
        let object = layout.relative(path)
        let bytes: [UInt8]?
        do throws(StoreError) {
            bytes = try store.read(path, limit: SegmentSummary.limitBytes)
        } catch {
            guard isDamage(error) else { throw error }
            throw RepositoryError.segmentDamaged(
                name, object: object, why: "its summary: " + (error.diagnosis.why ?? "it cannot be read"))
        }
        guard let bytes else { return nil }
        let summary: SegmentSummary
        do {
            summary = try SegmentSummary(decoding: bytes, at: object)
        } catch RepositoryError.damaged(_, let why) {
            throw RepositoryError.segmentDamaged(name, object: object, why: "its summary is damaged: " + why)
        }
        guard summary.segment == name else {
            throw RepositoryError.segmentDamaged(
                name, object: object, why: "this is the summary of segment \(summary.segment)")
        }
        guard summary.systemIdentifier == repository.systemIdentifier else {
            throw RepositoryError.segmentDamaged(
                name, object: object, why: "it belongs to the cluster with identifier \(summary.systemIdentifier)")
        }
        return summary
    }

    func isDamage(_ error: StoreError) -> Bool {
        switch error.reason {
        case .tooLarge, .cutShort: true
        default: false
        }
    }
}
