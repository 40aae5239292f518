import HoldfastCore
import HoldfastWAL
import Synchronization

/// A key-value store in one directory: named trees of byte keys and values, pages on the disk, a write-ahead log
/// before them.
///
/// It promises: a transaction is whole or absent, after a crash too; a durable write that returned is there
/// after any crash; readers see one moment and wait for no writer. It needs: a `Disk` whose `sync` tells the truth.
///
/// **Locks**, in the order in which they are taken: the transaction lock (from a transaction's beginning to its end), the
/// checkpoint lock (a checkpoint at a time), the commit lock (whoever appends to the log; held by a commit from
/// its image decisions until its pages are installed, so that a redo point lies between commits), then the
/// cache's. No lock is held during a flush of the log.
public final class Engine: @unchecked Sendable {
    // Sendable: mutable state is atomic, or guarded by the lock named beside it, or set before `init` returns.
    let options: EngineOptions
    let log: any EngineLog
    let cache: PageCache
    let storage: any EngineStorage

    let transactionLock = HandedLock()
    /// Guarded by `transactionLock`.
    let writes: WriteSet

    let commitLock = Monitor()
    /// Guarded by `commitLock`, as are the three behind `verifier`.
    let builder = CommitBuilder()
    /// Guarded by `commitLock`; `nil`: redo is not verified.
    let verifier: RedoVerifier?
    var lastTransaction: TransactionID
    var lastCommitTime: Int64
    /// The greatest redo point begun or replayed: a page at or below it is logged whole.
    var greatestRedo: LSN

    let checkpointLock = Monitor()
    private let checkpointCount = Atomic<UInt64>(0)
    /// Set while a checkpoint is under way.
    let isCheckpointing = Atomic<Bool>(false)
    /// When checkpoints begin: as the options said, until `setCheckpoints` says otherwise.
    let checkpointWALBytes: Atomic<Int>
    let checkpointSeconds: Atomic<Int>
    /// Set by whoever waits for a running checkpoint: it goes on unpaced.
    let isHurried = Atomic<Bool>(false)

    private let installed: Atomic<UInt64>
    private let published: Atomic<UInt64>
    /// Where the last segment switch ended; what is behind it is in no whole segment yet.
    let switchedAt: Atomic<UInt64>
    /// The end of the last restore point or checkpoint: it waits for the archive as a commit does.
    let awaitedAt = Atomic<UInt64>(0)
    private let isClosed = Atomic<Bool>(false)
    /// Why this engine may acknowledge nothing any more; set once.
    let failure: FailureLatch
    /// Past it nothing may be acknowledged; microseconds of CLOCK_BOOTTIME, 0: there is none.
    let writeDeadline = Atomic<Int64>(0)
    /// Why the last write was refused, until one succeeds.
    let refusal = Mutex<String?>(nil)
    /// What the background threads could not do at their last turn.
    let preparing = Mutex<String?>(nil)
    let checkpointing = Mutex<String?>(nil)
    let backups = Mutex<[BackupToken: RunningBackup]>([:])
    /// What followers need the log for.
    package let slots: SlotTable
    let background = Background()
    /// Set while the node waits at its recovery target: reads only. The lock is held through a promotion, so whoever
    /// only asks looks at `isPaused`.
    private let paused: Mutex<PausedRecovery?>
    private let isPaused: Atomic<Bool>
    private let pausedTarget: RecoveryTarget?
    /// Set for a node that follows, and kept when it was promoted.
    let follower: (any FollowerDriver)?

    /// Makes `disk`'s root the data directory of a new cluster: it must be empty, or hold what an unfinished call
    /// of this left. Durable when it returns; what a crash leaves before is accepted by nothing but this.
    /// - Throws: `notEmpty`, `disk` (`EWOULDBLOCK` when the directory is in use).
    @discardableResult public static func initialize(
        _ disk: some Disk, options: InitializeOptions = InitializeOptions()
    ) throws -> SystemIdentifier {
        try DirectoryMaker(disk: disk, options: options).make()
    }

    /// Locks the directory, recovers, and is ready for reads and writes when it returns.
    /// - Throws: `EngineError`: `notADataDirectory`, `damagedControl`, `newerFormat`, `restoreInProgress`, `log` for a
    ///   damaged log, `recoveryFailed`, `disk` (`EWOULDBLOCK` when the directory is in use). Nothing stays locked.
    public convenience init(opening disk: some Disk, options: EngineOptions = EngineOptions()) throws {
        try self.init(recovered: CrashRecovery(disk: disk, options: options).run(), options: options)
    }

    init(recovered: RecoveredEngine, options: EngineOptions) throws {
        self.options = options
        checkpointWALBytes = Atomic(options.checkpointWALBytes)
        checkpointSeconds = Atomic(options.checkpointSeconds)
        log = recovered.log
        cache = recovered.cache
        storage = recovered.storage
        failure = recovered.failure
        do {
            slots = try SlotTable(recovered.storage)
        } catch {
            recovered.log.close()
            recovered.cache.store.close()
            recovered.storage.close()
            throw error
        }
        writes = WriteSet(recovered.cache)
        verifier = options.verifiesRedo ? RedoVerifier(options.redo) : nil
        lastTransaction = recovered.lastTransaction
        lastCommitTime = recovered.lastCommitTime
        greatestRedo = recovered.greatestRedo
        installed = Atomic(recovered.end.rawValue)
        published = Atomic(recovered.end.rawValue)
        // What an earlier run committed into the open segment may not be archived: it waits for the timeout as well.
        switchedAt = Atomic(SegmentNumber(containing: recovered.end).start.rawValue)
        paused = Mutex(recovered.paused)
        pausedTarget = recovered.paused?.target
        isPaused = Atomic(recovered.paused != nil || recovered.follower != nil)
        follower = recovered.follower
        cache.pruneHorizon.store(recovered.end.rawValue, ordering: .sequentiallyConsistent)
        // While it waits, what may be written is judged by the replay that brought it here.
        if recovered.paused == nil, follower == nil { beginWork(replayedBytes: recovered.replayedBytes) }
        follower?.start(self)
    }

    private func beginWork(replayedBytes: Int) {
        cache.follow(self)
        if options.runsBackgroundWork { background.start(self, replayedBytes: replayedBytes) }
    }

    /// Whether the node follows a leader: reads only.
    public var isFollower: Bool { follower != nil && isPaused.load(ordering: .acquiring) }
    /// The receiving side of a node that follows.
    public var logFollower: (any LogFollower)? { isFollower ? follower : nil }

    /// What the node waits for, when it waits at its recovery target.
    public var pausedAt: RecoveryTarget? { isPaused.load(ordering: .acquiring) ? pausedTarget : nil }

    /// Opens a node that waits at its recovery target for writing, on a new timeline. Durable when it returns; after an
    /// error the node still waits, and the call may be repeated: unless a sync failed, which stops the node for good.
    /// - Throws: `notPaused`, `stopped`, what the claim of the timeline refused.
    public func promote(_ options: PromotionOptions = PromotionOptions()) throws {
        try checkOpen()
        try paused.withLock { waiting in
            guard isPaused.load(ordering: .acquiring), let old = waiting?.log ?? follower?.log else {
                throw EngineError.notPaused
            }
            if let why = failure.reason { throw EngineError.stopped(why) }
            let (log, end): (any EngineLog, LSN)
            do {
                if waiting != nil, options != PromotionOptions() { throw PromotionError.onlyFollowers }
                (log, end) = try waiting?.promote() ?? follower!.promote(options)  // One of them there is.
            } catch EngineError.disk(let error) where error.isFailedSync {
                // The kernel has marked what it could not write as clean: a second sync would say yes to nothing.
                throw stopForGood(error)
            }
            old.replace(with: log)
            let control = storage.control
            greatestRedo = max(greatestRedo, control.greatestRedo)
            installed.store(end.rawValue, ordering: .releasing)
            switchedAt.store(end.rawValue, ordering: .releasing)
            publish(through: end)
            beginWork(replayedBytes: 0)
            waiting = nil
            isPaused.store(false, ordering: .sequentiallyConsistent)
        }
    }

    deinit {
        follower?.stop()
        background.stop()
    }

    /// Takes a checkpoint, so that the next start has nothing to replay, and releases lock and files. Waits for the
    /// running transaction. All other calls throw `closed` afterwards. When the checkpoint fails, its error is thrown and
    /// the files are released all the same: nothing that was acknowledged is lost.
    public func close() throws {
        transactionLock.lock()
        defer { transactionLock.unlock() }
        guard !isClosed.load(ordering: .acquiring) else { return }
        follower?.stop()
        background.stop()
        var failed: (any Error)?
        if isPaused.load(ordering: .acquiring) {
            checkpointLock.lock()
        } else {
            repeat {
                do { try runCheckpoint(.atOnce, leaving: .stopped) } catch { failed = error }
                checkpointLock.lock()
                // Somebody else's checkpoint may have come between and said that the engine runs.
                if failed != nil || storage.control.state == .stopped { break }
                checkpointLock.unlock()
            } while true
        }
        isClosed.store(true, ordering: .sequentiallyConsistent)
        release()
        checkpointLock.unlock()
        if let failed { throw failed }
    }

    /// Stops without writing anything, as a crash would; releases lock and files.
    package func abandon() {
        isClosed.store(true, ordering: .sequentiallyConsistent)
        follower?.stop()
        background.stop()
        release()
    }

    private func release() {
        cache.gate.close()
        log.close()
        cache.store.close()
        storage.close()
    }

    func checkOpen() throws(EngineError) {
        if isClosed.load(ordering: .acquiring) { throw .closed }
    }

    /// Whether anything may still be acknowledged.
    func checkRunning() throws(EngineError) {
        try checkOpen()
        if isPaused.load(ordering: .acquiring) {
            if let follower { throw .follows(follower.status.leader) }
            if let target = pausedAt { throw .waitsAtTarget(target.description) }
        }
        if let why = failure.reason { throw .stopped(why) }
    }

    /// Whether a transaction may still begin or commit. What keeps house goes on.
    func checkWriting() throws(EngineError) {
        try checkRunning()
        if isPastWriteDeadline { throw .leaseLost }
    }

    // MARK: Reads

    /// Runs `body` on the newest published state. Waits for nothing but pages that must come from the disk;
    /// with `onlyResident` such a page makes the read throw `EngineError.notResident` instead.
    public func read<R>(onlyResident: Bool = false, _ body: (borrowing Snapshot) throws -> R) throws -> R {
        let slot = cache.readers.claim()
        defer { cache.readers.release(slot) }
        let lsn = try announce(slot)
        return try body(Snapshot(cache, slot, at: lsn, onlyResident: onlyResident))
    }

    /// A state to be read from many times, by any thread, until it is closed.
    public func makeSnapshot() throws -> SnapshotHandle {
        // A place is left for every reader, transaction and checkpoint: only who holds too many is refused.
        guard cache.readers.liveCount < ReaderSlots.heldAtMost else { throw EngineError.memoryExhausted }
        let slot = cache.readers.claim()
        do {
            return SnapshotHandle(cache, slot, at: try announce(slot))
        } catch {
            cache.readers.release(slot)
            throw error
        }
    }

    /// Announces the newest published LSN. Whoever prunes has either seen the announcement, or has raised the horizon
    /// before it looked: then this tries again with what was published since.
    @inline(__always)
    private func announce(_ slot: UnsafeMutablePointer<ReaderSlots.Slot>) throws(EngineError) -> LSN {
        try checkOpen()
        while true {
            let lsn = published.load(ordering: .acquiring)
            slot.pointee.lsn.store(lsn, ordering: .relaxed)
            atomicMemoryFence(ordering: .sequentiallyConsistent)
            if cache.pruneHorizon.load(ordering: .acquiring) <= lsn { return LSN(lsn) }
        }
    }

    // MARK: Writes

    /// Runs `body` in a transaction and commits it; when `body` throws, nothing has happened.
    @discardableResult
    public func write<R>(_ durability: Durability = .durable, _ body: (Transaction) throws -> R) throws -> R {
        let transaction = try beginTransaction()
        let result: R
        do {
            result = try body(transaction)
        } catch {
            transaction.rollback()
            throw error
        }
        guard transaction.isOpen else { return result }
        let staged = try transaction.stage()
        switch durability {
        case .durable:
            try flush(through: staged.end)
            guard mayAcknowledge else { throw EngineError.outcomeUnknown(staged.end) }
        case .asynchronous: publish(through: installedLSN)
        }
        return result
    }

    /// Begins a transaction, waiting for the running one. End it with `stage` or `rollback`, on any thread.
    public func beginTransaction() throws -> Transaction {
        try checkWriting()
        transactionLock.lock()
        return try begin()
    }

    /// Begins a transaction; `nil` when another is running.
    public func tryBeginTransaction() throws -> Transaction? {
        try checkWriting()
        return transactionLock.tryLock() ? try begin() : nil
    }

    private func begin() throws -> Transaction {
        do {
            try checkWriting()
            return try Transaction(self)
        } catch {
            transactionLock.unlock()
            throw error
        }
    }

    func transactionEnded() { transactionLock.unlock() }

    /// Returns when everything below `lsn` is durable and published. Many threads share a flush.
    public func flush(through lsn: LSN) throws {
        try checkOpen()
        do throws(WALError) {
            try log.flush(through: lsn)
        } catch { throw refusing(error) }
        publish(through: min(installedLSN, log.durableLSN))
    }

    /// Shows readers everything through `lsn`, whose pages are installed.
    func publish(through lsn: LSN) {
        var seen = published.load(ordering: .relaxed)
        while seen < lsn.rawValue {
            let (exchanged, original) = published.compareExchange(
                expected: seen, desired: lsn.rawValue, ordering: .sequentiallyConsistent)
            if exchanged {
                cache.prune(published: lsn, mark: log.durableMark)
                return
            }
            seen = original
        }
    }

    var checkpointsTaken: UInt64 { checkpointCount.load(ordering: .relaxed) }
    func countCheckpoint() { checkpointCount.wrappingAdd(1, ordering: .relaxed) }

    func setInstalled(_ lsn: LSN) { installed.store(lsn.rawValue, ordering: .releasing) }
    /// The end of the last commit whose pages are in the cache.
    var installedLSN: LSN { LSN(installed.load(ordering: .acquiring)) }

    /// What new snapshots see: everything committed below it.
    public var publishedLSN: LSN { LSN(published.load(ordering: .acquiring)) }
    /// Every byte of the log below is on the disk.
    public var durableLSN: LSN { log.durableLSN }
    /// The end of the log, durable or not.
    public var appendedLSN: LSN { log.appendedLSN }
}

/// Why an engine may acknowledge nothing any more: the first reason stays.
final class FailureLatch: Sendable {
    private let isSet = Atomic<Bool>(false)
    private let text = Mutex<String?>(nil)

    @inline(__always) var reason: String? { isSet.load(ordering: .acquiring) ? text.withLock { $0 } : nil }

    /// - Returns: whether this is the first.
    func set(_ why: String) -> Bool {
        text.withLock { text in
            if text != nil { return false }
            text = why
            isSet.store(true, ordering: .sequentiallyConsistent)
            return true
        }
    }
}
