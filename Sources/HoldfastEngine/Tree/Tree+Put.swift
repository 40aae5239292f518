import HoldfastCore

extension Tree {
    /// Stores a record. Key and value must not lie in the editor's pages.
    /// - Returns: whether the key is new.
    package mutating func put(
        _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, in editor: some PageEditor
    ) throws(EngineError) -> Bool {
        guard key.count <= Limits.keyBytes else { throw .keyTooLong(key.count) }
        guard value.count <= Limits.valueBytes else { throw .valueTooLong(value.count) }
        let key = Bytes(key), value = Bytes(value)
        if Node.cellBytes(suffix: key.count, payload: value.count) <= Node.largestCell {
            return try put(key, Payload(value), editor)
        }
        var reference = try OverflowChain.write(value, editor).reference
        var result: Swift.Result<Bool, EngineError> = .success(false)
        withUnsafeBytes(of: &reference) { bytes in
            do throws(EngineError) {
                result = .success(try put(key, Payload(Bytes(bytes), isOverflow: true), editor))
            } catch { result = .failure(error) }
        }
        return try result.get()
    }

    private mutating func put(_ key: Bytes, _ payload: Payload, _ editor: some PageEditor) throws(EngineError) -> Bool {
        var path = Path()
        let number = try descend(to: key, in: editor, &path)
        let node = try Node(editing: number, editor)
        let (slot, found) = try node.search(key, number)
        if found {
            let old = try node.cell(slot, number)
            if old.isOverflow { _ = try OverflowChain(old, number).free(editor) }
            if try node.replace(key, payload, at: slot, number) { return false }
        } else {
            count += 1
            if node.insert(key, payload, at: slot) { return true }
        }
        let appending = !found && slot == node.count && node.next.rawValue == 0
        try spill(
            Record(key: key, payload: payload, slot: slot, replaces: found), to: number, &path, appending, editor)
        return !found
    }

    /// Like `descend(to:in:)`, and remembers the way.
    @inline(__always) func descend(
        to key: Bytes, in reader: some PageReader, _ path: inout Path
    ) throws(EngineError) -> PageNumber {
        var (node, number) = try openRoot(reader)
        while !node.isLeaf {
            let child = try node.childIndex(key, number)
            path.push(number, child)
            (node, number) = try Self.open(child, of: node, number, reader)
        }
        return number
    }

    private struct Record {
        var key: Bytes
        var payload: Payload
        var slot: Int
        var replaces: Bool
    }

    /// Below this much room after it, laying a page out again would soon be repeated: split instead.
    private static let compactionRoom = 128

    /// Stores a record in a page that has no room in its hole or whose prefix the key does not share:
    /// lays the page out again, or splits it and goes on with the separator in its parent.
    private func spill(
        _ record: Record, to number: PageNumber, _ path: inout Path, _ appending: Bool, _ editor: some PageEditor
    ) throws(EngineError) {
        let separator = UnsafeMutableRawPointer.allocate(byteCount: Limits.keyBytes + 16, alignment: 16)
        defer { separator.deallocate() }
        let childBytes = separator + Limits.keyBytes
        var record = record, number = number, appending = appending
        while true {
            let node = try Node(editing: number, editor)
            let entries = try gather(record, node, number)
            let level = node.level, all = 0..<entries.count
            let bytes = entries.bytes(all)
            if bytes + (entries.count > 2 ? Self.compactionRoom : 0) <= Node.capacity {
                return entries.write(all, to: node, level: level)
            }
            guard let middle = entries.splitPoint(isLeaf: level == 0, appending: appending) else {
                if bytes <= Node.capacity { return entries.write(all, to: node, level: level) }
                throw damaged(number, "it cannot be split")
            }
            let entry = entries[middle]
            let length = level == 0 ? entries.separatorLength(before: middle) : entry.keyLength
            separator.copyMemory(from: entry.key, byteCount: length)
            let isRoot = path.depth == 0
            // An ordered load leaves the left page as it is.
            let keepsLeft = !isRoot && level == 0 && appending && middle == entries.count - 1
            let right = try split(
                entries, at: middle, number, level: level, isRoot: isRoot, keepsLeft: keepsLeft, editor)
            childBytes.storeBytes(of: right.rawValue, as: UInt32.self)
            let key = Bytes(separator, length), payload = Payload(Bytes(childBytes, 4))
            if isRoot {
                let added = node.insert(key, payload, at: 0)
                precondition(added, "an empty root has room for any separator")
                return
            }
            path.depth -= 1
            number = PageNumber(path.pages[path.depth])
            let slot = Int(path.children[path.depth])
            let parent = try Node(editing: number, editor)
            guard slot <= parent.count, parent.level == level + 1 else { throw damaged(number, "it has changed") }
            if parent.insert(key, payload, at: slot) { return }
            appending = appending && slot == parent.count
            record = Record(key: key, payload: payload, slot: slot, replaces: false)
        }
    }

    private func gather(_ record: Record, _ node: Node, _ number: PageNumber) throws(EngineError) -> NodeEntries {
        var entries = try NodeEntries(node, number, extra: record.key.count + record.payload.count)
        try entries.append(node, number, slots: 0..<record.slot)
        entries.append(record.key, record.payload)
        try entries.append(node, number, slots: record.slot + (record.replaces ? 1 : 0)..<node.count)
        return entries
    }

    /// Divides `entries` between page `number` and a new page to its right. The root moves both halves to new
    /// pages and becomes a branch with the left one as its first child, without a separator yet.
    /// - Returns: the right page.
    private func split(
        _ entries: borrowing NodeEntries, at middle: Int, _ number: PageNumber, level: Int, isRoot: Bool,
        keepsLeft: Bool, _ editor: some PageEditor
    ) throws(EngineError) -> PageNumber {
        let kind: PageKind = level == 0 ? .leaf : .branch
        let node = try Node(editing: number, editor)
        guard level == 0 || entries[middle].payloadLength == 4 else {
            throw damaged(number, "a separator has no child")
        }
        guard !isRoot || level + 1 < Node.maximumLevels else { throw damaged(number, "the tree is too high") }
        // Whatever the allocator hands out, the records are in `entries`.
        let (rightNumber, rightPage) = try PageSpace.allocate(editor, kind: kind, level: level)
        let right = Node(rightPage.base)
        var left = node, leftNumber = number
        if isRoot {
            let (allocated, page) = try PageSpace.allocate(editor, kind: kind, level: level)
            (leftNumber, left) = (allocated, Node(page.base))
            left.clear(level: level)
            left.firstChild = node.firstChild
        }
        if level == 0 {
            entries.write(middle..<entries.count, to: right, level: 0)
            let next = left.next
            right.previous = leftNumber
            right.next = next
            left.next = rightNumber
            if next.rawValue != 0 {
                let sibling = try Node(editing: next, editor)
                guard sibling.isLeaf else { throw damaged(next, "it is no leaf, but the sibling of one") }
                sibling.previous = rightNumber
            }
        } else {
            entries.write(middle + 1..<entries.count, to: right, level: level)
            right.firstChild = PageNumber(entries[middle].payload.loadUnaligned(as: UInt32.self))
        }
        if !keepsLeft { entries.write(0..<middle, to: left, level: level) }
        if isRoot {
            node.clear(level: level + 1)
            node.firstChild = leftNumber
        }
        return rightNumber
    }
}
