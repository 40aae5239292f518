import HoldfastCore
import HoldfastWAL

extension Engine {
    /// Closes the current WAL segment and goes on in the next, if anything was logged in it.
    /// - Returns: the end of the closed segment; durable.
    @discardableResult public func switchWAL() throws -> LSN {
        try checkRunning()
        commitLock.lock()
        let end: LSN
        do throws(WALError) {
            end = try log.switchSegment()
            switchedAt.store(end.rawValue, ordering: .releasing)
        } catch {
            commitLock.unlock()
            throw refusing(error)
        }
        commitLock.unlock()
        try flush(through: end)
        return end
    }

    /// The same, but only when something was committed or named since the last switch, or a checkpoint taken; else `nil`.
    @discardableResult public func switchWALIfCommitted() throws -> LSN? {
        try checkRunning()
        let last = max(installedLSN.rawValue, awaitedAt.load(ordering: .acquiring))
        guard last > switchedAt.load(ordering: .acquiring) else { return nil }
        return try switchWAL()
    }

    /// Logs a named restore point. `name` as `ObjectName` allows.
    /// - Returns: its LSN, which is the record's end; durable.
    public func restorePoint(_ name: String) throws -> LSN {
        try checkRunning()
        guard ObjectName.isValid(name) else {
            throw EngineError.invalidName(ObjectName.refusal(name, of: "restore point"))
        }
        let end = try appendDurably(.restorePoint(name: name, time: options.now())).end
        awaitedAt.max(end.rawValue, ordering: .releasing)
        return end
    }

    /// From now on a checkpoint begins after so much WAL, or so many seconds with something logged.
    public func setCheckpoints(walBytes: Int, seconds: Int) {
        checkpointWALBytes.store(max(walBytes, SegmentNumber.bytes), ordering: .relaxed)
        checkpointSeconds.store(max(seconds, 1), ordering: .relaxed)
    }

    /// Frees pages of cleared trees, all that there are, in transactions of `pages` pages.
    package func reclaim(pages: Int = 256) throws {
        while try write(.asynchronous, { try $0.reclaimSome(pages: pages) }) {}
    }

    var hasCommitsSinceCheckpoint: Bool { installedLSN > storage.control.redo.lsn }

    /// Commits that are ahead of what a crash would take back.
    public var status: EngineStatus {
        let control = storage.control
        commitLock.lock()
        let last = lastTransaction, time = lastCommitTime
        commitLock.unlock()
        let misses = cache.misses.load(ordering: .relaxed)
        let follower = isFollower ? follower : nil
        let role: NodeRole = follower != nil ? .follower : pausedAt == nil ? .leader : .recovering
        let branch = follower?.history.current
        var warnings = [preparing.withLock { $0 }, checkpointing.withLock { $0 }].compactMap { $0 }
        if let why = failure.reason { warnings.append(why) }
        for (name, slot) in slots.all {
            guard let why = slot.invalidReason else { continue }
            warnings.append("slot \(name) keeps no WAL any more, since \(why): its follower needs the archive")
        }
        return EngineStatus(
            role: role, systemIdentifier: control.system,
            timeline: branch?.timeline ?? control.timeline, timelineToken: branch?.token ?? control.token,
            publishedLSN: publishedLSN, durableLSN: durableLSN, appendedLSN: appendedLSN,
            redoPoint: control.redo.lsn, lastTransaction: last, lastCommitTime: time,
            lastCheckpointTime: control.checkpointTime, checkpoints: checkpointsTaken,
            isCheckpointing: isCheckpointing.load(ordering: .relaxed),
            writeRefusal: failure.reason ?? refusal.withLock { $0 }, warnings: warnings,
            cacheBytesUsed: cache.usedCacheBytes, cacheBytes: cache.cacheSlots * Page.bytes,
            dirtyBytes: cache.dirtyBytes, versionBytesUsed: cache.versionCount * Page.bytes,
            versionBytes: cache.versionSlots * Page.bytes, liveSnapshots: cache.readers.liveCount,
            cacheHits: cache.readers.pageReads &- min(misses, cache.readers.pageReads), cacheMisses: misses,
            isArchiving: control.isArchiving, segmentsToArchive: control.isArchiving ? storage.segmentsToArchive() : 0,
            runningBackups: runningBackups.count, allocatedPages: cache.store.allocatedPages,
            follower: follower?.status)
    }
}
