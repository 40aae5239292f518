import Glibc
import HoldfastCore

/// A B+tree of byte keys and byte values, over any page access.
///
/// Its root keeps its page number for life: a root that splits moves its records down, and one that is
/// left with a single child takes that child's place. So the catalog's record of a tree changes only in its count,
/// and a reader may keep a tree's root as long as the tree is not dropped.
///
/// An editor whose `put` or `delete` threw is in the middle of a change: roll its transaction back.
package struct Tree: Sendable, Equatable {
    /// Never used again, not even by a tree of the same name.
    package let id: UInt64
    package let root: PageNumber
    /// Records, exactly. `put` and `delete` keep it; `TreeCatalog.save` makes it part of the transaction.
    package internal(set) var count: UInt64

    package init(id: UInt64, root: PageNumber, count: UInt64) {
        self.id = id
        self.root = root
        self.count = count
    }

    /// The way from the root to a leaf, in fixed storage: pages, and which child was taken of each.
    struct Path {
        var pages = InlineArray<40, UInt32>(repeating: 0)
        var children = InlineArray<40, UInt16>(repeating: 0)
        var depth = 0

        @inline(__always) mutating func push(_ page: PageNumber, _ child: Int) {
            pages[depth] = page.rawValue
            children[depth] = UInt16(truncatingIfNeeded: child)
            depth += 1
        }
    }

    /// Finds a value without copying it.
    /// - Returns: nil when there is no such key. The value is borrowed: valid until the reader's operation ends.
    @inline(__always)
    package func find(_ key: UnsafeRawBufferPointer, in reader: some PageReader) throws(EngineError) -> StoredValue? {
        let key = Bytes(key)
        let (node, number) = try descend(to: key, in: reader)
        let (slot, found) = try node.search(key, number)
        guard found else { return nil }
        return try StoredValue(node.cell(slot, number), number)
    }

    /// Gives `body` the value of a key, or nil; a value in an overflow chain is assembled in a buffer first.
    /// The bytes are valid in `body` only.
    package func get<Result>(
        _ key: UnsafeRawBufferPointer, in reader: some PageReader,
        _ body: (UnsafeRawBufferPointer?) throws -> Result
    ) throws -> Result {
        guard let value = try find(key, in: reader) else { return try body(nil) }
        return try value.withBytes(in: reader, body)
    }

    /// Whether the key exists.
    package func contains(_ key: UnsafeRawBufferPointer, in reader: some PageReader) throws(EngineError) -> Bool {
        try find(key, in: reader) != nil
    }

    /// The leaf that covers `key`.
    @inline(__always)
    func descend(to key: Bytes, in reader: some PageReader) throws(EngineError) -> (Node, PageNumber) {
        var (node, number) = try openRoot(reader)
        while !node.isLeaf {
            let child = try node.childIndex(key, number)
            (node, number) = try Self.open(child, of: node, number, reader)
        }
        return (node, number)
    }

    @inline(__always) func openRoot(_ reader: some PageReader) throws(EngineError) -> (Node, PageNumber) {
        let pointer = try reader.page(root)
        Node.prefetch(pointer)
        return (try Node(reading: pointer, root), root)
    }

    /// A child, one level below its parent: no damage can lead in circles.
    @inline(__always) static func open(
        _ child: Int, of parent: Node, _ parentNumber: PageNumber, _ reader: some PageReader
    ) throws(EngineError) -> (Node, PageNumber) {
        let number = try parent.child(child, parentNumber), level = parent.level
        let pointer = try reader.page(number)
        Node.prefetch(pointer)
        let node = try Node(reading: pointer, number)
        guard node.level == level - 1 else {
            throw damaged(number, "it is at level \(node.level), and a child of one at \(level)")
        }
        return (node, number)
    }
}

/// A value where it is stored, borrowed from a page.
package struct StoredValue {
    let inline: UnsafeRawBufferPointer
    let chain: OverflowChain?

    @inline(__always) init(_ cell: Cell, _ number: PageNumber) throws(EngineError) {
        inline = UnsafeRawBufferPointer(start: cell.payload, count: cell.payloadLength)
        chain = cell.isOverflow ? try OverflowChain(cell, number) : nil
    }

    /// Bytes of the value.
    package var count: Int { chain?.length ?? inline.count }

    /// Gives `body` the whole value; one in an overflow chain is assembled in a buffer first.
    @inline(__always)
    package func withBytes<Result>(
        in reader: some PageReader, _ body: (UnsafeRawBufferPointer) throws -> Result
    ) throws -> Result {
        guard let chain else { return try body(inline) }
        // A damaged length must not cost memory that the pages themselves do not take.
        guard try chain.pages < Int(PageSpace.pageCount(reader)) else {
            throw damaged(chain.first, "a value of \(chain.length) bytes is larger than the page space")
        }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: chain.length, alignment: 16)
        defer { buffer.deallocate() }
        try chain.copy(from: 0, to: buffer, reader)
        return try body(UnsafeRawBufferPointer(buffer))
    }

    /// Copies the value's bytes from `offset` on to `buffer`, as many as there are and fit.
    /// - Returns: how many.
    package func copy(
        from offset: Int, to buffer: UnsafeMutableRawBufferPointer, in reader: some PageReader
    ) throws(EngineError) -> Int {
        let bytes = max(0, min(buffer.count, count - offset))
        guard offset >= 0, bytes > 0 else { return 0 }
        let target = UnsafeMutableRawBufferPointer(rebasing: buffer[0..<bytes])
        if let chain {
            try chain.copy(from: offset, to: target, reader)
        } else {
            target.copyMemory(from: UnsafeRawBufferPointer(rebasing: inline[offset..<offset + bytes]))
        }
        return bytes
    }
}
