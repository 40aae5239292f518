import HoldfastCore
import HoldfastWAL
import Synchronization

extension Engine {
    /// How a checkpoint spreads its writes.
    enum Pace {
        case atOnce
        /// Over half the time, or half the log, until the next is due.
        case spread
    }

    struct CompletedCheckpoint {
        var redo: LSN
        var record: AppendedRecord
    }

    /// Returns when a checkpoint that began after the call is complete. Not paced.
    public func checkpoint() throws {
        isHurried.store(true, ordering: .releasing)
        try runCheckpoint(.atOnce, leaving: .running)
    }

    /// Takes a checkpoint. The crash argument, step by step: until the control slot is durable, replay begins at the
    /// older redo point, and the log is kept from there; what the steps before it wrote replay overwrites.
    ///
    /// 1. The redo point, under the commit lock: every commit below it is installed, every one behind it sees it
    ///    and logs images.
    /// 2. The log is made durable through it, and that is witnessed: pages up to there may be written.
    /// 3. Every page that lacks a commit below the redo point is written.
    /// 4. The page files are synced.
    /// 5. The checkpoint's record, durable and witnessed; then the older control slot.
    /// 6. Log below both slots' redo points is recycled.
    @discardableResult
    func runCheckpoint(_ pace: Pace, leaving state: ControlData.State) throws -> CompletedCheckpoint {
        checkpointLock.lock()
        defer { checkpointLock.unlock() }
        try checkRunning()
        isCheckpointing.store(true, ordering: .relaxed)
        defer { isCheckpointing.store(false, ordering: .relaxed) }
        isHurried.store(false, ordering: .releasing)
        let early = planted(.redoPointOutsideLock) ? log.takeRedoPoint() : nil
        if let early { try raiseMark(to: early) }
        commitLock.lock()
        let redo = early ?? log.takeRedoPoint()
        greatestRedo = max(greatestRedo, planted(.imagesByCompletedCheckpoint) ? storage.control.redo.lsn : redo)
        let last = lastTransaction
        commitLock.unlock()

        if !planted(.noFlushThroughRedo) { try raiseMark(to: redo) }
        let chain = log.chain(at: redo)
        precondition(chain != nil || planted(.noFlushThroughRedo), "no chain value at redo point \(redo)")
        let pages = cache.dirtyPages(through: redo)
        var pacer = Pacer(self, total: pages.count * Page.bytes, pace: pace, redo: redo)
        try cache.writeOut(pages, early: planted(.checkpointWritesUndurable)) { bytes throws(EngineError) in
            do throws(DiskError) {
                try pacer.wrote(bytes)
            } catch { throw stopForGood(error) }
        }
        precondition(
            cache.dirtyPages(through: redo).isEmpty || planted(.noFlushThroughRedo), "a checkpoint left pages behind")
        do throws(DiskError) {
            if !planted(.skipPageSync) { try cache.store.sync() }
        } catch {
            if !planted(.swallowFailedPageSync) { throw stopForGood(error) }
        }

        let body = RecordBody.checkpoint(
            redo: redo, redoTimeline: storage.control.timeline, lastTransaction: last, time: options.now())
        let record: AppendedRecord
        if planted(.checkpointWritesUndurable) {
            record = try onLog { () throws(WALError) in try log.append(body) }
        } else {
            record = try appendDurably(body)
            try raiseMark(to: record.end)
        }
        // A follower's backup may begin here, and needs this record from the archive.
        awaitedAt.max(record.end.rawValue, ordering: .releasing)
        var control = storage.control
        control.state = state
        control.checkpointLSN = record.start
        control.redo = .init(timeline: control.timeline, lsn: redo)
        control.redoChain = chain
        control.knownDurableEnd = log.durableLSN
        commitLock.lock()
        control.lastTransaction = lastTransaction
        control.lastCommitTime = lastCommitTime
        control.greatestRedo = greatestRedo
        commitLock.unlock()
        control.checkpointTime = record.time
        try writeControl(control)
        countCheckpoint()
        try recycle()
        return CompletedCheckpoint(redo: redo, record: record)
    }

    /// Under the checkpoint lock.
    func writeControl(_ data: ControlData) throws(EngineError) {
        do throws(DiskError) {
            try storage.writeControl(data)
        } catch {
            // A write that failed has harmed the older slot only; a sync that failed may have lied about either.
            throw error.isFailedSync ? stopForGood(error) : .disk(error)
        }
    }

    private func recycle() throws(EngineError) {
        try boundSlots()
        var bound = storage.oldestRedo
        if let kept = slots.keepFrom, !planted(.slotIgnored) { bound = min(bound, kept) }
        if let kept = backupsKeepFrom { bound = min(bound, kept) }
        if planted(.recycleTooEarly) { bound = .max }
        do throws(WALError) {
            try log.recycle(below: bound) { storage.isArchived($0) }
        } catch { throw refusing(error) }
    }

    /// Spreads a checkpoint's writes. Whatever the pace, what is on its way to the device is little, so that a commit's
    /// sync never waits behind much: the system would else gather hundreds of MiB and write them at the end.
    private struct Pacer {
        /// Bytes; more only where one request writes more, a run of neighbouring pages (1 MiB at most).
        static let onTheWay = 64 << 10

        let engine: Engine
        let total: Int
        let pace: Pace
        let redo: LSN
        let start = monotonicMicroseconds()
        var written = 0
        var unsettled = 0

        init(_ engine: Engine, total: Int, pace: Pace, redo: LSN) {
            self.engine = engine
            self.total = total
            self.pace = pace
            self.redo = redo
        }

        mutating func wrote(_ bytes: Int) throws(DiskError) {
            written += bytes
            unsettled += bytes
            if unsettled >= Self.onTheWay {
                unsettled = 0
                try engine.cache.store.writeBack()
            }
            guard case .spread = pace else { return }
            let done = Double(written) / Double(max(total, 1))
            // At most 100 ms for each request, so that little work never takes long.
            for _ in 0..<20 where !engine.isHurried.load(ordering: .acquiring) && !engine.background.isStopping {
                let seconds = Double(monotonicMicroseconds() - start) / 1e6
                let byTime = seconds / max(Double(engine.checkpointSeconds.load(ordering: .relaxed)) / 2, 1e-3)
                let byLog =
                    Double(engine.log.appendedLSN - redo)
                    / max(Double(engine.checkpointWALBytes.load(ordering: .relaxed)) / 2, 1)
                // With most of the cache dirty there is no time to lose.
                if done <= max(byTime, byLog) || engine.cache.isCrowded { return }
                pause(milliseconds: 5)
            }
        }
    }
}

extension DiskError {
    /// Of a file or of a directory.
    var isFailedSync: Bool {
        operation == "fdatasync" || operation == "sync" || operation.hasPrefix("sync directory")
            || operation == "syncDirectory"
    }
}
