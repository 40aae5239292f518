import HoldfastCore

/// A tree as one snapshot sees it: found once by name, then read from many times.
public struct TreeReference: Sendable {
    let tree: Tree
    /// Records in it.
    public var count: UInt64 { tree.count }
}

/// A consistent state of all trees. Bytes that it lends are valid only inside the closure they are lent to.
/// A tree that does not exist reads as an empty one.
public struct Snapshot: ~Copyable {
    /// The end of the last commit that this snapshot sees.
    public let lsn: LSN

    /// The tree of this name, or `nil`.
    public func tree(_ name: String) throws -> TreeReference? { unbuilt() }

    /// Gives `body` the value of `key`, or `nil`.
    public func get<R>(
        _ tree: TreeReference, _ key: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer?) throws -> R
    ) throws -> R { unbuilt() }
    public func get<R>(
        _ tree: String, _ key: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer?) throws -> R
    ) throws -> R { unbuilt() }
    /// A copy of the value.
    public func get(_ tree: String, _ key: [UInt8]) throws -> [UInt8]? { unbuilt() }

    /// Gives `body` each record with `from <= key < to` (`nil`: no bound), in order or in reverse order, until it
    /// returns `false`.
    public func scan(
        _ tree: TreeReference, from: UnsafeRawBufferPointer? = nil, to: UnsafeRawBufferPointer? = nil,
        reverse: Bool = false, _ body: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws -> Bool
    ) throws { unbuilt() }
    public func scan(
        _ tree: String, from: UnsafeRawBufferPointer? = nil, to: UnsafeRawBufferPointer? = nil, reverse: Bool = false,
        _ body: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws -> Bool
    ) throws { unbuilt() }

    /// Records in a tree.
    public func count(_ tree: String) throws -> UInt64 { unbuilt() }

    /// The names of all trees with their record counts, sorted.
    public func trees() throws -> [TreeSummary] { unbuilt() }
}

public struct TreeSummary: Sendable, Equatable {
    public var name: String
    public var count: UInt64
}

/// A snapshot that lives until `close`, for readers that come back. Any thread may use it.
/// The versions it needs are kept in memory; when they exceed the budget, its reads throw `snapshotTooOld`.
public final class SnapshotHandle: Sendable {
    public var lsn: LSN { unbuilt() }
    public func read<R>(onlyResident: Bool = false, _ body: (borrowing Snapshot) throws -> R) throws -> R { unbuilt() }
    public func close() { unbuilt() }
}
