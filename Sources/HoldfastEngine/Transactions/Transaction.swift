import HoldfastCore

/// The one write transaction. It sees its own changes and every commit before it, published or not.
/// Used by one thread at a time. A `put`, `delete` or `clear` that threw for another reason than its arguments
/// leaves it fit only for `rollback`; `stage` then throws the same error.
public final class Transaction: PageEditor {
    private struct OpenTree {
        var name: String
        var tree: Tree
        /// The count that the catalog has.
        var savedCount: UInt64?
    }

    private let engine: Engine
    private let cache: PageCache
    let writes: WriteSet
    private let reader: UnsafeMutablePointer<ReaderSlots.Slot>
    private var openTrees: [OpenTree] = []
    private var lastTree = 0
    /// Pages from here on were never allocated when this began.
    private let firstFreshPage: UInt32
    private var failure: EngineError?
    private(set) var isOpen = true
    /// Whether pages of cleared trees were left to be freed.
    private(set) var leavesPagesToReclaim = false

    /// Everything below this LSN may have been seen by this transaction: a reply that tells of what it read waits for
    /// `engine.flush(through:)` of it, also when nothing was changed.
    public let basis: LSN

    /// The transaction lock is held; it is released when the transaction ends.
    init(_ engine: Engine) throws(EngineError) {
        self.engine = engine
        cache = engine.cache
        writes = engine.writes
        basis = engine.installedLSN
        reader = cache.readers.claim()
        cache.readers.enter(reader)
        do throws(EngineError) {
            firstFreshPage = try PageSpace.pageCount(NewestView(cache: cache))
        } catch {
            // The transaction lock is given back by the caller.
            cache.readers.leave(reader)
            cache.readers.release(reader)
            firstFreshPage = 0
            isOpen = false
            throw error
        }
        cache.readers.leave(reader)
    }

    deinit { rollback() }

    // MARK: Records

    /// Gives `body` the value of `key`, or `nil`. The bytes are valid in `body` only.
    public func get<R>(
        _ tree: String, _ key: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer?) throws -> R
    ) throws -> R {
        try operation {
            guard let index = try open(tree, creating: false) else { return try body(nil) }
            return try openTrees[index].tree.get(key, in: self, body)
        }
    }

    public func get(_ tree: String, _ key: [UInt8]) throws -> [UInt8]? {
        try key.withUnsafeBytes { try get(tree, $0) { value in value.map(Array.init) } }
    }

    /// Stores a record; makes the tree if it does not exist. The bytes must not lie in memory that `get` or `scan` lent.
    /// - Returns: whether the key is new.
    @discardableResult
    public func put(_ tree: String, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws -> Bool {
        guard key.count <= Limits.keyBytes else { throw EngineError.keyTooLong(key.count) }
        guard value.count <= Limits.valueBytes else { throw EngineError.valueTooLong(value.count) }
        return try change {
            let index = try open(tree, creating: true)!
            return try openTrees[index].tree.put(key, value, in: self)
        }
    }

    @discardableResult public func put(_ tree: String, _ key: [UInt8], _ value: [UInt8]) throws -> Bool {
        try key.withUnsafeBytes { key in try value.withUnsafeBytes { try put(tree, key, $0) } }
    }

    /// Removes a record.
    /// - Returns: whether there was one.
    @discardableResult public func delete(_ tree: String, _ key: UnsafeRawBufferPointer) throws -> Bool {
        try change {
            guard let index = try open(tree, creating: false) else { return false }
            return try openTrees[index].tree.delete(key, in: self)
        }
    }

    @discardableResult public func delete(_ tree: String, _ key: [UInt8]) throws -> Bool {
        try key.withUnsafeBytes { try delete(tree, $0) }
    }

    /// Removes all records, in constant time; the pages are freed afterwards, bit by bit.
    public func clear(_ tree: String) throws {
        try change {
            guard let index = try open(tree, creating: false) else { return }
            try TreeCatalog.clear(&openTrees[index].tree, in: self)
            leavesPagesToReclaim = true
        }
    }

    /// As `Snapshot.scan`. `body` must not change this transaction.
    public func scan(
        _ tree: String, from: UnsafeRawBufferPointer? = nil, to: UnsafeRawBufferPointer? = nil, reverse: Bool = false,
        _ body: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws -> Bool
    ) throws {
        try operation {
            guard let index = try open(tree, creating: false) else { return }
            try openTrees[index].tree.scan(in: self, from: from, to: to, reverse: reverse) { key, value in
                try value.withBytes(in: self) { try body(key, $0) }
            }
        }
    }

    public func count(_ tree: String) throws -> UInt64 {
        try operation { try open(tree, creating: false).map { openTrees[$0].tree.count } ?? 0 }
    }

    public func trees() throws -> [TreeSummary] {
        try operation {
            try saveCounts()
            return try TreeSummary.all(in: self)
        }
    }

    /// Frees pages of cleared trees.
    /// - Returns: whether there is more to free.
    package func reclaimSome(pages: Int) throws -> Bool {
        try change { try TreeCatalog.reclaimSome(self, budgetPages: pages) }
    }

    // MARK: The end

    /// Commits without waiting for the disk: logged and seen by later transactions, neither durable nor
    /// published before a flush through `end` (anybody's). `transactions` is how many transaction numbers the
    /// commit bears, for commands that were fused. A transaction that changed nothing takes no number.
    /// Throws when the log or a page file has no room: then nothing has happened. Ends the transaction either way.
    public func stage(transactions: Int = 1) throws -> StagedCommit {
        precondition(isOpen, "the transaction has ended")
        precondition(transactions > 0)
        do {
            if let failure { throw failure }
            try operation { try saveCounts() }
            let staged = try engine.commit(self, transactions: transactions)
            end()
            return staged
        } catch {
            rollback()
            throw error
        }
    }

    /// Ends the transaction; nothing has happened. Does nothing when it has ended already.
    public func rollback() {
        guard isOpen else { return }
        writes.discard()
        end()
    }

    private func end() {
        isOpen = false
        cache.readers.release(reader)
        engine.transactionEnded()
    }

    // MARK: Trees

    private func open(_ name: String, creating: Bool) throws(EngineError) -> Int? {
        if lastTree < openTrees.count, openTrees[lastTree].name == name { return lastTree }
        if let index = openTrees.firstIndex(where: { $0.name == name }) {
            lastTree = index
            return index
        }
        let result: Result<OpenTree?, EngineError> = withNameBytes(name) { bytes in
            do throws(EngineError) {
                if let tree = try TreeCatalog.find(bytes, in: self) {
                    return .success(OpenTree(name: name, tree: tree, savedCount: tree.count))
                }
                guard creating else { return .success(nil) }
                let tree = try TreeCatalog.create(bytes, in: self)
                return .success(OpenTree(name: name, tree: tree, savedCount: nil))
            } catch { return .failure(error) }
        }
        guard let opened = try result.get() else { return nil }
        openTrees.append(opened)
        lastTree = openTrees.count - 1
        return lastTree
    }

    private func saveCounts() throws(EngineError) {
        for index in openTrees.indices where openTrees[index].savedCount != openTrees[index].tree.count {
            let tree = openTrees[index].tree
            let result: Result<Void, EngineError> = withNameBytes(openTrees[index].name) { bytes in
                do throws(EngineError) {
                    return .success(try TreeCatalog.save(tree, as: bytes, in: self))
                } catch { return .failure(error) }
            }
            try result.get()
            openTrees[index].savedCount = tree.count
        }
    }

    @inline(__always) private func operation<R>(_ body: () throws -> R) throws -> R {
        precondition(isOpen, "the transaction has ended")
        cache.readers.enter(reader)
        defer { cache.readers.leave(reader) }
        return try body()
    }

    /// An operation that, when it fails, leaves the trees in the middle of a change.
    @inline(__always) private func change<R>(_ body: () throws -> R) throws -> R {
        if let failure { throw failure }
        do {
            return try operation(body)
        } catch let error as EngineError {
            failure = error
            throw error
        }
    }

    // MARK: Pages

    @inline(__always) package func page(_ n: PageNumber) throws(EngineError) -> UnsafeRawPointer {
        let own = writes.own[n]
        if own != 0 { return UnsafeRawPointer(cache.frames.address(own)) }
        return UnsafeRawPointer(cache.frames.address(try cache.newest(n)))
    }

    package func releasePages() { cache.readers.refresh(reader) }

    @inline(__always) package func modify(_ n: PageNumber) throws(EngineError) -> UnsafeMutableRawPointer {
        try writes.modify(n)
    }

    package func create(_ n: PageNumber) throws(EngineError) -> UnsafeMutableRawPointer {
        try writes.create(n, mayBeSeen: n.rawValue < firstFreshPage && !planted(.reuseFreedPage))
    }
}

/// Pages in their newest version, for whoever is alone with it: a transaction's beginning.
struct NewestView: PageReader {
    let cache: PageCache
    func page(_ n: PageNumber) throws(EngineError) -> UnsafeRawPointer {
        UnsafeRawPointer(cache.frames.address(try cache.newest(n)))
    }
}

/// What `Transaction.stage` gives.
public struct StagedCommit: Sendable, Equatable {
    /// Flush through here before anyone is told. For a transaction that changed nothing: what it saw.
    public var end: LSN
    /// `nil` when nothing was changed.
    public var transactions: ClosedRange<TransactionID>?
}
