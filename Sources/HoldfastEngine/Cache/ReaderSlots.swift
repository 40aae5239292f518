import Glibc
import HoldfastCore
import Synchronization

/// Where readers announce what they use. Each slot is two cache lines of its owner's:
///
/// - *LSN*: the snapshot it holds; versions that it sees are kept.
/// - *epoch*: set while an operation runs; page memory that was unlinked in this epoch or later is not reused.
///
/// An announcement is followed by a full fence and then by the loads it protects; whoever unlinks fences
/// and then looks at the announcements. So one of the two sees the other.
final class ReaderSlots: @unchecked Sendable {
    // Sendable: all is atomic; `depth` and `pageReads` are written by the slot's owner alone.
    static let count = 4096
    /// Snapshots that may be held at once; the rest of the places is for reads and transactions that come and go.
    static let heldAtMost = 3072

    struct Slot: ~Copyable {
        let owner: Atomic<UInt32>
        let epoch: Atomic<UInt64>
        let lsn: Atomic<UInt64>
        let pageReads: Atomic<UInt64>
        /// An atomic like the rest, so that nobody ever needs the whole slot for himself.
        let depth: Atomic<Int>
        let padding: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64)
    }

    /// Counts retirements of page memory; starts at 1, since an announced 0 means "idle".
    let epoch = Atomic<UInt64>(1)
    private let slots: UnsafeMutablePointer<Slot>
    /// Slots at or above were never used.
    private let used = Atomic<Int>(0)

    init() {
        slots = calloc(Self.count, MemoryLayout<Slot>.stride)!.assumingMemoryBound(to: Slot.self)
    }

    deinit { free(slots) }

    /// Takes a slot; waits, yielding, when 4,096 readers run.
    func claim() -> UnsafeMutablePointer<Slot> {
        // Threads begin their search at places of their own, so that they keep meeting the same line.
        let hint = Int(truncatingIfNeeded: pthread_self() >> 12) & 15
        while true {
            for step in 0..<Self.count {
                let index = (hint + step) & (Self.count - 1)
                let slot = slots + index
                guard slot.pointee.owner.load(ordering: .relaxed) == 0,
                    slot.pointee.owner.compareExchange(
                        expected: 0, desired: 1, successOrdering: .acquiring, failureOrdering: .relaxed
                    ).exchanged
                else { continue }
                if index >= used.load(ordering: .relaxed) { raiseUsed(to: index + 1) }
                return slot
            }
            sched_yield()
        }
    }

    private func raiseUsed(to count: Int) {
        // Before the slot's first announcement, which fences.
        var seen = used.load(ordering: .relaxed)
        while seen < count {
            let (exchanged, original) = used.compareExchange(
                expected: seen, desired: count, ordering: .sequentiallyConsistent)
            if exchanged { return }
            seen = original
        }
    }

    /// Gives a slot back: it announces nothing.
    func release(_ slot: UnsafeMutablePointer<Slot>) {
        slot.pointee.epoch.store(0, ordering: .releasing)
        slot.pointee.lsn.store(0, ordering: .releasing)
        slot.pointee.owner.store(0, ordering: .releasing)
    }

    /// Begins an operation of this slot's owner: pages found from now on stay in memory until `leave`. Nests.
    @inline(__always) func enter(_ slot: UnsafeMutablePointer<Slot>) {
        let depth = slot.pointee.depth.load(ordering: .relaxed) &+ 1
        slot.pointee.depth.store(depth, ordering: .relaxed)
        if depth == 1 { announce(slot) }
    }

    @inline(__always) func leave(_ slot: UnsafeMutablePointer<Slot>) {
        let depth = slot.pointee.depth.load(ordering: .relaxed) &- 1
        slot.pointee.depth.store(depth, ordering: .relaxed)
        if depth == 0 { slot.pointee.epoch.store(0, ordering: .releasing) }
    }

    /// Between two steps of a long operation, when it holds no pointer to a page: lets go of what was retired.
    @inline(__always) func refresh(_ slot: UnsafeMutablePointer<Slot>) {
        if slot.pointee.depth.load(ordering: .relaxed) == 1,
            epoch.load(ordering: .relaxed) != slot.pointee.epoch.load(ordering: .relaxed)
        {
            announce(slot)
        }
    }

    @inline(__always) private func announce(_ slot: UnsafeMutablePointer<Slot>) {
        slot.pointee.epoch.store(epoch.load(ordering: .acquiring), ordering: .relaxed)
        atomicMemoryFence(ordering: .sequentiallyConsistent)
    }

    /// Memory retired in an epoch below this may be reused. Fence first.
    func lowestEpoch() -> UInt64 {
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        var lowest = UInt64.max
        for index in 0..<used.load(ordering: .sequentiallyConsistent) {
            let announced = slots[index].epoch.load(ordering: .acquiring)
            if announced != 0, announced < lowest { lowest = announced }
        }
        return lowest
    }

    /// The LSNs that live snapshots hold, sorted, each once. Fence first.
    func liveLSNs(into live: inout [UInt64]) {
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        live.removeAll(keepingCapacity: true)
        for index in 0..<used.load(ordering: .sequentiallyConsistent) {
            let lsn = slots[index].lsn.load(ordering: .acquiring)
            if lsn != 0 { live.append(lsn) }
        }
        live.sort()
        var kept = 0
        for lsn in live where kept == 0 || live[kept - 1] != lsn {
            live[kept] = lsn
            kept += 1
        }
        live.removeSubrange(kept...)
    }

    /// Snapshots that are held.
    var liveCount: Int {
        (0..<used.load(ordering: .relaxed)).reduce(0) { $0 + (slots[$1].lsn.load(ordering: .relaxed) == 0 ? 0 : 1) }
    }

    /// Page reads counted by readers, past and present.
    var pageReads: UInt64 {
        (0..<used.load(ordering: .relaxed)).reduce(0) { $0 &+ slots[$1].pageReads.load(ordering: .relaxed) }
    }
}
