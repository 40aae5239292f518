import HoldfastCore

public final class Engine: Sendable {
    /// Makes `disk`'s root, an empty or missing-content directory, the data directory of a new cluster.
    /// Durable when it returns; a directory that was left half made is refused by `init(opening:)`, and
    /// made anew by calling this again.
    public static func initialize(
        _ disk: some Disk, options: InitializeOptions = InitializeOptions()
    ) throws -> SystemIdentifier { unbuilt() }

    /// Locks the directory, recovers, and is ready for reads and writes when it returns.
    /// Throws `EngineError` (or `DiskError`, `WALError`), each a `DiagnosableError`.
    public init(opening disk: some Disk, options: EngineOptions = EngineOptions()) throws { unbuilt() }

    /// Checkpoint, so that the next start has nothing to replay; then releases lock and files. Waits for the running
    /// transaction. All other calls throw `EngineError.closed` afterwards.
    public func close() throws { unbuilt() }

    // MARK: Reads (never wait for a writer)

    /// Runs `body` on the newest published state. Blocks only for pages that must come from the disk;
    /// with `onlyResident` such a page makes the read throw `EngineError.notResident` instead.
    public func read<R>(onlyResident: Bool = false, _ body: (borrowing Snapshot) throws -> R) throws -> R { unbuilt() }

    /// A state to be read from many times, by any thread, until it is closed.
    public func makeSnapshot() throws -> SnapshotHandle { unbuilt() }

    // MARK: Writes (one at a time)

    /// Runs `body` in a transaction and commits it; when `body` throws, nothing has happened.
    public func write<R>(_ durability: Durability = .durable, _ body: (Transaction) throws -> R) throws -> R {
        unbuilt()
    }

    /// Begins a transaction, waiting for the running one. End it with `stage` or `rollback`, on any thread.
    public func beginTransaction() throws -> Transaction { unbuilt() }

    /// Begins a transaction; `nil` when another is running.
    public func tryBeginTransaction() throws -> Transaction? { unbuilt() }

    /// Returns when everything below `lsn` is durable and published. Many threads share a flush.
    public func flush(through lsn: LSN) throws { unbuilt() }

    /// What new snapshots see: the end of the last published commit.
    public var publishedLSN: LSN { unbuilt() }
    /// Every byte of the log below is on the disk.
    public var durableLSN: LSN { unbuilt() }
    /// The end of the log, durable or not.
    public var appendedLSN: LSN { unbuilt() }

    // MARK: Maintenance

    /// Returns when a checkpoint that began after the call is complete. Not paced.
    public func checkpoint() throws { unbuilt() }

    /// Closes the current WAL segment and goes on in the next, if anything was logged in it.
    /// - Returns: the end of the closed segment; durable.
    @discardableResult public func switchWAL() throws -> LSN { unbuilt() }

    /// The same, but only when something was committed since the last switch; else `nil`.
    @discardableResult public func switchWALIfCommitted() throws -> LSN? { unbuilt() }

    /// Logs a named restore point. `name` as `ObjectName` allows.
    /// - Returns: its LSN, which is the record's end; durable.
    public func restorePoint(_ name: String) throws -> LSN { unbuilt() }

    public var status: EngineStatus { unbuilt() }

    // MARK: Backup hooks

    /// Starts a backup: returns when its checkpoint is complete and the segment with the redo point is
    /// switched out. `fast` does not pace the checkpoint. Several may run at once.
    public func beginBackup(label: String, fast: Bool) throws -> BackupStart { unbuilt() }

    /// Ends a backup: logs its end and switches the segment; everything through `stopLSN` is durable.
    public func endBackup(_ token: BackupToken) throws -> BackupStop { unbuilt() }

    /// Forgets a backup. Unknown tokens are ignored.
    public func abandonBackup(_ token: BackupToken) { unbuilt() }

    /// The page files and how many bytes of each belong to the backup.
    public func backupFiles(_ token: BackupToken) throws -> [BackupFile] { unbuilt() }

    /// Reads pages as they are on the disk while none of them is being written. What lies behind the
    /// end of the files is zero. `buffer` holds `count * 8192` bytes.
    public func readPages(from page: PageNumber, count: Int, into buffer: UnsafeMutableRawBufferPointer) throws {
        unbuilt()
    }
}

func unbuilt() -> Never { fatalError("not built yet") }
