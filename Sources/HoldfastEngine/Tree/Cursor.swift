import Glibc
import HoldfastCore

/// A place in a tree that moves both ways. It owns a buffer in which it puts the current key together, and
/// nothing of the tree: each step reads its page again. It is good for one version of the tree; after a change
/// of the tree, seek again.
package struct Cursor: ~Copyable {
    let tree: Tree
    private let buffer: UnsafeMutableRawPointer
    private var keyLength = 0
    private var leaf = PageNumber(0)
    private var slot = 0
    /// The current value, borrowed from its page until the next step.
    package private(set) var value: StoredValue

    package init(_ tree: Tree) {
        self.tree = tree
        buffer = UnsafeMutableRawPointer.allocate(byteCount: Limits.keyBytes + Node.copySlack, alignment: 16)
        value = StoredValue.none
    }

    deinit { buffer.deallocate() }

    /// The current key, valid until the next step. Empty before the first successful seek.
    package var key: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: buffer, count: keyLength) }

    /// Goes to the first record at or above `key`.
    /// - Returns: whether there is one.
    package mutating func seek(
        atOrAbove key: UnsafeRawBufferPointer, in reader: some PageReader
    ) throws(EngineError) -> Bool {
        let key = Bytes(key)
        let (node, number) = try tree.descend(to: key, in: reader)
        let slot = try node.search(key, number).slot
        return try settle(node, number, slot, forward: true, crossing: false, reader)
    }

    /// Goes to the last record below `key`, or at it if `orAt`.
    package mutating func seek(
        below key: UnsafeRawBufferPointer, orAt: Bool, in reader: some PageReader
    ) throws(EngineError) -> Bool {
        let key = Bytes(key)
        let (node, number) = try tree.descend(to: key, in: reader)
        let (slot, found) = try node.search(key, number)
        return try settle(node, number, found && orAt ? slot : slot - 1, forward: false, crossing: false, reader)
    }

    /// Goes to the least record.
    package mutating func seekFirst(in reader: some PageReader) throws(EngineError) -> Bool {
        try seek(atOrAbove: UnsafeRawBufferPointer(start: nil, count: 0), in: reader)
    }

    /// Goes to the greatest record.
    package mutating func seekLast(in reader: some PageReader) throws(EngineError) -> Bool {
        var (node, number) = try tree.openRoot(reader)
        while !node.isLeaf { (node, number) = try Tree.open(node.count, of: node, number, reader) }
        return try settle(node, number, node.count - 1, forward: false, crossing: false, reader)
    }

    /// Goes to the next greater record. After a successful seek only.
    package mutating func next(in reader: some PageReader) throws(EngineError) -> Bool {
        let node = try Node(reading: reader.page(leaf), leaf)
        return try settle(node, leaf, slot + 1, forward: true, crossing: true, reader)
    }

    /// Goes to the next lesser record. After a successful seek only.
    package mutating func previous(in reader: some PageReader) throws(EngineError) -> Bool {
        let node = try Node(reading: reader.page(leaf), leaf)
        return try settle(node, leaf, slot - 1, forward: false, crossing: true, reader)
    }

    /// Takes the record at `slot`, which may be one past either end: then the sibling's nearest.
    /// With `crossing` the current key is known, and a sibling's keys must lie beyond it: siblings that lead in
    /// circles are found out, since a leaf's first key must also be below its last.
    mutating func settle(
        _ start: Node, _ startNumber: PageNumber, _ startSlot: Int, forward: Bool, crossing: Bool,
        _ reader: some PageReader
    ) throws(EngineError) -> Bool {
        var node = start, number = startNumber, slot = startSlot
        guard node.isLeaf else { throw damaged(number, "it is no leaf") }
        if slot < 0 || slot >= node.count {
            if node.count > 0 { try checkOrder(node, number) }
            let sibling = forward ? node.next : node.previous
            if sibling.rawValue == 0 { return false }
            let known = crossing && node.count > 0
            let isEmpty = node.count == 0
            node = try Node(reading: reader.page(sibling), sibling)
            guard node.isLeaf, node.count > 0, !isEmpty, (forward ? node.previous : node.next) == number else {
                throw damaged(sibling, "it is no sibling of leaf \(number)")
            }
            number = sibling
            try checkOrder(node, number)
            slot = forward ? 0 : node.count - 1
            if known {
                let position = try node.search(Bytes(buffer, keyLength), number)
                guard !position.found, position.slot == (forward ? 0 : node.count) else {
                    throw damaged(number, "its keys overlap its sibling's")
                }
            }
            let after = forward ? node.next : node.previous
            if after.rawValue != 0 { reader.willRead(after) }
        }
        let cell = try node.cell(slot, number)
        value = try StoredValue(cell, number)
        node.copyPrefix(to: buffer)
        keyLength = node.copySuffix(slot, cell, to: buffer)
        (leaf, self.slot) = (number, slot)
        return true
    }

    // MARK: Within a leaf

    /// The leaf of the current record, borrowed as its value is.
    @inline(__always) func borrowLeaf(in reader: some PageReader) throws(EngineError) -> Node {
        try Node(reading: reader.page(leaf), leaf)
    }

    /// Goes to the neighbour in the same leaf, which `borrowLeaf` gave and nobody has released since.
    /// - Returns: whether there is one; if not, nothing has changed.
    @inline(__always) mutating func step(in node: Node, forward: Bool) throws(EngineError) -> Bool {
        let next = forward ? slot &+ 1 : slot &- 1
        guard next >= 0, next < node.count else { return false }
        node.prefetchCell(forward ? next &+ Self.cellsAhead : next &- Self.cellsAhead)
        let cell = try node.cell(next, leaf)
        value = try StoredValue(cell, leaf)
        // The buffer holds a key of this page: the prefix stays.
        keyLength = node.copySuffix(next, cell, to: buffer)
        slot = next
        return true
    }

    /// Cells lie in no order, so that no hardware guesses the next; so many steps cover a miss of memory.
    private static var cellsAhead: Int { 6 }

    private func checkOrder(_ node: Node, _ number: PageNumber) throws(EngineError) {
        guard try node.isOrdered(0, node.count - 1, number) else { throw damaged(number, "its keys are out of order") }
    }
}

extension StoredValue {
    static var none: StoredValue { StoredValue() }

    private init() {
        inline = UnsafeRawBufferPointer(start: nil, count: 0)
        chain = nil
    }
}

extension Tree {
    /// Calls `body` with each record at or above `from` and below `to` (nil: no bound), in order or in reverse
    /// order, until it returns false. The bytes are borrowed until `body` returns.
    package func scan(
        in reader: some PageReader, from: UnsafeRawBufferPointer? = nil, to: UnsafeRawBufferPointer? = nil,
        reverse: Bool = false, _ body: (_ key: UnsafeRawBufferPointer, _ value: StoredValue) throws -> Bool
    ) throws {
        var cursor = Cursor(self)
        let from = from.map { Bytes($0) }, to = to.map { Bytes($0) }
        var found: Bool
        if reverse {
            found =
                try to.map { try cursor.seek(below: $0.buffer, orAt: false, in: reader) } ?? cursor.seekLast(in: reader)
        } else {
            found = try from.map { try cursor.seek(atOrAbove: $0.buffer, in: reader) } ?? cursor.seekFirst(in: reader)
        }
        while found {
            let leaf = try cursor.borrowLeaf(in: reader)
            var borrowed = 0
            while true {
                let key = Bytes(cursor.key)
                if reverse {
                    if let from, key.compare(from) < 0 { return }
                } else {
                    if let to, key.compare(to) >= 0 { return }
                }
                guard try body(cursor.key, cursor.value) else { return }
                borrowed &+= 1
                // The pages of a chain are many: they are let go of before the next record.
                guard borrowed < Self.borrowedAtMost, cursor.value.chain == nil,
                    try cursor.step(in: leaf, forward: !reverse)
                else { break }
            }
            reader.releasePages()
            found = try reverse ? cursor.previous(in: reader) : cursor.next(in: reader)
        }
    }

    /// Records that a scan passes before memory that it looks at may be reused.
    private static var borrowedAtMost: Int { 64 }
}
