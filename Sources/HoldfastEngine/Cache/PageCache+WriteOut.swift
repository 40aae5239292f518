import HoldfastCore

/// Writing pages to their files: for checkpoints, and to make room.
extension PageCache {
    /// Pages written with one request at most.
    private static let runPages = 128

    /// The pages whose files lack a commit at or below `lsn`, in order; for an `lsn` that no commit to come lies below.
    ///
    /// By page and not by slot, so that the lock may be given up in between: a dirty page may get a version in another
    /// slot meanwhile, but it keeps its number, and stays in memory.
    func dirtyPages(through lsn: LSN) -> [UInt32] {
        var pages: [UInt32] = []
        // Space comes before a commit, so that every page that a commit below `lsn` changed lies in it.
        let end = store.allocatedPages
        for first in stride(from: 0, to: end, by: 2048) {
            let part = first..<min(first + 2048, end)
            guard part.contains(where: { table[PageNumber(UInt32($0))] != 0 }) else { continue }
            lock.lock()
            for page in part {
                let slot = table[PageNumber(UInt32(page))]
                guard slot != 0 else { continue }
                let from = frames.frames[Int(slot)].dirtyFrom
                if from != 0, from <= lsn.rawValue { pages.append(UInt32(page)) }
            }
            lock.unlock()
        }
        return pages
    }

    /// Writes of each of `pages` (in order) the newest version at or below the durable mark: durable itself, and known
    /// to be by a mark that is. Such a page is clean afterwards, or dirty from the first commit left out.
    /// Not durable before the store's sync.
    ///
    /// The mark is asked for under the cache's lock: whoever prunes went by an earlier one, so the newest version at or
    /// below it is there.
    /// - Parameter paced: called with the bytes of each run that was written.
    /// - Returns: pages written.
    @discardableResult
    func writeOut(
        _ pages: [UInt32], early: Bool = planted(.pageBeforeLog), paced: (Int) throws(EngineError) -> Void = { _ in }
    ) throws(EngineError) -> Int {
        let reader = readers.claim()
        defer { readers.release(reader) }
        let buffer = UnsafeMutableRawPointer.allocate(
            byteCount: min(Self.runPages, max(pages.count, 1)) * Page.bytes, alignment: 4096)
        defer { buffer.deallocate() }
        var written = 0
        var at = 0
        while at < pages.count {
            var count = 1
            while at + count < pages.count, count < Self.runPages, pages[at + count] == pages[at] + UInt32(count),
                pages[at + count] % PageNumber.pagesPerFile != 0
            { count += 1 }
            let run = try writeRun(pages[at], count, buffer, reader, early)
            written += run
            if run > 0 { try paced(run * Page.bytes) }
            at += count
        }
        return written
    }

    private func writeRun(
        _ first: UInt32, _ count: Int, _ buffer: UnsafeMutableRawPointer,
        _ reader: UnsafeMutablePointer<ReaderSlots.Slot>, _ early: Bool
    ) throws(EngineError) -> Int {
        // For one run at a time: a paced checkpoint must not keep out who needs room at once.
        writeOutLock.lock()
        defer { writeOutLock.unlock() }
        let range = first..<first + UInt32(count)
        gate.beginWrite(range)
        defer { gate.endWrite(range) }
        // The LSN of what is written of each page, 0: nothing.
        var lsns = [UInt64](repeating: 0, count: count)
        var slots = [UInt32](repeating: 0, count: count)
        readers.enter(reader)
        lock.lock()
        var mark = durability!.durableMark
        if early { mark = LSN(.max - 1) }
        if planted(.pageBeforeMark) { mark = max(mark, (durability as? Engine)?.durableLSN ?? mark) }
        for index in 0..<count {
            slots[index] = writable(PageNumber(first + UInt32(index)), mark)
        }
        lock.unlock()
        // Copied outside the lock: the announced epoch keeps the memory. The CRC goes into the copy.
        for index in 0..<count where slots[index] != 0 {
            let copy = Page(buffer + index * Page.bytes)
            copy.base.copyMemory(from: frames.address(slots[index]), byteCount: Page.bytes)
            copy.stampChecksum()
            lsns[index] = copy.lsn.rawValue
        }
        readers.leave(reader)
        var at = 0
        var written = 0
        while at < count {
            guard slots[at] != 0 else {
                at += 1
                continue
            }
            var end = at + 1
            while end < count, slots[end] != 0 { end += 1 }
            let bytes = UnsafeRawBufferPointer(start: buffer + at * Page.bytes, count: (end - at) * Page.bytes)
            do throws(DiskError) {
                try store.write(from: PageNumber(first + UInt32(at)), bytes)
            } catch { throw .disk(error) }
            lock.lock()
            for index in at..<end { markWritten(PageNumber(first + UInt32(index)), lsns[index], mark) }
            lock.unlock()
            written += end - at
            at = end
        }
        return written
    }

    /// Under `lock`: the slot of the version to write, 0 when the file lacks nothing at or below `mark`.
    private func writable(_ page: PageNumber, _ mark: LSN) -> UInt32 {
        var slot = table[page]
        guard slot != 0 else { return 0 }
        let from = frames.frames[Int(slot)].dirtyFrom
        guard from != 0, from <= mark.rawValue else { return 0 }
        while slot != 0, frames.lsn(slot) > mark.rawValue {
            slot = frames.frames[Int(slot)].older.load(ordering: .relaxed)
        }
        if slot != 0, frames.lsn(slot) >= from { return slot }
        // No version lies between what the file has and the mark: it lacks nothing that may be written.
        frames.frames[Int(table[page])].dirtyFrom = mark.rawValue + 1
        return 0
    }

    /// Under `lock`. A dirty page is never evicted, so it is still there.
    private func markWritten(_ page: PageNumber, _ lsn: UInt64, _ mark: LSN) {
        let newest = table[page]
        let frame = frames.frames + Int(newest)
        if frames.lsn(newest) == lsn {
            if frame.pointee.dirtyFrom != 0 { dirtyCount -= 1 }
            frame.pointee.dirtyFrom = 0
            chances &+= 1
        } else {
            // What was written is the newest at or below the mark: what was left out lies beyond.
            frame.pointee.dirtyFrom = mark.rawValue + 1
            if planted(.cleanTooEarly) {
                frame.pointee.dirtyFrom = 0
                dirtyCount -= 1
            }
        }
    }

    /// Writes some dirty pages, so that they can be evicted.
    /// - Returns: how many.
    func writeOutSome(atMost limit: Int = 256) throws(EngineError) -> Int {
        var pages: [UInt32] = []
        lock.lock()
        for _ in residents.indices where dirtyCount > 0 && pages.count < limit {
            // The hand goes on where it was, so that all dirty pages have their turn.
            writeOutHand = writeOutHand + 1 < residents.count ? writeOutHand + 1 : 0
            let frame = frames.frames + Int(residents[writeOutHand])
            if frame.pointee.dirtyFrom != 0, frame.pointee.pins == 0 { pages.append(frame.pointee.page) }
        }
        let source = durability
        lock.unlock()
        guard !pages.isEmpty, let durability = source else { return 0 }
        pages.sort()
        let written = try writeOut(pages)
        if written > 0 { return written }
        try durability.raiseMark()
        return try writeOut(pages)
    }

    /// Whether so much is dirty that little can be evicted.
    var isCrowded: Bool {
        lock.lock()
        defer { lock.unlock() }
        return dirtyCount > cacheSlots / 4 * 3
    }

    var dirtyBytes: Int {
        lock.lock()
        defer { lock.unlock() }
        return dirtyCount * Page.bytes
    }
}
