import HoldfastCore

/// What a walk through one tree carries along.
struct TreeWalk {
    /// The root catalog: its records are read too.
    var catalog = false
    /// Pages still to be freed: order, siblings and dead bytes are not kept up any more.
    var isDropped = false
    var records: UInt64 = 0
    var lastLeaf = PageNumber(0)
    /// What the last leaf says of its successor.
    var expectedNext: PageNumber?
    var trees: [Tree] = []
    var dropped: [PageNumber] = []
}

extension StructureCheck {
    mutating func check(_ root: PageNumber, from referrer: PageNumber, _ walk: inout TreeWalk) throws(EngineError) {
        try check(root, from: referrer, level: nil, low: [], high: nil, &walk)
        if !walk.isDropped, let next = walk.expectedNext, next.rawValue != 0 {
            report(walk.lastLeaf, "it is the last leaf, and names \(next) as the next")
        }
    }

    /// A page and all below it, whose keys must lie at or above `low` and below `high`.
    private mutating func check(
        _ number: PageNumber, from referrer: PageNumber, level: Int?, low: [UInt8], high: [UInt8]?,
        _ walk: inout TreeWalk
    ) throws(EngineError) {
        guard reach(number, from: referrer) else { return }
        var children: [(page: PageNumber, low: [UInt8], high: [UInt8]?)] = []
        var childLevel = 0
        do throws(EngineError) {
            let node = try Node(reading: reader.page(number), number)
            checkIdentity(node.page, number)
            guard level == nil || node.level == level else {
                return report(number, "it is at level \(node.level), where level \(level ?? 0) should be")
            }
            let keys = try checkedKeys(node, number, low: low, high: high, walk)
            if node.isLeaf {
                try checkLeaf(node, number, isRoot: level == nil, keys: keys, &walk)
            } else {
                childLevel = node.level - 1
                if node.next.rawValue != 0 || node.previous.rawValue != 0 { report(number, "a branch has siblings") }
                for index in 0...node.count {
                    children.append(
                        (
                            try node.child(index, number), index == 0 ? low : keys[index - 1],
                            index == node.count ? high : keys[index]
                        ))
                }
            }
        } catch { try report(error, number) }
        for child in children {
            try check(child.page, from: number, level: childLevel, low: child.low, high: child.high, &walk)
        }
    }

    /// The keys of a page, whose order, bounds, heads and cells are checked.
    private mutating func checkedKeys(
        _ node: Node, _ number: PageNumber, low: [UInt8], high: [UInt8]?, _ walk: TreeWalk
    ) throws(EngineError) -> [[UInt8]] {
        var keys: [[UInt8]] = []
        keys.reserveCapacity(node.count)
        var cells: [Range<Int>] = []
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Limits.keyBytes + 8, alignment: 16)
        defer { buffer.deallocate() }
        for slot in 0..<node.count {
            let cell = try node.cell(slot, number), offset = node.cellOffset(slot)
            cells.append(offset..<offset + cell.bytes)
            if cell.suffixLength < Node.headBytes, node.head(slot) << UInt32(8 * cell.suffixLength) != 0 {
                report(number, "the head of slot \(slot) is longer than its key")
            }
            let length = try node.copyKey(slot, of: number, to: buffer.baseAddress.unsafelyUnwrapped)
            keys.append([UInt8](buffer[0..<length]))
            if slot > 0, !keys[slot - 1].lexicographicallyPrecedes(keys[slot]) {
                report(number, "slots \(slot - 1) and \(slot) are out of order")
            }
        }
        if let first = keys.first, first.lexicographicallyPrecedes(low) {
            report(number, "its first key is below what its parent says")
        }
        if let last = keys.last, let high, !last.lexicographicallyPrecedes(high) {
            report(number, "its last key is not below its parent's next separator")
        }
        cells.sort { $0.lowerBound < $1.lowerBound }
        for index in cells.indices.dropFirst() where cells[index].lowerBound < cells[index - 1].upperBound {
            report(number, "two cells overlap")
        }
        let living = cells.reduce(0) { $0 + $1.count }
        if !walk.isDropped, living + node.deadBytes + node.prefixLength != Page.bytes - node.page.upper {
            report(number, "\(node.deadBytes) dead bytes do not make up the rest of its cells")
        }
        return keys
    }

    private mutating func checkLeaf(
        _ node: Node, _ number: PageNumber, isRoot: Bool, keys: [[UInt8]], _ walk: inout TreeWalk
    ) throws(EngineError) {
        walk.records += UInt64(node.count)
        if !walk.isDropped {
            if node.count == 0, !isRoot { report(number, "an empty leaf is not the root") }
            if node.firstChild.rawValue != 0 { report(number, "a leaf has a first child") }
            if node.previous != walk.lastLeaf {
                report(number, "it names \(node.previous) as the previous leaf, which is \(walk.lastLeaf)")
            }
            if let expected = walk.expectedNext, expected != number {
                report(walk.lastLeaf, "it names \(expected) as the next leaf, which is \(number)")
            }
        }
        (walk.lastLeaf, walk.expectedNext) = (number, node.next)
        var chains: [OverflowChain] = []
        for slot in 0..<node.count {
            let cell = try node.cell(slot, number)
            if cell.isOverflow {
                if !node.mayOverflow { report(number, "its flags deny the overflow chain of slot \(slot)") }
                chains.append(try OverflowChain(cell, number))
            }
            if walk.catalog { try checkCatalogRecord(keys[slot], try StoredValue(cell, number), &walk) }
        }
        for chain in chains { try check(chain, from: number) }
    }

    private mutating func check(_ chain: OverflowChain, from leaf: PageNumber) throws(EngineError) {
        var number = chain.first, referrer = leaf, left = chain.length
        do throws(EngineError) {
            while left > 0, reach(number, from: referrer) {
                let bytes = min(OverflowChain.pageBytes, left)
                checkIdentity(Page(reading: try reader.page(number)), number)
                let next = try OverflowChain.read(number, expecting: bytes, reader).next
                left -= bytes
                if left == 0, next.rawValue != 0 { report(number, "it is the last of its chain, and names \(next)") }
                (referrer, number) = (number, next)
            }
        } catch { try report(error, number) }
    }

    private mutating func checkCatalogRecord(
        _ key: [UInt8], _ value: StoredValue, _ walk: inout TreeWalk
    ) throws(EngineError) {
        switch key.first {
        case TreeCatalog.named: walk.trees.append(try TreeCatalog.decode(value))
        case TreeCatalog.dropped where key.count == 5:
            walk.dropped.append(PageNumber(key.dropFirst().reduce(0) { $0 << 8 | UInt32($1) }))
        default: report(PageSpace.catalogRoot, "a catalog record of unknown kind")
        }
    }
}
