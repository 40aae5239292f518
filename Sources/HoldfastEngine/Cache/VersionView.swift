import CShims
import HoldfastCore
import Synchronization

/// Pages as a snapshot sees them, for the tree. A few words without references to count: the owner of the
/// snapshot keeps the cache alive, and an operation announced in `reader` keeps the pages.
struct VersionView: PageReader {
    private let table: PageTable
    private let frames: Frames
    private let cache: Unmanaged<PageCache>
    private let reader: UnsafeMutablePointer<ReaderSlots.Slot>
    private let lsn: UInt64
    private let onlyResident: Bool

    init(
        _ cache: PageCache, _ reader: UnsafeMutablePointer<ReaderSlots.Slot>, at lsn: UInt64, onlyResident: Bool
    ) {
        table = cache.table
        frames = cache.frames
        self.cache = .passUnretained(cache)
        self.reader = reader
        self.lsn = lsn
        self.onlyResident = onlyResident
    }

    @inline(__always) func page(_ n: PageNumber) throws(EngineError) -> UnsafeRawPointer {
        // The slot is this thread's: a plain addition that others may read late.
        reader.pointee.pageReads.store(
            reader.pointee.pageReads.load(ordering: .relaxed) &+ 1, ordering: .relaxed)
        let slot = table[n]
        if slot != 0, frames.lsn(slot) <= lsn {
            frames.touch(slot)
            return UnsafeRawPointer(frames.address(slot))
        }
        return try slow(n)
    }

    @inline(never) private func slow(_ n: PageNumber) throws(EngineError) -> UnsafeRawPointer {
        try cache.takeUnretainedValue().slowPage(n, at: lsn, onlyResident: onlyResident)
    }

    @inline(__always) func willRead(_ n: PageNumber) {
        let slot = table[n]
        if slot != 0 { Node.prefetch(frames.address(slot)) }
    }

    @inline(__always) func releasePages() {
        cache._withUnsafeGuaranteedRef { $0.readers.refresh(reader) }
    }
}
