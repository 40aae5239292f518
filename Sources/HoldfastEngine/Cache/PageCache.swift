import Glibc
import HoldfastCore
import Synchronization

/// Pages in memory, in as many versions as anyone needs.
///
/// **Readers** take no lock: page table → newest version → older ones, to the first at or below their LSN. Committed
/// bytes never change in place, and memory that was unlinked is reused only when every operation that ran then
/// has ended (`ReaderSlots`).
///
/// **Everything else** (`lock`): installing a commit, loading, evicting, pruning, choosing what a checkpoint
/// writes. Lock order: the engine's commit lock, the write-out lock, this lock, then the gate or `TouchAhead`'s.
///
/// What is evicted: newest versions that are in their file and have no older version in memory. So a page on disk that
/// is newer than a snapshot, with nothing older in memory, means that the version it needs is gone: `snapshotTooOld`.
final class PageCache: @unchecked Sendable {
    // Sendable: mutable state is guarded by `lock`, or atomic, or as its type says.
    let frames: Frames
    let table: PageTable
    let readers = ReaderSlots()
    let store: any PageStore
    let gate = PageGate()
    let lock = Monitor()
    /// One thread at a time writes pages to their files.
    let writeOutLock = Monitor()

    let cacheSlots: Int
    let versionSlots: Int
    let transactionSlots: Int

    // MARK: Guarded by `lock`
    private var freeSlots: [UInt32] = []
    /// Slots never used yet: from here to the end.
    private var untouched: UInt32 = 1
    /// In the order of their epochs.
    private var retired = RetiredQueue()
    /// The slots of newest versions, in no order: what eviction and write-out look through.
    private(set) var residents: [UInt32] = []
    /// Where eviction and write-out go on in `residents`.
    private var evictionHand = 0
    var writeOutHand = 0
    var dirtyCount = 0
    /// Counts what may have made a page evictable, and its value when a search found too few.
    var chances: UInt64 = 0
    private var chancesInVain: UInt64 = .max
    var versions = VersionKeeper()
    /// Told of slots that are used for the first time, while a replay fills the cache.
    private var touchAhead: TouchAhead?

    let misses = Atomic<UInt64>(0)
    /// New snapshots are at or above this: what pruning has assumed.
    let pruneHorizon = Atomic<UInt64>(0)
    /// Says how far pages may be written. Set before the cache is used, and by recovery when it hands over.
    /// Guarded by `lock`.
    weak var durability: (any DurabilitySource)?

    var durabilitySource: (any DurabilitySource)? {
        lock.lock()
        defer { lock.unlock() }
        return durability
    }

    /// From now on `source` says how far pages may be written.
    func follow(_ source: any DurabilitySource) {
        lock.lock()
        durability = source
        lock.unlock()
    }

    init(store: any PageStore, options: EngineOptions) throws(EngineError) {
        self.store = store
        cacheSlots = max(options.cacheBytes / Page.bytes, 64)
        versionSlots = max(options.versionBytes / Page.bytes, 16)
        transactionSlots = max(options.transactionBytes / Page.bytes, 16)
        // Some more for pages in flight: loads, and what waits for an epoch to end.
        let count = cacheSlots + versionSlots + transactionSlots + min(64 + cacheSlots / 16, 2048) + 1
        guard count < Int(Int32.max) else { throw .memoryExhausted }
        frames = try Frames(count: count)
        table = PageTable()
    }

    /// Runs `body`, which fills the cache, with memory touched ahead of it.
    func touchingAhead<R>(_ body: () throws -> R) rethrows -> R {
        let ahead = TouchAhead(frames)
        setTouchAhead(ahead)
        defer {
            setTouchAhead(nil)
            ahead.stop()
        }
        return try body()
    }

    private func setTouchAhead(_ ahead: TouchAhead?) {
        lock.lock()
        touchAhead = ahead
        lock.unlock()
    }

    deinit {
        table.free()
        frames.free()
    }

    // MARK: Reading

    /// The way of a page that is not the newest version at or below `lsn` in memory at once.
    func slowPage(
        _ page: PageNumber, at lsn: UInt64, onlyResident: Bool
    ) throws(EngineError) -> UnsafeRawPointer {
        var slot = table[page]
        if slot == 0 {
            if onlyResident { throw .notResident }
            slot = try load(page)
        }
        while slot != 0 {
            if frames.lsn(slot) <= lsn {
                frames.touch(slot)
                return UnsafeRawPointer(frames.address(slot))
            }
            slot = frames.frames[Int(slot)].older.load(ordering: .acquiring)
        }
        throw .snapshotTooOld
    }

    /// The slot of a page's newest version, from the disk if need be. The caller is inside an operation.
    func newest(_ page: PageNumber) throws(EngineError) -> UInt32 {
        let slot = table[page]
        if slot != 0 {
            frames.touch(slot)
            return slot
        }
        return try load(page)
    }

    /// Loads a page that the table does not have.
    private func load(_ page: PageNumber) throws(EngineError) -> UInt32 {
        // Before the load is claimed: making room may write pages out, which waits for loads under way.
        let slot = try takeSlot()
        var resident: UInt32 = 0
        do throws(EngineError) {
            let isMine = try gate.beginLoad(page) {
                resident = table[page]
                return resident == 0
            }
            guard isMine else {
                giveBack(slot)
                return resident
            }
        } catch {
            giveBack(slot)
            throw error
        }
        defer { gate.endLoad(page) }
        misses.wrappingAdd(1, ordering: .relaxed)
        do throws(EngineError) {
            try readPage(page, into: frames.address(slot))
        } catch {
            giveBack(slot)
            throw error
        }
        lock.lock()
        defer { lock.unlock() }
        let meanwhile = table[page]
        if meanwhile != 0 {
            // A commit created it anew; what was read is a version that nobody can reach through the new one.
            freeSlot(slot)
            return meanwhile
        }
        installNewest(slot, for: page)
        return slot
    }

    /// Reads and verifies; a page of zeros is damage here, since something refers to it.
    func readPage(_ page: PageNumber, into buffer: UnsafeMutableRawPointer) throws(EngineError) {
        do throws(DiskError) {
            try store.read(from: page, count: 1, into: buffer)
        } catch { throw .disk(error) }
        let view = Page(buffer)
        if planted(.pageChecksumIgnored) || planted(.misplacedPageServed) && view.fault(expected: view.number) == nil {
            return
        }
        if let fault = view.fault(expected: page) { throw .damagedPage(page, fault.description) }
        if view.kind == nil { throw .damagedPage(page, PageFault.neverWritten.description) }
    }

    /// Under `lock`: the page's first version in memory.
    func installNewest(_ slot: UInt32, for page: PageNumber) {
        let frame = frames.frames + Int(slot)
        frame.pointee.page = page.rawValue
        frame.pointee.state = FrameState.newest.rawValue
        frame.pointee.newer = 0
        frame.pointee.dirtyFrom = 0
        frame.pointee.pins = 0
        frame.pointee.older.store(0, ordering: .relaxed)
        frames.touch(slot)
        table.store(slot, for: page)
        addResident(slot)
        chances &+= 1
    }

    /// Under `lock`: the slot of a page that had no version in memory has become its newest.
    func addResident(_ slot: UInt32) {
        frames.frames[Int(slot)].place = UInt32(residents.count)
        residents.append(slot)
    }

    /// Under `lock`: `slot` takes the place of an older version of its page.
    func replaceResident(_ old: UInt32, by slot: UInt32) {
        let place = frames.frames[Int(old)].place
        assert(residents[Int(place)] == old)
        residents[Int(place)] = slot
        frames.frames[Int(slot)].place = place
    }

    /// Under `lock`: the last one takes the place of one that leaves.
    private func removeResident(_ slot: UInt32) {
        let place = frames.frames[Int(slot)].place
        let last = residents.removeLast()
        if last != slot {
            residents[Int(place)] = last
            frames.frames[Int(last)].place = place
        }
    }

    // MARK: Slots

    /// A slot of the caller's own, its bytes undefined. May evict, write pages out, or wait for readers.
    func takeSlot() throws(EngineError) -> UInt32 {
        var attempts = 0
        while true {
            lock.lock()
            if residents.count > cacheSlots, residents.count - dirtyCount > cacheSlots / 16 { evictSome() }
            if let slot = popFree() {
                lock.unlock()
                return slot
            }
            evict(64, within: 2 * residents.count)
            reclaim()
            let slot = popFree()
            lock.unlock()
            if let slot { return slot }
            attempts += 1
            // What is left is dirty, or waits for operations to end.
            let written = try writeOutSome()
            if let durability = durabilitySource {
                // What was published since may have freed versions; nobody else need come by.
                prune(published: LSN(pruneHorizon.load(ordering: .acquiring)), mark: durability.durableMark)
            }
            if written == 0 {
                if attempts > 4000 { throw .memoryExhausted }
                if attempts < 100 { sched_yield() } else { usleep(50) }
            }
        }
    }

    /// Under `lock`.
    private func popFree() -> UInt32? {
        if freeSlots.isEmpty, retired.count > 0 { reclaim() }
        if let slot = freeSlots.popLast() {
            frames.frames[Int(slot)].state = FrameState.own.rawValue
            return slot
        }
        guard Int(untouched) < frames.count else { return nil }
        defer { untouched += 1 }
        touchAhead?.advance(Int(untouched))
        frames.frames[Int(untouched)].state = FrameState.own.rawValue
        return untouched
    }

    /// Under `lock`: a slot that nobody else ever saw.
    func freeSlot(_ slot: UInt32) {
        frames.frames[Int(slot)].state = FrameState.free.rawValue
        freeSlots.append(slot)
    }

    /// A slot that nobody else ever saw.
    func giveBack(_ slot: UInt32) {
        lock.lock()
        freeSlot(slot)
        lock.unlock()
    }

    /// Under `lock`: slots that were unlinked just now and that readers may still look at.
    func retire(_ slots: [UInt32]) {
        guard !slots.isEmpty else { return }
        // Whoever announces a later epoch has seen the unlinking.
        let epoch = readers.epoch.wrappingAdd(1, ordering: .sequentiallyConsistent).oldValue
        for slot in slots {
            frames.frames[Int(slot)].state = FrameState.retired.rawValue
            retired.append(slot, epoch)
        }
    }

    /// Under `lock`: what no operation can look at any more becomes free.
    private func reclaim() {
        let lowest = readers.lowestEpoch()
        while let slot = retired.popFirst(below: lowest) { freeSlot(slot) }
    }

    /// Under `lock`: evicts a few pages, unless that was tried since the last page became evictable. Most of a small
    /// cache may be dirty or pinned; looking for the rest at each slot that is taken would cost more than they give.
    private func evictSome() {
        guard chances != chancesInVain else { return }
        if evict(32, within: 1024) < 32 { chancesInVain = chances }
    }

    /// Under `lock`: unlinks up to `wanted` pages that nobody used lately, of the next `steps` that it comes by.
    @discardableResult
    private func evict(_ wanted: Int, within steps: Int) -> Int {
        var victims: [UInt32] = []
        for _ in 0..<steps where victims.count < wanted && !residents.isEmpty {
            evictionHand = evictionHand + 1 < residents.count ? evictionHand + 1 : 0
            let slot = residents[evictionHand]
            let frame = frames.frames + Int(slot)
            guard frame.pointee.dirtyFrom == 0 || planted(.evictDirty), frame.pointee.pins == 0,
                frame.pointee.older.load(ordering: .relaxed) == 0
            else { continue }
            if frames.referenced[Int(slot)].load(ordering: .relaxed) != 0 {
                frames.referenced[Int(slot)].store(0, ordering: .relaxed)
                continue
            }
            table.store(0, for: PageNumber(frame.pointee.page))
            removeResident(slot)
            victims.append(slot)
        }
        retire(victims)
        return victims.count
    }

    /// Evicts what a large transaction has left above the budget, as far as it is clean.
    func trim() {
        lock.lock()
        let excess = residents.count - cacheSlots
        if excess > 0 { evict(min(excess, 256), within: 2 * residents.count) }
        lock.unlock()
    }

    /// Slots that were ever used: memory behind them was never touched.
    var usedSlots: Int {
        lock.lock()
        defer { lock.unlock() }
        return Int(untouched)
    }

    var usedCacheBytes: Int {
        lock.lock()
        defer { lock.unlock() }
        return residents.count * Page.bytes
    }
}

/// Slots that wait for epochs to end, first in, first out.
struct RetiredQueue {
    private var entries: [(slot: UInt32, epoch: UInt64)] = []
    private var first = 0
    var count: Int { entries.count - first }

    mutating func append(_ slot: UInt32, _ epoch: UInt64) { entries.append((slot, epoch)) }

    mutating func popFirst(below epoch: UInt64) -> UInt32? {
        guard first < entries.count, entries[first].epoch < epoch else { return nil }
        defer {
            first += 1
            if first == entries.count || first > 4096 && first * 2 > entries.count {
                entries.removeSubrange(0..<first)
                first = 0
            }
        }
        return entries[first].slot
    }
}

/// The log, as far as the writing of pages depends on it.
protocol DurabilitySource: AnyObject, Sendable {
    /// Durable, and known to be by a record that is durable itself: page versions at or below it may be written.
    var durableMark: LSN { get }
    /// Makes everything appended so far fall below the mark.
    func raiseMark() throws(EngineError)
}
