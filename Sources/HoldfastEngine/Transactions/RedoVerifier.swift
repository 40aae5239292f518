import Glibc
import HoldfastCore
import HoldfastWAL

/// `serve --verify-wal`: carries out what a commit is about to log as recovery and followers will, and compares each
/// page with the one that the leader made. As PostgreSQL's `wal_consistency_checking`, but before anything is logged: a
/// difference never reaches the log, and the commit is not acknowledged.
///
/// Used under the commit lock. It costs a copy, a redo and a comparison of each changed page.
final class RedoVerifier: @unchecked Sendable {
    // Sendable: the scratch page is touched under the engine's commit lock only.
    typealias Redo = @Sendable (PageChange, UnsafeMutableRawPointer, LSN) throws -> Bool

    private let redo: Redo
    private let scratch = UnsafeMutableRawPointer.allocate(byteCount: Page.bytes, alignment: 4096)

    init(_ redo: @escaping Redo) { self.redo = redo }
    deinit { scratch.deallocate() }

    /// How redo of one change and the leader's page differ.
    struct Difference: Equatable {
        var page: PageNumber
        var why: String
    }

    /// - Parameters:
    ///   - change: what the log is to hold of the page.
    ///   - old: the version that a difference was made from; an image is carried out over noise, since it may meet a
    ///     torn page.
    ///   - new: the leader's version, its hole zeroed. Checksum and pageLSN are stamped later and not compared.
    ///   - end: a position at or below the commit's end and above every LSN that `old` may bear.
    func compare(
        _ change: PageChange?, of page: PageNumber, old: UnsafeRawPointer?, new: UnsafeRawPointer, end: LSN
    ) -> Difference? {
        guard let change, change.page == page else {
            return Difference(page: page, why: "the commit does not say what became of it")
        }
        if let old, !change.isImage {
            scratch.copyMemory(from: old, byteCount: Page.bytes)
        } else {
            memset(scratch, 0xA5, Page.bytes)
        }
        do {
            guard try redo(change, scratch, end) else {
                return Difference(page: page, why: "redo takes the old version for the new one")
            }
        } catch {
            return Difference(page: page, why: "redo cannot apply the change: \(error)")
        }
        // The page number, then everything behind the pageLSN.
        guard let offset = firstDifference(new, 4..<8) ?? firstDifference(new, 16..<Page.bytes) else { return nil }
        let (theirs, ours) = (
            scratch.load(fromByteOffset: offset, as: UInt8.self), new.load(fromByteOffset: offset, as: UInt8.self)
        )
        return Difference(
            page: page,
            why: "the first difference is at byte \(offset): \(hexadecimal(UInt64(theirs), digits: 2)) by redo, "
                + "\(hexadecimal(UInt64(ours), digits: 2)) in the page")
    }

    private func firstDifference(_ new: UnsafeRawPointer, _ range: Range<Int>) -> Int? {
        if memcmp(scratch + range.lowerBound, new + range.lowerBound, range.count) == 0 { return nil }
        return range.first {
            scratch.load(fromByteOffset: $0, as: UInt8.self) != new.load(fromByteOffset: $0, as: UInt8.self)
        }
    }
}

extension Engine {
    /// Compares redo of what the builder holds with the transaction's pages. A difference ends all writing: what made it
    /// would make the next one too, and nobody knows which pages of the past it has spoilt.
    func verifyRedo(of writes: WriteSet, with verifier: RedoVerifier) throws {
        // Every version bears the end of a commit, and the log goes on behind them all.
        let position = log.appendedLSN
        var changes = PageChangeIterator(builder.payload)
        for index in writes.pages.indices {
            let page = PageNumber(writes.pages[index]), base = writes.bases[index]
            let found: RedoVerifier.Difference?
            do throws(ImpossibleChange) {
                found = verifier.compare(
                    try changes.next(), of: page, old: base == 0 ? nil : UnsafeRawPointer(cache.frames.address(base)),
                    new: cache.frames.address(writes.slots[index]), end: position + 1)
            } catch {
                found = RedoVerifier.Difference(page: page, why: "what is to be logged cannot be read: \(error)")
            }
            guard let found else { continue }
            let error = EngineError.redoDiffers(found.page, behind: position, found.why)
            if failure.set(error.description) { options.onFatal(error) }
            throw error
        }
    }
}
