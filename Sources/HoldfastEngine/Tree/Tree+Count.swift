import HoldfastCore

extension Tree {
    /// Counts the records at or above `from` and below `to` (nil: no bound), leaf by leaf and not record by
    /// record.
    package func count(
        in reader: some PageReader, from: UnsafeRawBufferPointer? = nil, to: UnsafeRawBufferPointer? = nil
    ) throws(EngineError) -> UInt64 {
        if from == nil, to == nil { return count }
        if let from, let to, Bytes(from).compare(Bytes(to)) >= 0 { return 0 }
        let lowest = UnsafeRawBufferPointer(start: nil, count: 0)
        let (startLeaf, startSlot) = try place(Bytes(from ?? lowest), reader)
        var end: (leaf: PageNumber, slot: Int)?
        if let to { end = try place(Bytes(to), reader) }
        var number = startLeaf, records = 0, skipped = startSlot
        while true {
            if let end, end.leaf == number { return UInt64(max(0, records + end.slot - skipped)) }
            let node = try Node(reading: reader.page(number), number)
            guard node.isLeaf, node.count > 0 || number == root else { throw damaged(number, "an empty leaf") }
            records += node.count - skipped
            skipped = 0
            // Every leaf adds records, so that siblings in a circle soon exceed the count.
            guard records <= count else { throw damaged(number, "the tree holds more records than its count says") }
            if node.next.rawValue == 0 { return UInt64(records) }
            number = node.next
            reader.willRead(number)
        }
    }

    /// Where the first record at or above `key` is, or would be.
    private func place(
        _ key: Bytes, _ reader: some PageReader
    ) throws(EngineError) -> (leaf: PageNumber, slot: Int) {
        let (node, number) = try descend(to: key, in: reader)
        return (number, try node.search(key, number).slot)
    }
}

extension Cursor {
    /// Goes to some record: every record can come up, but not all are equally likely, because pages are not
    /// equally full.
    /// - Returns: whether the tree has any.
    package mutating func seekRandom(
        in reader: some PageReader, using random: inout some RandomNumberGenerator
    ) throws(EngineError) -> Bool {
        var (node, number) = try tree.openRoot(reader)
        while !node.isLeaf {
            (node, number) = try Tree.open(
                Int.random(in: 0...node.count, using: &random), of: node, number, reader)
        }
        if node.count == 0 { return false }
        return try settle(
            node, number, Int.random(in: 0..<node.count, using: &random), forward: true, crossing: false, reader)
    }
}
