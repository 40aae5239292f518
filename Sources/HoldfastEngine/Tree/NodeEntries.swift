import Glibc
import HoldfastCore

/// The records of one or two pages taken out in order, with whole keys, to be laid out again: how pages are
/// compacted, split and merged. Owns copies of everything, so that the pages may be overwritten.
struct NodeEntries: ~Copyable {
    struct Entry {
        var key: UnsafeRawPointer
        var keyLength: Int
        var payload: UnsafeRawPointer
        var payloadLength: Int
        var isOverflow: Bool

        var keyBytes: Bytes { Bytes(key, keyLength) }
        var payloadBytes: Payload { Payload(Bytes(payload, payloadLength), isOverflow: isOverflow) }
    }

    private let storage: UnsafeMutableRawPointer
    private let entries: UnsafeMutablePointer<Entry>
    private var free: UnsafeMutableRawPointer
    private(set) var count = 0

    /// Room for all records of `first` and `second` and one more with this key and payload.
    init(
        _ first: Node, _ firstNumber: PageNumber, and second: Node? = nil, _ secondNumber: PageNumber = PageNumber(0),
        extra: Int = 0
    ) throws(EngineError) {
        var bytes = extra + 2 * Node.headBytes, records = first.count + (second?.count ?? 0) + 1
        bytes += try Self.bytes(first, firstNumber)
        if let second { bytes += try Self.bytes(second, secondNumber) }
        records *= MemoryLayout<Entry>.stride
        storage = UnsafeMutableRawPointer.allocate(byteCount: records + bytes, alignment: 16)
        entries = storage.bindMemory(to: Entry.self, capacity: records / MemoryLayout<Entry>.stride)
        free = storage + records
    }

    deinit { storage.deallocate() }

    /// Counted cell by cell: in a damaged page cells may overlap and amount to more than a page.
    private static func bytes(_ node: Node, _ number: PageNumber) throws(EngineError) -> Int {
        var bytes = 0
        for slot in 0..<node.count {
            bytes += try node.cell(slot, number).bytes + node.prefixLength + Node.headBytes
        }
        return bytes
    }

    subscript(_ index: Int) -> Entry { entries[index] }

    /// Appends the records of `slots` of a page that was given to `init`.
    mutating func append(_ node: Node, _ number: PageNumber, slots: Range<Int>) throws(EngineError) {
        for slot in slots {
            let cell = try node.cell(slot, number)
            let key = free
            let length = try node.copyKey(slot, of: number, to: key)
            let payload = key + length
            memcpy(payload, cell.payload, cell.payloadLength)
            free = payload + cell.payloadLength
            entries[count] = Entry(
                key: UnsafeRawPointer(key), keyLength: length, payload: UnsafeRawPointer(payload),
                payloadLength: cell.payloadLength, isOverflow: cell.isOverflow)
            count += 1
        }
    }

    /// Appends the one extra record, whose key and payload were counted as `extra`.
    mutating func append(_ key: Bytes, _ payload: Payload) {
        let place = free
        memcpy(place, key.bytes, key.count)
        memcpy(place + key.count, payload.bytes, payload.count)
        free = place + key.count + payload.count
        entries[count] = Entry(
            key: UnsafeRawPointer(place), keyLength: key.count, payload: UnsafeRawPointer(place + key.count),
            payloadLength: payload.count, isOverflow: payload.isOverflow)
        count += 1
    }

    /// One key has nothing in common with others; a prefix of its own would only be broken by the next.
    private func prefixLength(_ range: Range<Int>) -> Int {
        if range.count < 2 { return 0 }
        return entries[range.lowerBound].keyBytes.commonPrefix(entries[range.upperBound - 1].keyBytes)
    }

    /// What a page of these records would use of `Node.capacity`.
    func bytes(_ range: Range<Int>) -> Int {
        let prefixLength = prefixLength(range)
        var bytes = prefixLength
        for index in range {
            let entry = entries[index]
            bytes += Node.cellBytes(suffix: entry.keyLength - prefixLength, payload: entry.payloadLength)
        }
        return bytes
    }

    /// Lays the records out in `node`, which keeps its links, first child and page header.
    /// `bytes(range)` must be at most `Node.capacity`.
    func write(_ range: Range<Int>, to node: Node, level: Int) {
        precondition(bytes(range) <= Node.capacity)
        let links = (node.previous, node.next, node.firstChild)
        node.clear(level: level)
        TouchedCells(node.base).all()
        (node.previous, node.next, node.firstChild) = links
        let prefixLength = prefixLength(range)
        var upper = Page.bytes - prefixLength
        if prefixLength > 0 { memcpy(node.base + upper, entries[range.lowerBound].key, prefixLength) }
        var mayOverflow = false
        for (slot, index) in range.enumerated() {
            let entry = entries[index]
            let suffix = entry.key + prefixLength, length = entry.keyLength - prefixLength
            upper -= Node.cellBytes(suffix: length, payload: entry.payloadLength) - Node.slotBytes
            Cell(node.base + upper).write(suffix: suffix, length: length, payload: entry.payloadBytes)
            node.setSlot(slot, head: Node.head(suffix, length), cellOffset: upper)
            mayOverflow = mayOverflow || entry.isOverflow
        }
        node.prefixLength = prefixLength
        node.count = range.count
        node.page.upper = upper
        if mayOverflow { node.page.flags |= Node.mayOverflowFlag }
    }

    /// Where to split: the left page gets `0 ..< k`. The right one gets the rest, for a branch without entry
    /// `k` itself, whose key moves up. As even as possible, unless `appending`: then the last record starts a
    /// new page, so that ordered loads fill theirs.
    /// - Returns: nil when no split fits, which only a damaged page can bring about.
    func splitPoint(isLeaf: Bool, appending: Bool) -> Int? {
        let gap = isLeaf ? 0 : 1
        func fits(_ k: Int) -> Bool {
            k >= 1 && k + gap < count && bytes(0..<k) <= Node.capacity && bytes(k + gap..<count) <= Node.capacity
        }
        if appending, fits(count - 1 - gap) { return count - 1 - gap }
        var total = 0
        for index in 0..<count { total += entries[index].keyLength + entries[index].payloadLength + 12 }
        var sum = 0, middle = 0
        while middle < count, sum < total / 2 {
            sum += entries[middle].keyLength + entries[middle].payloadLength + 12
            middle += 1
        }
        for distance in 0...count {
            if fits(middle - distance) { return middle - distance }
            if fits(middle + distance) { return middle + distance }
        }
        return nil
    }

    /// The shortest key that is above entry `index - 1` and not above entry `index`: the length of that prefix
    /// of entry `index`.
    func separatorLength(before index: Int) -> Int {
        entries[index - 1].keyBytes.commonPrefix(entries[index].keyBytes) + 1
    }
}
