import HoldfastCore
import Synchronization

/// A tree as one snapshot sees it: found once by name, then read from many times.
public struct TreeReference: Sendable {
    let tree: Tree
    /// Records in it.
    public var count: UInt64 { tree.count }
}

/// A consistent state of all trees. Bytes that it lends are valid only inside the closure they are lent to.
/// A tree that does not exist reads as an empty one. Used by one thread at a time.
public struct Snapshot: ~Copyable {
    /// The end of the last commit that this snapshot sees.
    public let lsn: LSN
    private let view: VersionView
    let readers: Unmanaged<ReaderSlots>
    let slot: UnsafeMutablePointer<ReaderSlots.Slot>

    init(_ cache: PageCache, _ slot: UnsafeMutablePointer<ReaderSlots.Slot>, at lsn: LSN, onlyResident: Bool) {
        self.lsn = lsn
        self.slot = slot
        readers = .passUnretained(cache.readers)
        view = VersionView(cache, slot, at: lsn.rawValue, onlyResident: onlyResident)
    }

    /// Runs `body` as one operation: the pages that it looks at stay.
    @inline(__always)
    func operation<R>(_ body: (VersionView) throws -> R) rethrows -> R {
        readers._withUnsafeGuaranteedRef { $0.enter(slot) }
        defer { readers._withUnsafeGuaranteedRef { $0.leave(slot) } }
        return try body(view)
    }

    /// The tree of this name, or `nil`.
    public func tree(_ name: String) throws -> TreeReference? {
        try operation { view in
            try withNameBytes(name) { try TreeCatalog.find($0, in: view) }.map(TreeReference.init)
        }
    }

    /// Gives `body` the value of `key`, or `nil`.
    public func get<R>(
        _ tree: TreeReference, _ key: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer?) throws -> R
    ) throws -> R {
        // Found without regard to R, so that it is compiled for this reader and not for any.
        try operation { view in
            guard let value = try tree.tree.find(key, in: view) else { return try body(nil) }
            return try value.withBytes(in: view, body)
        }
    }

    public func get<R>(
        _ tree: String, _ key: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer?) throws -> R
    ) throws -> R {
        guard let found = try self.tree(tree) else { return try body(nil) }
        return try get(found, key, body)
    }

    /// A copy of the value.
    public func get(_ tree: String, _ key: [UInt8]) throws -> [UInt8]? {
        try key.withUnsafeBytes { try get(tree, $0) { value in value.map(Array.init) } }
    }

    /// Gives `body` each record with `from <= key < to` (`nil`: no bound), in order or in reverse order, until it
    /// returns `false`.
    public func scan(
        _ tree: TreeReference, from: UnsafeRawBufferPointer? = nil, to: UnsafeRawBufferPointer? = nil,
        reverse: Bool = false, _ body: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws -> Bool
    ) throws {
        try operation { view in
            try tree.tree.scan(in: view, from: from, to: to, reverse: reverse) { key, value in
                try value.withBytes(in: view) { try body(key, $0) }
            }
        }
    }

    public func scan(
        _ tree: String, from: UnsafeRawBufferPointer? = nil, to: UnsafeRawBufferPointer? = nil, reverse: Bool = false,
        _ body: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws -> Bool
    ) throws {
        guard let found = try self.tree(tree) else { return }
        try scan(found, from: from, to: to, reverse: reverse, body)
    }

    /// Records in a tree.
    public func count(_ tree: String) throws -> UInt64 { try self.tree(tree)?.count ?? 0 }

    /// The names of all trees with their record counts, sorted.
    public func trees() throws -> [TreeSummary] {
        try operation { view in try TreeSummary.all(in: view) }
    }
}

public struct TreeSummary: Sendable, Equatable {
    public var name: String
    public var count: UInt64

    static func all(in reader: some PageReader) throws -> [TreeSummary] {
        var all: [TreeSummary] = []
        try TreeCatalog.forEach(in: reader) { name, tree in
            all.append(TreeSummary(name: String(decoding: name, as: UTF8.self), count: tree.count))
            return true
        }
        return all
    }
}

/// The UTF-8 bytes of a tree's name.
@inline(__always)
func withNameBytes<R>(_ name: String, _ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
    var name = name
    return try name.withUTF8 { try body(UnsafeRawBufferPointer($0)) }
}

/// A snapshot that lives until `close`, for readers that come back. Any thread may use it.
/// The versions it needs are kept in memory; when they exceed the budget, its reads throw `snapshotTooOld`.
public final class SnapshotHandle: Sendable {
    public let lsn: LSN
    private let cache: PageCache
    /// Announces the LSN; `nil` when closed.
    private let slot: Mutex<UnsafeSlot?>

    private struct UnsafeSlot: @unchecked Sendable {
        // Used under the mutex only.
        let pointer: UnsafeMutablePointer<ReaderSlots.Slot>
    }

    init(_ cache: PageCache, _ slot: UnsafeMutablePointer<ReaderSlots.Slot>, at lsn: LSN) {
        self.cache = cache
        self.lsn = lsn
        self.slot = Mutex(UnsafeSlot(pointer: slot))
    }

    deinit { close() }

    /// Reads this state; throws `closed` after `close`.
    public func read<R>(onlyResident: Bool = false, _ body: (borrowing Snapshot) throws -> R) throws -> R {
        // A slot of this call's own keeps the pages in memory; the handle's keeps the versions.
        let own = cache.readers.claim()
        defer { cache.readers.release(own) }
        try slot.withLock { slot in
            guard slot != nil else { throw EngineError.closed }
            own.pointee.lsn.store(lsn.rawValue, ordering: .sequentiallyConsistent)
        }
        return try body(Snapshot(cache, own, at: lsn, onlyResident: onlyResident))
    }

    public func close() {
        let taken = slot.withLock { slot in
            defer { slot = nil }
            return slot
        }
        if let taken { cache.readers.release(taken.pointer) }
    }
}
