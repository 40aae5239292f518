import HoldfastCore

/// What the bytes at a page's place say, field by field, whether they are sound or not: what `page dump` shows.
/// Nothing is believed: what does not fit the page is said in `faults`, and the rest is read as far as it goes.
package struct PageDump: Sendable {
    /// A record of a tree page.
    package struct Entry: Sendable {
        package enum Value: Sendable {
            /// In the leaf itself.
            case inline(bytes: Int)
            case overflow(bytes: Int, first: PageNumber)
            case child(PageNumber)
        }

        package var slot: Int
        package var cellOffset: Int
        package var key: [UInt8]
        package var value: Value
    }

    package enum Content: Sendable {
        case zeros
        case meta(pageCount: UInt32, freeHead: PageNumber, freePages: UInt32, nextTreeID: UInt64)
        case node(NodeFields, entries: [Entry])
        case overflow(next: PageNumber, bytes: Int)
        case freeList(next: PageNumber, free: [PageNumber])
        /// Of a kind without fields, or of none.
        case none
    }

    /// What stands before the slots of a tree page.
    package struct NodeFields: Sendable {
        package var level: Int
        package var previous: PageNumber
        package var next: PageNumber
        package var firstChild: PageNumber
        package var count: Int
        package var prefix: [UInt8]
        package var deadBytes: Int
        package var mayOverflow: Bool
    }

    /// The place it was read from.
    package let place: PageNumber
    package let storedChecksum: UInt32
    package let computedChecksum: UInt32
    /// As the header says.
    package let number: PageNumber
    package let lsn: LSN
    package let rawKind: UInt8
    package let kind: PageKind?
    package let level: Int
    package let flags: UInt16
    package let lower: Int
    package let upper: Int
    package private(set) var content = Content.none
    /// What is wrong with the page as far as it can be said from itself alone.
    package private(set) var faults: [String] = []

    package var isChecksumSound: Bool { storedChecksum == computedChecksum }

    /// - Parameter bytes: the 8,192 bytes at the place of page `place`.
    package init(_ bytes: UnsafeRawPointer, at place: PageNumber) {
        let page = Page(reading: bytes)
        self.place = place
        storedChecksum = page.checksum
        computedChecksum = page.computedChecksum(as: place)
        number = page.number
        lsn = page.lsn
        rawKind = page.rawKind
        kind = page.kind
        level = Int(page.level)
        flags = page.flags
        lower = page.lower
        upper = page.upper
        if page.isAllZero {
            content = .zeros
            return
        }
        if let fault = page.fault(expected: place) { faults.append("\(fault)") }
        do throws(EngineError) {
            switch page.kind {
            case .meta: try readMeta(bytes)
            case .leaf, .branch: try readNode(bytes)
            case .overflow:
                let next = bytes.load(fromByteOffset: 24, as: UInt32.self)
                content = .overflow(next: PageNumber(next), bytes: page.lower - OverflowChain.dataStart)
            case .freeList: try readFreeList(bytes)
            case .free, nil: break
            }
        } catch {
            faults.append(error.diagnosis.why ?? error.diagnosis.what)
        }
    }

    private mutating func readMeta(_ bytes: UnsafeRawPointer) throws(EngineError) {
        let meta = try Meta(reading: bytes)
        content = .meta(
            pageCount: meta.pageCount, freeHead: meta.freeHead, freePages: meta.freePages, nextTreeID: meta.nextTreeID)
    }

    private mutating func readFreeList(_ bytes: UnsafeRawPointer) throws(EngineError) {
        let list = FreeListPage(bytes)
        try list.check(place)
        content = .freeList(next: list.next, free: (0..<list.count).map { list.entry($0) })
    }

    private mutating func readNode(_ bytes: UnsafeRawPointer) throws(EngineError) {
        let node = try Node(reading: bytes, place)
        let fields = NodeFields(
            level: node.level, previous: node.previous, next: node.next, firstChild: node.firstChild, count: node.count,
            prefix: Array(UnsafeRawBufferPointer(start: node.prefix, count: node.prefixLength)),
            deadBytes: node.deadBytes, mayOverflow: node.mayOverflow)
        var entries: [Entry] = []
        entries.reserveCapacity(node.count)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Limits.keyBytes + 8, alignment: 16)
        defer { buffer.deallocate() }
        for slot in 0..<node.count {
            do throws(EngineError) {
                let cell = try node.cell(slot, place)
                let length = try node.copyKey(slot, of: place, to: buffer.baseAddress.unsafelyUnwrapped)
                let value: Entry.Value
                if !node.isLeaf {
                    value = .child(try node.child(slot + 1, place))
                } else if cell.isOverflow {
                    let chain = try OverflowChain(cell, place)
                    value = .overflow(bytes: chain.length, first: chain.first)
                } else {
                    value = .inline(bytes: cell.payloadLength)
                }
                entries.append(
                    Entry(
                        slot: slot, cellOffset: node.cellOffset(slot), key: Array(buffer[0..<length]), value: value))
            } catch {
                faults.append(error.diagnosis.why ?? error.diagnosis.what)
            }
        }
        for (earlier, later) in zip(entries, entries.dropFirst())
        where !earlier.key.lexicographicallyPrecedes(later.key) {
            faults.append("slots \(earlier.slot) and \(later.slot) are out of order")
        }
        content = .node(fields, entries: entries)
    }
}

extension PageDump {
    /// Reads a page from a data directory, whoever uses it, and writes nothing. What a running server is about to write
    /// is not in the files yet.
    /// - Throws: `notADataDirectory`, `noSuchPage`, `disk`.
    package static func read(_ number: PageNumber, of disk: some Disk) throws(EngineError) -> PageDump {
        guard try onDisk({ () throws(DiskError) in try disk.exists(ControlData.path) }) else {
            throw .notADataDirectory(disk.root)
        }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Page.bytes, alignment: 4096)
        defer { buffer.deallocate() }
        let path = PageNumber.filePath(number.fileIndex)
        guard try onDisk({ () throws(DiskError) in try disk.exists(path) }) else {
            throw .noSuchPage(number, "\(path) does not exist")
        }
        var dump: PageDump?
        // A page that is being written may be met half old, half new: then it is sound a moment later.
        for _ in 0..<Self.attempts where dump?.faults.isEmpty != true {
            let count = try onDisk { () throws(DiskError) in
                let file = try disk.open(path, .read)
                defer { file.close() }
                return try file.read(into: buffer, at: number.fileOffset)
            }
            guard count == Page.bytes else { throw .noSuchPage(number, "\(path) ends before it") }
            dump = PageDump(buffer.baseAddress!, at: number)
        }
        return dump!  // There was at least one attempt.
    }

    private static var attempts: Int { 3 }
}
