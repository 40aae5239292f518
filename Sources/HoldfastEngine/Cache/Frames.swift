import Glibc
import HoldfastCore
import Synchronization

/// What a slot of page memory is used for.
enum FrameState: UInt8 {
    case free = 0
    /// The newest committed version of its page: what the page table points to.
    case newest
    /// An older version, kept for snapshots.
    case old
    /// A transaction's copy, or a page that is being loaded: nobody else knows of it.
    case own
    /// Unlinked; readers may still look at it.
    case retired
}

/// What is known of a slot beside its bytes. All but `older` is guarded by the cache's lock.
struct Frame: ~Copyable {
    /// The slot of the next older version that is kept, 0: none. Readers follow it without a lock.
    let older: Atomic<UInt32>
    /// The slot of the next newer version, 0: this is the newest.
    var newer: UInt32
    var page: UInt32
    var state: FrameState.RawValue
    /// A transaction has copied it: not evicted before it ends.
    var pins: UInt8
    /// Of the newest version: where it stands among the residents.
    var place: UInt32
    /// Of the newest version: the page's first commit that is not in its file has this end LSN or a greater
    /// one; 0: the file has it all.
    var dirtyFrom: UInt64
}

/// Page memory: one reservation of address space, touched as it is used, and a `Frame` for each 8 KiB slot.
/// Slot 0 is not used. Owned by its `PageCache`; the views it hands out end with it.
struct Frames: @unchecked Sendable {
    // Sendable: see `Frame` for who guards what; page bytes are written only while their slot is `own`.
    let base: UnsafeMutableRawPointer
    let frames: UnsafeMutablePointer<Frame>
    /// Set by readers, cleared by eviction's hand; one byte a slot.
    let referenced: UnsafeMutablePointer<Atomic<UInt8>>
    let count: Int

    init(count: Int) throws(EngineError) {
        self.count = count
        let bytes = count * Page.bytes
        let memory = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard let memory, memory != MAP_FAILED else {
            throw .disk(DiskError(operation: "reserve memory", path: "page cache", errno: errno))
        }
        base = memory
        // Huge pages save TLB misses on random reads; below some size they would only be zeroed in vain.
        if bytes >= 64 << 20 { madvise(memory, bytes, MADV_HUGEPAGE) }
        frames = calloc(count, MemoryLayout<Frame>.stride)!.assumingMemoryBound(to: Frame.self)
        referenced = calloc(count, MemoryLayout<Atomic<UInt8>>.stride)!.assumingMemoryBound(to: Atomic<UInt8>.self)
    }

    func free() {
        munmap(base, count * Page.bytes)
        Glibc.free(frames)
        Glibc.free(referenced)
    }

    /// Makes the memory of slots present, as far as there are so many, without changing it; `false` when the kernel cannot.
    func populate(from slot: Int, count slots: Int) -> Bool {
        let bytes = min(slots, count - slot) * Page.bytes
        return bytes <= 0 || madvise(base + slot * Page.bytes, bytes, MADV_POPULATE_WRITE) == 0
    }

    @inline(__always) func address(_ slot: UInt32) -> UnsafeMutableRawPointer { base + Int(slot) * Page.bytes }
    @inline(__always) func lsn(_ slot: UInt32) -> UInt64 { Page(address(slot)).lsn.rawValue }
    @inline(__always) func touch(_ slot: UInt32) {
        if referenced[Int(slot)].load(ordering: .relaxed) == 0 { referenced[Int(slot)].store(1, ordering: .relaxed) }
    }
}
