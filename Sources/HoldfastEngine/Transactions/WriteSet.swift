import Glibc
import HoldfastCore

/// The pages that the running transaction has changed: its copies, and what they were copied from.
/// Kept between transactions; used by whoever holds the transaction lock.
final class WriteSet {
    let cache: PageCache
    /// Page number to own slot.
    let own = PageTable()
    private(set) var pages: [UInt32] = []
    private(set) var slots: [UInt32] = []
    /// The slot copied from, pinned; 0: the page was created, and its old version was not read.
    private(set) var bases: [UInt32] = []
    /// Whether the page was created: it is logged as an image.
    private(set) var created: [Bool] = []

    init(_ cache: PageCache) { self.cache = cache }
    deinit { own.free() }

    var isEmpty: Bool { pages.isEmpty }

    /// A private copy of `page`, made at the first call.
    @inline(__always)
    func modify(_ page: PageNumber) throws(EngineError) -> UnsafeMutableRawPointer {
        let slot = own[page]
        if slot != 0 { return cache.frames.address(slot) }
        return try copy(page)
    }

    private func copy(_ page: PageNumber) throws(EngineError) -> UnsafeMutableRawPointer {
        try checkBudget()
        let base = try pinned(page)
        let slot = try taking(releasing: base)
        let from = Page(cache.frames.address(base)), to = cache.frames.address(slot)
        let lower = from.lower, upper = from.upper
        // Holes are zero in every stored version, and are zeroed again before the commit.
        to.copyMemory(from: from.base, byteCount: lower)
        (to + upper).copyMemory(from: from.base + upper, byteCount: Page.bytes - upper)
        TouchedCells(to).begin()
        add(page, slot, base, false)
        return to
    }

    /// A private page of zeros for `page`. When its old version may be seen by a snapshot (`mayBeSeen`), that is
    /// brought into memory first, since the new one will take its place in the file.
    func create(_ page: PageNumber, mayBeSeen: Bool) throws(EngineError) -> UnsafeMutableRawPointer {
        let known = own[page]
        let address: UnsafeMutableRawPointer
        if known != 0 {
            address = cache.frames.address(known)
        } else {
            try checkBudget()
            var base: UInt32 = 0
            if mayBeSeen {
                do throws(EngineError) {
                    base = try pinned(page)
                } catch {
                    // A free page may be damaged or never written: nobody can read it, so nobody misses it.
                    guard case .damagedPage = error else { throw error }
                }
            }
            let slot = try taking(releasing: base)
            add(page, slot, base, true)
            address = cache.frames.address(slot)
        }
        memset(address, 0, Page.bytes)
        TouchedCells(address).all()
        return address
    }

    // MARK: For redo beside readers

    /// A private copy of `page`, its hole too, for a logged difference.
    func copyForDifference(_ page: PageNumber) throws(EngineError) -> UnsafeMutableRawPointer {
        let known = own[page]
        if known != 0 { return cache.frames.address(known) }
        try checkBudget()
        let base = try pinned(page)
        let slot = try taking(releasing: base)
        let to = cache.frames.address(slot)
        to.copyMemory(from: cache.frames.address(base), byteCount: Page.bytes)
        add(page, slot, base, false)
        return to
    }

    /// A private page of undefined bytes for a logged image, which writes them all. The old version, if there is a sound
    /// one, is brought into memory first: a snapshot may see it, and the new one will take its place in the file.
    func placeForImage(_ page: PageNumber) throws(EngineError) -> UnsafeMutableRawPointer {
        let known = own[page]
        if known != 0 { return cache.frames.address(known) }
        try checkBudget()
        var base: UInt32 = 0
        do throws(EngineError) {
            base = try pinned(page)
        } catch {
            guard case .damagedPage = error else { throw error }
        }
        let slot = try taking(releasing: base)
        add(page, slot, base, true)
        return cache.frames.address(slot)
    }

    private func checkBudget() throws(EngineError) {
        guard pages.count < cache.transactionSlots else {
            throw .transactionTooLarge(limit: cache.transactionSlots * Page.bytes)
        }
    }

    private func taking(releasing base: UInt32) throws(EngineError) -> UInt32 {
        do throws(EngineError) {
            return try cache.takeSlot()
        } catch {
            if base != 0 { cache.unpin(base) }
            throw error
        }
    }

    private func pinned(_ page: PageNumber) throws(EngineError) -> UInt32 {
        while true {
            if let slot = cache.pin(page) { return slot }
            _ = try cache.newest(page)
        }
    }

    private func add(_ page: PageNumber, _ slot: UInt32, _ base: UInt32, _ isCreated: Bool) {
        pages.append(page.rawValue)
        slots.append(slot)
        bases.append(base)
        created.append(isCreated)
        own.store(slot, for: page)
    }

    /// The copies have become versions.
    func forgetInstalled() {
        for page in pages { own.store(0, for: PageNumber(page)) }
        pages.removeAll(keepingCapacity: pages.count < 65_536)
        slots.removeAll(keepingCapacity: slots.count < 65_536)
        bases.removeAll(keepingCapacity: bases.count < 65_536)
        created.removeAll(keepingCapacity: created.count < 65_536)
    }

    /// Gives the copies up.
    func discard() {
        cache.lock.lock()
        for base in bases where base != 0 { cache.frames.frames[Int(base)].pins = 0 }
        for slot in slots { cache.freeSlot(slot) }
        cache.lock.unlock()
        forgetInstalled()
    }
}

extension PageCache {
    /// Keeps the newest version of a page from being evicted while it is copied; `nil` when it is not in memory.
    func pin(_ page: PageNumber) -> UInt32? {
        lock.lock()
        defer { lock.unlock() }
        let slot = table[page]
        guard slot != 0 else { return nil }
        frames.frames[Int(slot)].pins = 1
        frames.touch(slot)
        return slot
    }

    func unpin(_ slot: UInt32) {
        lock.lock()
        frames.frames[Int(slot)].pins = 0
        lock.unlock()
    }
}
