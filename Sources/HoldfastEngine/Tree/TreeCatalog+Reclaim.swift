import HoldfastCore

extension TreeCatalog {
    /// Frees pages of dropped and cleared trees, at most `budgetPages` of them. Each call leaves a whole
    /// structure behind, so that its transaction may commit and a later one go on, after a crash too.
    /// - Returns: whether there is more to free.
    package static func reclaimSome(_ editor: some PageEditor, budgetPages: Int) throws(EngineError) -> Bool {
        var budget = budgetPages
        while let root = try nextDropped(editor) {
            guard budget > 0 else { return true }
            guard try reclaim(root, &budget, editor) else { continue }
            var catalog = tree
            _ = try withReclaimKey(root) { key throws(EngineError) in try catalog.delete(key, in: editor) }
        }
        return false
    }

    /// The root of a tree whose pages are to be freed.
    private static func nextDropped(_ reader: some PageReader) throws(EngineError) -> PageNumber? {
        var cursor = Cursor(tree)
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        let found = try withKey(dropped, none) { from throws(EngineError) in
            try cursor.seek(atOrAbove: from, in: reader)
        }
        return found ? try droppedRoot(cursor.key) : nil
    }

    /// The page in a record's key of the second kind.
    static func droppedRoot(_ key: UnsafeRawBufferPointer) throws(EngineError) -> PageNumber {
        guard key.count == 5, key[0] == dropped else {
            throw damaged(PageSpace.catalogRoot, "a catalog record of unknown kind")
        }
        return PageNumber(UInt32(bigEndian: key.loadUnaligned(fromByteOffset: 1, as: UInt32.self)))
    }

    /// Frees the last leaf below `root`, its chains first, and the branches that have no other child: the parents
    /// that stay lose their last slot and change in few bytes.
    /// - Returns: whether the root is freed too.
    private static func reclaim(
        _ root: PageNumber, _ budget: inout Int, _ editor: some PageEditor
    ) throws(EngineError) -> Bool {
        var path = Tree.Path()
        var (node, number) = try Tree(id: 0, root: root, count: 0).openRoot(editor)
        while !node.isLeaf {
            path.push(number, node.count)
            (node, number) = try Tree.open(node.count, of: node, number, editor)
        }
        if node.mayOverflow {
            guard try freeChains(number, &budget, editor) else { return false }
        }
        while true {
            // A page too many is allowed for: a branch goes with its last child, or it would be without any.
            try PageSpace.free(number, editor)
            budget -= 1
            guard path.depth > 0 else { return true }
            path.depth -= 1
            number = PageNumber(path.pages[path.depth])
            let parent = try Node(reading: editor.page(number), number)
            if parent.count > 0 {
                try Node(editing: number, editor).remove(parent.count - 1, number)
                return false
            }
        }
    }

    /// Frees the overflow chains of a leaf from its last record on, whose slots go with them.
    /// - Returns: false when the budget ended before the chains.
    private static func freeChains(
        _ number: PageNumber, _ budget: inout Int, _ editor: some PageEditor
    ) throws(EngineError) -> Bool {
        let node = try Node(editing: number, editor)
        while node.count > 0 {
            let slot = node.count - 1, cell = try node.cell(slot, number)
            if cell.isOverflow {
                let chain = try OverflowChain(cell, number)
                if let rest = try chain.free(editor, budget: max(0, budget)) {
                    let offset = cell.start - node.base
                    TouchedCells(node.base).note(offset, offset + cell.bytes)
                    cell.payload.storeBytes(of: rest.reference.0, as: UInt32.self)
                    cell.payload.storeBytes(of: rest.reference.1, toByteOffset: 4, as: UInt32.self)
                    budget = 0
                    return false
                }
                budget -= chain.pages
            }
            try node.remove(slot, number)
        }
        return budget > 0
    }
}
