import CShims
import Glibc
import HoldfastCore
import HoldfastWAL

/// Applies commits to pages in the cache. Nobody else uses the cache meanwhile, so that pages change in place.
///
/// Since every page's first change after a redo point is an image, replay never needs what the page files held before;
/// it does not trust them either: a difference that comes first is damage.
final class Redo: DurabilitySource, @unchecked Sendable {
    // Used by the replaying thread only.
    let cache: PageCache
    /// Whole pages that this replay has made, by number.
    private var made = PageSet()
    /// The greatest mark read: every byte below is durable, and known to be, since the log was synced before it was read.
    var durableMark = LSN.zero
    private(set) var appliedBytes = 0

    init(_ cache: PageCache) {
        self.cache = cache
        cache.follow(self)
    }

    /// For replay from an archive, all of whose log is durable: makes it known durably how far pages may be ahead, and
    /// says how far that is. `nil` for a log of this disk, whose own marks say it.
    var raise: (() throws(EngineError) -> LSN)?

    func raiseMark() throws(EngineError) {
        if let raise { durableMark = max(durableMark, try raise()) }
    }

    func apply(_ commit: AssembledCommit) throws(EngineError) {
        appliedBytes += commit.payload.count
        var changes = commit.changes
        // The changes read and not yet applied, in a ring. Most of a replay's time is the wait for the first byte of a page
        // that no cache of the processor holds; a commit names the pages that come next.
        var ring = InlineArray<16, PageChange?>(repeating: nil)
        var read = 0
        var applied = 0
        while true {
            do throws(ImpossibleChange) {
                while read - applied < ring.count, let change = try changes.next() {
                    bring(change)
                    ring[read % ring.count] = change
                    read += 1
                }
            } catch { throw EngineError(error) }
            guard applied < read, let change = ring[applied % ring.count] else { return }
            applied += 1
            let slot = try slot(for: change, commit.end)
            do throws(ImpossibleChange) {
                try HoldfastWAL.apply(change, to: cache.frames.address(slot), commitEnd: commit.end)
            } catch { throw EngineError(error) }
            cache.markChanged(slot, by: commit.end)
        }
    }

    /// Asks the processor for what `apply` will touch first: the header, where a difference begins, and the slot's frame.
    @inline(__always)
    private func bring(_ change: PageChange) {
        let slot = cache.table[change.page]
        guard slot != 0 else { return }
        let page = cache.frames.address(slot)
        hf_prefetch(page)
        hf_prefetch(cache.frames.frames + Int(slot))
        if !change.isImage, change.payload.count >= 2, let base = change.payload.baseAddress {
            hf_prefetch(page + Int(base.loadUnaligned(as: UInt16.self)) % Page.bytes)
        }
    }

    private func slot(for change: PageChange, _ end: LSN) throws(EngineError) -> UInt32 {
        let page = change.page
        if change.isImage {
            if made.insert(page) {
                do throws(DiskError) {
                    try cache.store.extend(toCover: page)
                } catch { throw .disk(error) }
            }
            return try cache.slotForImage(of: page)
        }
        guard made.contains(page) || planted(.differenceOnTornPage) else {
            throw .recoveryFailed(end, "page \(page) is changed there and no earlier record holds it whole")
        }
        return try cache.newest(page)
    }
}

/// A set of page numbers as bits.
struct PageSet {
    private var words: [UInt64] = []

    func contains(_ page: PageNumber) -> Bool {
        let word = Int(page.rawValue >> 6)
        return word < words.count && words[word] & (1 << UInt64(page.rawValue & 63)) != 0
    }

    /// - Returns: whether it is new.
    mutating func insert(_ page: PageNumber) -> Bool {
        if contains(page) { return false }
        let word = Int(page.rawValue >> 6)
        if word >= words.count {
            words.append(contentsOf: repeatElement(0, count: max(word + 1 - words.count, words.count)))
        }
        words[word] |= 1 << UInt64(page.rawValue & 63)
        return true
    }

    /// Its pages in runs of at most `limit`, none of which reaches into another page file.
    func runs(atMost limit: Int) -> [PageRun] {
        var runs: [PageRun] = []
        for (index, bits) in words.enumerated() where bits != 0 {
            for bit in 0..<64 where bits & (1 << UInt64(bit)) != 0 {
                let page = UInt32(index * 64 + bit)
                if let last = runs.last, last.first.rawValue + UInt32(last.count) == page, last.count < limit,
                    page % PageNumber.pagesPerFile != 0
                {
                    runs[runs.count - 1].count += 1
                } else {
                    runs.append(PageRun(first: PageNumber(page), count: 1))
                }
            }
        }
        return runs
    }
}

extension PageCache {
    /// A slot for a page that is about to be overwritten whole; its bytes are whatever they were.
    func slotForImage(of page: PageNumber) throws(EngineError) -> UInt32 {
        let known = table[page]
        if known != 0 { return known }
        let slot = try takeSlot()
        lock.lock()
        installNewest(slot, for: page)
        lock.unlock()
        return slot
    }

    /// Redo has changed a page in place. Looked at without the lock first, since nobody but the replaying thread, which
    /// also writes pages out when memory is short, changes a frame meanwhile.
    func markChanged(_ slot: UInt32, by commitEnd: LSN) {
        if frames.frames[Int(slot)].dirtyFrom != 0 { return }
        lock.lock()
        frames.frames[Int(slot)].dirtyFrom = commitEnd.rawValue
        dirtyCount += 1
        lock.unlock()
    }
}
