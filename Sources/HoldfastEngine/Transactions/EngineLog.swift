import HoldfastCore
import HoldfastWAL

/// The log's writer without its disk: what keeps `Engine`, `Snapshot` and `Transaction` free of generics.
protocol EngineLog: AnyObject, Sendable {
    var appendedLSN: LSN { get }
    var durableLSN: LSN { get }
    var durableMark: LSN { get }
    var needsWitness: Bool { get }
    func reserve(bytes: Int) throws(WALError)
    func append(
        commit: CommitBuilder, first: TransactionID, last: TransactionID, time: Int64
    ) throws(WALError) -> AppendedRecord
    func append(_ body: RecordBody) throws(WALError) -> AppendedRecord
    func appendWitness() throws(WALError) -> LSN
    func switchSegment() throws(WALError) -> LSN
    func takeRedoPoint() -> LSN
    func chain(at lsn: LSN) -> UInt32?
    func flush(through lsn: LSN) throws(WALError)
    func prepareAhead() throws(WALError)
    func recycle(below lsn: LSN, isArchived: (SegmentName) -> Bool) throws(WALError)
    /// Returns when the log is durable beyond `lsn`, after so long, or when `wakeWaiters` is called. `isNeedless` is
    /// asked before the wait.
    func waitForDurable(beyond lsn: LSN, milliseconds: Int, unless isNeedless: () -> Bool)
    func wakeWaiters()
    func close()
}

extension LogWriter: EngineLog {}

/// The rest of the data directory without its disk.
protocol EngineStorage: AnyObject, Sendable {
    var control: ControlData { get }
    /// WAL is kept from here: the lower redo point of the control file's slots.
    var oldestRedo: LSN { get }
    /// Durable when it returns.
    func writeControl(_ data: ControlData) throws(DiskError)
    func isArchived(_ name: SegmentName) -> Bool
    func segmentsToArchive() -> Int
    /// Reads segments of `wal/`; for one thread.
    func makeSegmentSource() -> any SegmentSource
    /// Whether the name is in `wal/` now.
    func hasSegment(_ name: SegmentName) throws(DiskError) -> Bool
    /// The branches that lead to the control file's timeline.
    func timelineHistory() throws -> TimelineHistory
    /// The files in `slots/`, by name; none where the directory is missing.
    func readSlots() throws(DiskError) -> [String: [UInt8]]
    /// Durable when it returns.
    func writeSlot(_ name: String, _ bytes: [UInt8]) throws(DiskError)
    /// Durable when it returns.
    func removeSlot(_ name: String) throws(DiskError)
    /// Closes the control file and releases the directory's lock.
    func close()
}

final class DiskStorage<D: Disk>: EngineStorage {
    let disk: D
    let file: ControlFile<D>

    init(_ disk: D, _ file: ControlFile<D>) {
        self.disk = disk
        self.file = file
    }

    var control: ControlData { file.current }
    var oldestRedo: LSN { file.oldestRedo }
    func writeControl(_ data: ControlData) throws(DiskError) { try file.write(data) }

    func isArchived(_ name: SegmentName) -> Bool {
        // An error to look is not a yes: the segment stays.
        do throws(DiskError) { return try disk.exists(name.donePath) } catch { return false }
    }

    func segmentsToArchive() -> Int {
        do throws(DiskError) {
            return try disk.list("wal/archive_status").reduce(0) { $0 + ($1.hasSuffix(".ready") ? 1 : 0) }
        } catch { return 0 }
    }

    func close() {
        file.close()
        disk.unlock()
    }
}
