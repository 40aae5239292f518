import Glibc
import HoldfastCore
import Synchronization

/// Page number to slot, for all 2^32 pages: a directory of 32,768 chunks that come into being when needed. A look-up
/// is two loads and no lock. 0 means "none".
///
/// A borrowed view: its `PageCache` owns the memory and frees it last. Stores happen under the cache's lock.
struct PageTable: @unchecked Sendable {
    // Sendable: shared words are atomics; a chunk, once published, stays until the owner frees all.
    private static let chunkBits: UInt32 = 17
    private static let chunkEntries = 1 << 17
    private static let chunks = 1 << 15

    private let directory: UnsafeMutablePointer<Atomic<UInt>>

    init() {
        // Zero bytes are atomics of value 0; `calloc` maps them when they are touched.
        directory = calloc(Self.chunks, MemoryLayout<Atomic<UInt>>.stride)!
            .assumingMemoryBound(to: Atomic<UInt>.self)
    }

    func free() {
        for chunk in 0..<Self.chunks {
            let address = directory[chunk].load(ordering: .relaxed)
            if address != 0 { Glibc.free(UnsafeMutableRawPointer(bitPattern: address)) }
        }
        Glibc.free(directory)
    }

    @inline(__always) subscript(_ page: PageNumber) -> UInt32 {
        let address = directory[Int(page.rawValue >> Self.chunkBits)].load(ordering: .acquiring)
        guard let chunk = UnsafeMutablePointer<Atomic<UInt32>>(bitPattern: address) else { return 0 }
        return chunk[Int(page.rawValue) & (Self.chunkEntries - 1)].load(ordering: .acquiring)
    }

    func store(_ slot: UInt32, for page: PageNumber) {
        let place = Int(page.rawValue >> Self.chunkBits)
        var address = directory[place].load(ordering: .relaxed)
        if address == 0 {
            if slot == 0 { return }
            address = UInt(bitPattern: calloc(Self.chunkEntries, MemoryLayout<Atomic<UInt32>>.stride)!)
            directory[place].store(address, ordering: .releasing)
        }
        let chunk = UnsafeMutablePointer<Atomic<UInt32>>(bitPattern: address)!
        chunk[Int(page.rawValue) & (Self.chunkEntries - 1)].store(slot, ordering: .releasing)
    }
}
