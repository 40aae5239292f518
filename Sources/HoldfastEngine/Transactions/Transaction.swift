import HoldfastCore

/// The one write transaction. It sees its own changes and every commit before it, published or not.
/// Used by one thread at a time. A `put`, `delete` or `clear` that threw leaves it fit only for `rollback`.
public final class Transaction {
    /// Everything below this LSN may have been seen by this transaction: a reply that tells of what it read waits for
    /// `engine.flush(through:)` of it, also when nothing was changed.
    public var basis: LSN { unbuilt() }

    /// Gives `body` the value of `key`, or `nil`. The bytes are valid in `body` only.
    public func get<R>(
        _ tree: String, _ key: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer?) throws -> R
    ) throws -> R { unbuilt() }
    public func get(_ tree: String, _ key: [UInt8]) throws -> [UInt8]? { unbuilt() }

    /// Stores a record; makes the tree if it does not exist. The bytes must not lie in memory that `get` or `scan` lent.
    /// - Returns: whether the key is new.
    @discardableResult
    public func put(
        _ tree: String, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer
    ) throws -> Bool { unbuilt() }
    @discardableResult public func put(_ tree: String, _ key: [UInt8], _ value: [UInt8]) throws -> Bool { unbuilt() }

    /// Removes a record.
    /// - Returns: whether there was one.
    @discardableResult public func delete(_ tree: String, _ key: UnsafeRawBufferPointer) throws -> Bool { unbuilt() }
    @discardableResult public func delete(_ tree: String, _ key: [UInt8]) throws -> Bool { unbuilt() }

    /// Removes all records, in constant time; the pages are freed afterwards, bit by bit.
    public func clear(_ tree: String) throws { unbuilt() }

    /// As `Snapshot.scan`. `body` must not change this transaction.
    public func scan(
        _ tree: String, from: UnsafeRawBufferPointer? = nil, to: UnsafeRawBufferPointer? = nil, reverse: Bool = false,
        _ body: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws -> Bool
    ) throws { unbuilt() }

    public func count(_ tree: String) throws -> UInt64 { unbuilt() }
    public func trees() throws -> [TreeSummary] { unbuilt() }

    /// Commits without waiting for the disk: logged and seen by later transactions, neither durable nor
    /// published before a flush through `end` (anybody's). `transactions` is how many transaction numbers the
    /// commit bears, for commands that were fused. A transaction that changed nothing takes no number.
    /// Throws when the log or a page file has no room: then nothing has happened. Ends the transaction either way.
    public func stage(transactions: Int = 1) throws -> StagedCommit { unbuilt() }

    /// Ends the transaction; nothing has happened.
    public func rollback() { unbuilt() }
}

/// What `Transaction.stage` gives.
public struct StagedCommit: Sendable, Equatable {
    /// Flush through here before anyone is told. For a transaction that changed nothing: what it saw.
    public var end: LSN
    /// `nil` when nothing was changed.
    public var transactions: ClosedRange<TransactionID>?
}
