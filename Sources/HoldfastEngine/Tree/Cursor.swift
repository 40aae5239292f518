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
        buffer = UnsafeMutableRawPointer.allocate(byteCount: Limits.keyBytes + 8, alignment: 16)
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
        value = try StoredValue(node.cell(slot, number), number)
        keyLength = try node.copyKey(slot, of: number, to: buffer)
        (leaf, self.slot) = (number, slot)
        return true
    }

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
        if reverse {
            var found =
                try to.map { try cursor.seek(below: $0, orAt: false, in: reader) } ?? cursor.seekLast(in: reader)
            while found {
                if let from, Bytes(cursor.key).compare(Bytes(from)) < 0 { return }
                guard try body(cursor.key, cursor.value) else { return }
                found = try cursor.previous(in: reader)
            }
        } else {
            var found = try from.map { try cursor.seek(atOrAbove: $0, in: reader) } ?? cursor.seekFirst(in: reader)
            while found {
                if let to, Bytes(cursor.key).compare(Bytes(to)) >= 0 { return }
                guard try body(cursor.key, cursor.value) else { return }
                found = try cursor.next(in: reader)
            }
        }
    }
}
