import HoldfastCore

/// The old versions in memory, guarded by the cache's lock.
struct VersionKeeper {
    /// A version and the LSN of the one that took its place.
    struct Superseded {
        var slot: UInt32
        var lsn: UInt64
        var successor: UInt64
    }

    /// In commit order: whether anyone needs them is not decided yet.
    var pending: [Superseded] = []
    var firstPending = 0
    /// By the lowest live LSN that sees them.
    var held: [UInt64: [Superseded]] = [:]
    var count = 0
    /// Live LSNs, kept to save allocations.
    var live: [UInt64] = []
}

extension PageCache {
    /// Makes a transaction's copies the newest versions, stamped with its commit's end. They are seen by snapshots at
    /// or above it, of which there are none before it is published. Called under the engine's commit lock.
    ///
    /// - Parameter from: for the copies of several commits, which bear their own LSNs: these commits lie in `from ... end`.
    func install(_ writes: WriteSet, end: LSN, from: LSN? = nil) {
        if from == nil { for slot in writes.slots { Page(frames.address(slot)).lsn = end } }
        lock.lock()
        defer { lock.unlock() }
        for (number, slot) in zip(writes.pages, writes.slots) {
            let page = PageNumber(number)
            let old = table[page]
            let frame = frames.frames + Int(slot)
            frame.pointee.page = number
            frame.pointee.state = FrameState.newest.rawValue
            frame.pointee.newer = 0
            frame.pointee.pins = 0
            frame.pointee.dirtyFrom = (from ?? end).rawValue
            frame.pointee.older.store(old, ordering: .relaxed)
            if old == 0 {
                addResident(slot)
                dirtyCount += 1
            } else {
                replaceResident(old, by: slot)
                let before = frames.frames + Int(old)
                // The page's first commit that is not in its file stays the first.
                if before.pointee.dirtyFrom != 0 {
                    frame.pointee.dirtyFrom = before.pointee.dirtyFrom
                } else {
                    dirtyCount += 1
                }
                before.pointee.dirtyFrom = 0
                before.pointee.state = FrameState.old.rawValue
                before.pointee.newer = slot
                before.pointee.pins = 0
                versions.pending.append(
                    .init(slot: old, lsn: frames.lsn(old), successor: end.rawValue))
                versions.count += 1
            }
            frames.touch(slot)
            table.store(slot, for: page)
        }
    }

    /// Drops the versions that no live snapshot sees. What was published last and what is durably marked count as
    /// snapshots: new readers begin at the one, a checkpoint writes pages as of the other.
    func prune(published: LSN, mark: LSN) {
        lock.lock()
        defer { lock.unlock() }
        // First what new readers may assume, then who is there: a reader announces first and then compares.
        if published.rawValue > pruneHorizon.load(ordering: .relaxed) {
            pruneHorizon.store(published.rawValue, ordering: .sequentiallyConsistent)
        }
        readers.liveLSNs(into: &versions.live)
        var dropped: [UInt32] = []
        for (lsn, entries) in versions.held where !isLive(lsn) {
            versions.held[lsn] = nil
            for entry in entries { judge(entry, &dropped) }
        }
        let horizon = min(published, mark).rawValue
        while versions.firstPending < versions.pending.count,
            versions.pending[versions.firstPending].successor <= horizon
        {
            judge(versions.pending[versions.firstPending], &dropped)
            versions.firstPending += 1
        }
        if versions.firstPending == versions.pending.count || versions.firstPending > 4096 {
            versions.pending.removeSubrange(0..<versions.firstPending)
            versions.firstPending = 0
        }
        // Over the budget the oldest snapshot loses what it needs. Nothing older lies below its versions, so that a
        // reader that finds none at or below its LSN knows.
        while versions.count - dropped.count > versionSlots, let oldest = versions.held.keys.min() {
            for entry in versions.held.removeValue(forKey: oldest)! { unlink(entry.slot, &dropped) }
        }
        versions.count -= dropped.count
        retire(dropped)
    }

    private func isLive(_ lsn: UInt64) -> Bool {
        let at = firstLive(atOrAbove: lsn)
        return at < versions.live.count && versions.live[at] == lsn
    }

    private func firstLive(atOrAbove lsn: UInt64) -> Int {
        var low = 0
        var high = versions.live.count
        while low < high {
            let middle = (low + high) / 2
            if versions.live[middle] < lsn { low = middle + 1 } else { high = middle }
        }
        return low
    }

    private func judge(_ entry: VersionKeeper.Superseded, _ dropped: inout [UInt32]) {
        let at = firstLive(atOrAbove: entry.lsn)
        if at < versions.live.count, versions.live[at] < entry.successor, !planted(.pruneUnderReader) {
            versions.held[versions.live[at], default: []].append(entry)
        } else {
            unlink(entry.slot, &dropped)
        }
    }

    private func unlink(_ slot: UInt32, _ dropped: inout [UInt32]) {
        let frame = frames.frames + Int(slot)
        assert(frame.pointee.state == FrameState.old.rawValue)
        let older = frame.pointee.older.load(ordering: .relaxed)
        let newer = frame.pointee.newer
        frames.frames[Int(newer)].older.store(older, ordering: .releasing)
        if older != 0 { frames.frames[Int(older)].newer = newer }
        dropped.append(slot)
    }

    /// For `status`.
    var versionCount: Int {
        lock.lock()
        defer { lock.unlock() }
        return versions.count
    }
}
