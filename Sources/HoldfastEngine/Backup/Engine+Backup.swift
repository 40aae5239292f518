import HoldfastCore
import HoldfastWAL

/// A backup that was started and not ended.
struct RunningBackup: Sendable {
    var label: String
    /// Of a follower: over with its promotion.
    var isFollowers: Bool
    /// The log is kept from here.
    var start: LSN
    var startTime: Int64
    /// Where the start lies; `nil` until the backup has begun.
    var begun: Begun?

    struct Begun: Sendable {
        var timeline: TimelineID
        var token: TimelineToken
        var checkpoint: LSN
    }
}

extension Engine {
    /// Starts a backup. On a leader it returns when its checkpoint is complete and the segment with the redo point is
    /// switched out; on a follower behind a restartpoint. `fast` does not pace the checkpoint. Several may run at once.
    /// `label` as `ObjectName` allows.
    /// - Throws: `backupOver` for a follower that has no restartpoint on its timeline yet, or is promoted meanwhile.
    public func beginBackup(label: String, fast: Bool) throws -> BackupStart {
        let follower = try checkCopyable()
        guard ObjectName.isValid(label) else {
            throw EngineError.invalidName(ObjectName.refusal(label, of: "backup label"))
        }
        let token = BackupToken(rawValue: UInt64.random(in: 1...UInt64.max))
        var backup = RunningBackup(
            label: label, isFollowers: follower != nil, start: storage.oldestRedo, startTime: options.now())
        // Registered before the checkpoint, from a place below its redo point: nothing is recycled meanwhile.
        backups.withLock { $0[token] = backup }
        do {
            let control: ControlData
            if let follower {
                control = try follower.beginBackup()
                backup.start = control.redo.lsn
                backup.begun = .init(
                    timeline: control.redo.timeline, token: control.token,
                    // None was replayed yet behind the backup that this node was made of.
                    checkpoint: control.checkpointLSN == .zero ? control.redo.lsn : control.checkpointLSN)
            } else {
                if fast { isHurried.store(true, ordering: .releasing) }
                let checkpoint = try runCheckpoint(fast ? .atOnce : .spread, leaving: .running)
                try switchWAL()
                control = storage.control
                backup.start = checkpoint.redo
                backup.begun = .init(
                    timeline: control.timeline, token: control.token, checkpoint: checkpoint.record.start)
            }
            backups.withLock { $0[token] = backup }
            return BackupStart(
                token: token, startLSN: backup.start, timeline: backup.begun!.timeline,  // Set above.
                checkpointLSN: backup.begun!.checkpoint, systemIdentifier: control.system,
                timelineToken: control.token, startTime: backup.startTime)
        } catch {
            abandonBackup(token)
            throw error
        }
    }

    /// Ends a backup. A leader logs its end and switches the segment: everything through `stopLSN` is durable. A follower
    /// logs nothing: everything through `stopLSN` is durable here, and its segment is archived when the leader has filled it.
    /// - Throws: `unknownBackup`; `backupOver`; after another error the backup still runs.
    public func endBackup(_ token: BackupToken) throws -> BackupStop {
        let follower = try checkCopyable()
        let backup = try running(token, follower)
        guard let begun = backup.begun else { throw EngineError.unknownBackup }
        let stop: LSN
        let time: Int64
        var chain: UInt32?
        if let follower {
            let place = try follower.endBackup(begun.timeline, begun.token)
            (stop, chain) = (place.lsn, place.chain)
            // Not before a commit that the backup holds, whatever this node's clock says: a time target goes by it.
            commitLock.lock()
            time = max(options.now(), lastCommitTime)
            commitLock.unlock()
        } else {
            let end = try appendDurably(
                .backupEnd(
                    start: backup.start, startTimeline: begun.timeline, token: token.rawValue, time: options.now()))
            try switchWAL()
            (stop, time) = (end.end, end.time)
        }
        abandonBackup(token)
        let label = BackupLabel(
            start: backup.start, timeline: begun.timeline, token: begun.token, checkpoint: begun.checkpoint,
            stop: stop, system: storage.control.system, label: backup.label, startTime: backup.startTime, stopTime: time
        )
        return BackupStop(
            stopLSN: stop, stopChain: chain, timeline: begun.timeline, stopTime: time, label: label.encoded())
    }

    /// The follower to be copied, or `nil` for a leader.
    private func checkCopyable() throws(EngineError) -> (any FollowerDriver)? {
        guard isFollower, let follower else {
            try checkRunning()
            return nil
        }
        try checkOpen()
        if let why = failure.reason { throw .stopped(why) }
        return follower
    }

    private func running(_ token: BackupToken, _ follower: (any FollowerDriver)?) throws(EngineError) -> RunningBackup {
        guard let backup = backups.withLock({ $0[token] }) else { throw .unknownBackup }
        guard backup.isFollowers == (follower != nil) else {
            throw .backupOver("this node was promoted meanwhile, and is a leader now")
        }
        return backup
    }

    /// Those that can still be ended: what a follower began keeps nothing once it was promoted.
    var runningBackups: [RunningBackup] {
        let isFollower = isFollower
        return backups.withLock { $0.values.filter { $0.isFollowers == isFollower } }
    }

    /// The log is kept from here for backups; `nil`: none runs.
    var backupsKeepFrom: LSN? { runningBackups.map(\.start).min() }

    /// Forgets a backup. Unknown tokens are ignored.
    public func abandonBackup(_ token: BackupToken) { backups.withLock { $0[token] = nil } }

    /// The page files and how many bytes of each belong to the backup.
    public func backupFiles(_ token: BackupToken) throws -> [BackupFile] {
        _ = try running(token, checkCopyable())
        let pages = cache.store.allocatedPages
        let perFile = UInt64(PageNumber.pagesPerFile)
        return (0..<Int((pages + perFile - 1) / perFile)).map { index in
            let held = min(perFile, pages - UInt64(index) * perFile)
            return BackupFile(path: PageNumber.filePath(index), bytes: held * UInt64(Page.bytes))
        }
    }

    /// Reads pages as they are on the disk while none of them is being written. What lies behind the
    /// end of the files is zero. `buffer` holds `count * 8192` bytes.
    public func readPages(from page: PageNumber, count: Int, into buffer: UnsafeMutableRawBufferPointer) throws {
        try checkOpen()
        precondition(buffer.count >= count * Page.bytes)
        guard count > 0, let base = buffer.baseAddress else { return }
        let range = page.rawValue..<page.rawValue + UInt32(count)
        try cache.gate.beginRead(range)
        defer { cache.gate.endRead(range) }
        try onDisk { () throws(DiskError) in try cache.store.read(from: page, count: count, into: base) }
    }
}
