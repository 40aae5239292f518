import Glibc
import HoldfastCore
import HoldfastWAL

/// The keeper: makes segments ahead of the stream, drops versions nobody needs, writes pages, takes restartpoints.
extension Follower {
    /// More dirty pages than this are written as time allows, so that a promotion, which writes them all, is quick.
    private static var dirtyBytes: Int { 64 << 20 }

    func keeperLoop() {
        while !locked({ $0.isStopping || $0.isPromoting }), failure.reason == nil {
            keeperStep()
            pause(milliseconds: 100)
        }
    }

    func keeperStep() {
        do {
            let (seen, leader) = locked { ($0.received, $0.leaderLSN) }
            // Far behind, whole segments come at once, and are made of their bytes.
            if let seen, leader < seen.durableLSN + 2 * SegmentNumber.bytes {
                try onLog { () throws(WALError) in try seen.prepareAhead() }
            }
            if cache.versionCount > 1024 { try raiseMark() }
            if let engine { cache.prune(published: engine.publishedLSN, mark: durableMark) }
            cache.trim()
            while cache.dirtyBytes > Self.dirtyBytes, !locked({ $0.isStopping || $0.isPromoting }) {
                if try cache.writeOutSome(atMost: 256) == 0 { break }
                try onDisk { () throws(DiskError) in try cache.store.writeBack() }
            }
            try takeRestartpoint()
            // How far the log was flushed is noted when it rests, and now and then when it does not.
            let now = seen?.durableLSN ?? .zero
            if now == flushedAtLastTurn || now > flushedAtLastTurn + SegmentNumber.bytes {
                try updateControl { control in
                    guard now > control.knownDurableEnd else { return false }
                    control.knownDurableEnd = now
                    return true
                }
            }
            flushedAtLastTurn = now
        } catch EngineError.disk(let error) where error.isFailedSync {
            _ = fatal(error)
        } catch EngineError.stopped {
            // `onFatal` was told.
        } catch {
            locked { $0.problem = "\(error)" }
            pause(milliseconds: 1000)
        }
    }

    /// Takes over the leader's last checkpoint that was replayed and shown, if it is newer than the redo point here. The crash
    /// argument is a checkpoint's: replay begins at the older redo point until the control file is durable.
    ///
    /// A failed sync is fatal whoever calls, a backup too: the pages that it lost are clean by now, and the next
    /// restartpoint's sync would say yes to nothing.
    func takeRestartpoint() throws {
        restarting.lock()
        defer { restarting.unlock() }
        do {
            try restartAtCheckpoint()
        } catch EngineError.disk(let error) where error.isFailedSync {
            throw fatal(error)
        }
    }

    /// Under `restarting`.
    private func restartAtCheckpoint() throws {
        let due = locked { state -> ReplayedCheckpoint? in
            guard let checkpoint = state.checkpoint,
                checkpoint.end.lsn <= appliedLSN || planted(.restartpointBeforeShown)
            else { return nil }
            return checkpoint
        }
        guard let due, due.redo > file.current.redo.lsn else { return }
        let shown = try raiseMinimum(to: appliedLSN)
        let pages = cache.dirtyPages(through: due.redo)
        var unsettled = 0
        try cache.writeOut(pages) { bytes throws(EngineError) in
            unsettled += bytes
            guard unsettled >= 1 << 20 else { return }
            unsettled = 0
            try onDisk { () throws(DiskError) in try cache.store.writeBack() }
            if locked({ $0.isStopping || $0.isPromoting }) { throw .closed }
        }
        precondition(cache.dirtyPages(through: due.redo).isEmpty, "a restartpoint left pages behind")
        if !planted(.restartpointWithoutSync) { try onDisk { () throws(DiskError) in try cache.store.sync() } }
        let history = locked { $0.history }
        let timeline = history.timeline(at: due.redo)
        let (last, greatest) = (due.lastTransaction, engine?.greatestRedoNow ?? due.redo)
        let wasDemanded = file.current.demand != nil
        let change = { (control: inout ControlData) -> Bool in
            control.timeline = timeline
            control.token = history.entry(timeline)?.token ?? control.token
            control.redo = .init(timeline: timeline, lsn: due.redo)
            // Every record behind it says what it follows, and its segment's header bears the token.
            control.redoChain = nil
            control.checkpointLSN = due.start
            control.checkpointTime = due.time
            control.lastTransaction = last
            control.lastCommitTime = due.time
            control.greatestRedo = max(control.greatestRedo, greatest)
            if let demand = control.demand, demand.stop <= shown { control.demand = nil }
            return true
        }
        try updateControl(change)
        locked { $0.anchor = due.end }
        engine?.countCheckpoint()
        if wasDemanded, file.current.demand == nil {
            // Before the label goes neither slot asks for it.
            try updateControl(change)
            try onDisk { () throws(DiskError) in
                if try disk.exists(BackupLabel.path) { try disk.remove(BackupLabel.path) }
                try disk.syncDirectory("")
            }
        }
        try recycle()
    }

    /// What lies below the redo points of both slots, the starts of backups and what this node's own followers need, and is
    /// in the archive, may go.
    private func recycle() throws {
        try engine?.boundSlots()
        let (received, archived) = locked { ($0.received, $0.archived) }
        var bound = min(file.oldestRedo, archived)
        // Read behind the redo points: a backup that begins now starts at or above them.
        if let kept = engine?.backupsKeepFrom { bound = min(bound, kept) }
        if let kept = engine?.slots.keepFrom { bound = min(bound, kept) }
        if planted(.followerRecyclesTooEarly) { bound = .max }
        try onLog { () throws(WALError) in try received?.recycle(below: bound) { _ in true } }
    }
}

extension Engine {
    var greatestRedoNow: LSN {
        commitLock.lock()
        defer { commitLock.unlock() }
        return greatestRedo
    }
}
