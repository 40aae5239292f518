import Glibc
import HoldfastCore

extension Tree {
    /// Pages that use less than this are merged with a neighbour, if there is one that has room.
    private static let sparseBytes = Node.capacity / 4
    /// Two pages are merged only if this is enough for both: the next insert must not split them again.
    private static let mergedBytes = Node.capacity * 7 / 8

    /// Removes a record, and gives back the pages that it leaves empty.
    /// - Returns: whether there was one.
    package mutating func delete(
        _ key: UnsafeRawBufferPointer, in editor: some PageEditor
    ) throws(EngineError) -> Bool {
        let key = Bytes(key)
        var path = Path()
        let number = try descend(to: key, in: editor, &path)
        let (slot, found) = try Node(reading: editor.page(number), number).search(key, number)
        guard found else { return false }
        let node = try Node(editing: number, editor)
        let cell = try node.cell(slot, number)
        if cell.isOverflow { _ = try OverflowChain(cell, number).free(editor) }
        try node.remove(slot, number)
        guard count > 0 else { throw damaged(root, "the tree holds more records than its count says") }
        count -= 1
        try shrink(number, &path, editor)
        return true
    }

    /// Removes or merges a page that has become sparse, and so on up to the root.
    private func shrink(_ sparse: PageNumber, _ path: inout Path, _ editor: some PageEditor) throws(EngineError) {
        var number = sparse
        while path.depth > 0 {
            let node = try Node(reading: editor.page(number), number)
            guard node.usedBytes < Self.sparseBytes else { return }
            path.depth -= 1
            let parentNumber = PageNumber(path.pages[path.depth])
            let index = Int(path.children[path.depth])
            let parent = try Node(editing: parentNumber, editor)
            if node.isLeaf, node.count == 0 {
                try unlink(number, editor)
                try PageSpace.free(number, editor)
                if parent.count > 0 {
                    try parent.removeChild(index, parentNumber)
                } else {
                    try removeChildless(parentNumber, &path, editor)
                    return
                }
            } else {
                guard try merge(index, of: parent, parentNumber, editor) else { return }
            }
            number = parentNumber
        }
        try collapseRoot(editor)
    }

    /// A branch whose only child is gone goes too, and so do its ancestors that had no other. What is above may
    /// have become sparse by that.
    private func removeChildless(
        _ branch: PageNumber, _ path: inout Path, _ editor: some PageEditor
    ) throws(EngineError) {
        var number = branch
        while path.depth > 0 {
            try PageSpace.free(number, editor)
            path.depth -= 1
            number = PageNumber(path.pages[path.depth])
            let parent = try Node(editing: number, editor)
            if parent.count > 0 {
                try parent.removeChild(Int(path.children[path.depth]), number)
                return try shrink(number, &path, editor)
            }
        }
        Node(try editor.modify(root)).clear(level: 0)
    }

    /// Merges child `index` of `parent` with the neighbour on its right, or else on its left.
    /// - Returns: false when neither has room; then nothing has changed.
    private func merge(
        _ index: Int, of parent: Node, _ parentNumber: PageNumber, _ editor: some PageEditor
    ) throws(EngineError) -> Bool {
        if index < parent.count, try mergePair(index, of: parent, parentNumber, editor) { return true }
        if index > 0 { return try mergePair(index - 1, of: parent, parentNumber, editor) }
        return false
    }

    /// Merges children `index` and `index + 1` of `parent` into the first, if they fit.
    private func mergePair(
        _ index: Int, of parent: Node, _ parentNumber: PageNumber, _ editor: some PageEditor
    ) throws(EngineError) -> Bool {
        let (left, leftNumber) = try Self.open(index, of: parent, parentNumber, editor)
        let (right, rightNumber) = try Self.open(index + 1, of: parent, parentNumber, editor)
        guard leftNumber != rightNumber else { throw damaged(parentNumber, "it has the same child twice") }
        guard left.usedBytes + right.usedBytes <= Self.mergedBytes else { return false }
        var entries = try NodeEntries(left, leftNumber, and: right, rightNumber, extra: Limits.keyBytes + 8)
        try entries.append(left, leftNumber, slots: 0..<left.count)
        if !left.isLeaf {
            try appendSeparator(index, of: parent, parentNumber, child: right.firstChild, to: &entries)
        }
        try entries.append(right, rightNumber, slots: 0..<right.count)
        let all = 0..<entries.count
        guard entries.bytes(all) <= Self.mergedBytes else { return false }
        let level = left.level
        entries.write(all, to: try Node(editing: leftNumber, editor), level: level)
        if level == 0 { try unlink(rightNumber, editor) }
        try PageSpace.free(rightNumber, editor)
        try parent.removeChild(index + 1, parentNumber)
        return true
    }

    /// The separator between two branches comes down between their records.
    private func appendSeparator(
        _ slot: Int, of parent: Node, _ number: PageNumber, child: PageNumber, to entries: inout NodeEntries
    ) throws(EngineError) {
        let key = UnsafeMutableRawPointer.allocate(byteCount: Limits.keyBytes + 16, alignment: 16)
        defer { key.deallocate() }
        let length = try parent.copyKey(slot, of: number, to: key)
        let payload = key + (Limits.keyBytes + 8)
        payload.storeBytes(of: child.rawValue, as: UInt32.self)
        entries.append(Bytes(key, length), Payload(Bytes(payload, 4)))
    }

    /// Takes a leaf out of the chain of siblings.
    private func unlink(_ number: PageNumber, _ editor: some PageEditor) throws(EngineError) {
        let node = try Node(reading: editor.page(number), number)
        let previous = node.previous, next = node.next
        if previous.rawValue != 0 {
            guard try Node(reading: editor.page(previous), previous).next == number else {
                throw damaged(previous, "its next leaf should be \(number)")
            }
            Node(try editor.modify(previous)).next = next
        }
        if next.rawValue != 0 {
            guard try Node(reading: editor.page(next), next).previous == number else {
                throw damaged(next, "its previous leaf should be \(number)")
            }
            Node(try editor.modify(next)).previous = previous
        }
    }

    /// A root with a single child takes the child's content in, and keeps its page number.
    private func collapseRoot(_ editor: some PageEditor) throws(EngineError) {
        while true {
            let node = try Node(reading: editor.page(root), root)
            guard !node.isLeaf, node.count == 0 else { return }
            let (_, childNumber) = try Self.open(0, of: node, root, editor)
            guard childNumber != root else { throw damaged(root, "it is its own child") }
            let target = try editor.modify(root), source = try editor.page(childNumber)
            // From the kind on: number, LSN and checksum are the page's own.
            memcpy(target + 16, source + 16, Page.bytes - 16)
            TouchedCells(target).all()
            try PageSpace.free(childNumber, editor)
        }
    }
}
