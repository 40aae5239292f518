import HoldfastCore
import HoldfastWAL

/// A backup that was started and not ended.
struct RunningBackup: Sendable {
    var label: String
    /// The log is kept from here.
    var start: LSN
    var checkpoint: LSN
    var startTime: Int64
}

extension Engine {
    /// Starts a backup: returns when its checkpoint is complete and the segment with the redo point is
    /// switched out. `fast` does not pace the checkpoint. Several may run at once. `label` as `ObjectName` allows.
    public func beginBackup(label: String, fast: Bool) throws -> BackupStart {
        try checkRunning()
        guard ObjectName.isValid(label) else {
            throw EngineError.invalidName(ObjectName.refusal(label, of: "backup label"))
        }
        let token = BackupToken(rawValue: UInt64.random(in: 1...UInt64.max))
        let startTime = options.now()
        // Registered before the checkpoint, from a place below its redo point: nothing is recycled meanwhile.
        backups.withLock {
            $0[token] = RunningBackup(
                label: label, start: storage.oldestRedo, checkpoint: .zero, startTime: startTime)
        }
        do {
            if fast { isHurried.store(true, ordering: .releasing) }
            let checkpoint = try runCheckpoint(fast ? .atOnce : .spread, leaving: .running)
            try switchWAL()
            backups.withLock {
                $0[token] = RunningBackup(
                    label: label, start: checkpoint.redo, checkpoint: checkpoint.record.start, startTime: startTime)
            }
            let control = storage.control
            return BackupStart(
                token: token, startLSN: checkpoint.redo, timeline: control.timeline,
                checkpointLSN: checkpoint.record.start, systemIdentifier: control.system,
                timelineToken: control.token, startTime: startTime)
        } catch {
            abandonBackup(token)
            throw error
        }
    }

    /// Ends a backup: logs its end and switches the segment; everything through `stopLSN` is durable.
    /// - Throws: `unknownBackup`; after another error the backup still runs.
    public func endBackup(_ token: BackupToken) throws -> BackupStop {
        try checkRunning()
        guard let backup = backups.withLock({ $0[token] }), backup.checkpoint != .zero else {
            throw EngineError.unknownBackup
        }
        let control = storage.control
        let end = try appendDurably(
            .backupEnd(
                start: backup.start, startTimeline: control.timeline, token: token.rawValue, time: options.now()))
        try switchWAL()
        abandonBackup(token)
        let label = BackupLabel(
            start: backup.start, timeline: control.timeline, token: control.token, checkpoint: backup.checkpoint,
            stop: end.end, system: control.system, label: backup.label, startTime: backup.startTime, stopTime: end.time)
        return BackupStop(
            stopLSN: end.end, timeline: control.timeline, stopTime: end.time, label: label.encoded())
    }

    /// Forgets a backup. Unknown tokens are ignored.
    public func abandonBackup(_ token: BackupToken) { backups.withLock { $0[token] = nil } }

    /// The page files and how many bytes of each belong to the backup.
    public func backupFiles(_ token: BackupToken) throws -> [BackupFile] {
        try checkRunning()
        guard backups.withLock({ $0[token] }) != nil else { throw EngineError.unknownBackup }
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
