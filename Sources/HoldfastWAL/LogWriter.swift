import HoldfastCore
import Synchronization

/// Where a writer begins: what recovery, or `init`, found.
package struct LogStart: Sendable, Equatable {
    /// The log's end, in canonical form; zero lies behind it in its segment. `LogLayout.firstPosition` for a new log.
    package var position: LSN
    /// The CRC of the record that ends there; 0 for a new log.
    package var chain: UInt32
    /// The greatest mark that is durable.
    package var durableMark: LSN
    /// The latest time in the log, in microseconds since 1970.
    package var lastTime: Int64

    package init(position: LSN, chain: UInt32, durableMark: LSN, lastTime: Int64) {
        self.position = position
        self.chain = chain
        self.durableMark = durableMark
        self.lastTime = lastTime
    }

    package static let newLog = LogStart(
        position: LogLayout.firstPosition, chain: 0, durableMark: .zero, lastTime: 0)
}

package struct LogOptions: Sendable, Equatable {
    /// What may wait in memory, in each of two buffers; at least 2 MiB.
    package var bufferBytes = 4 << 20
    /// Segments that `prepareAhead` and `recycle` keep ready behind the current one.
    package var segmentsAhead = 2
    /// Complete segments are marked `.ready`, and kept until they were archived.
    package var isArchiving = false

    package init() {}
}

/// The start and end of something appended.
package struct AppendedRecord: Sendable, Equatable {
    package let start: LSN
    package let end: LSN
    /// The time it bears, not below that of any record before it; 0 for kinds without.
    package let time: Int64
}

/// Appends records to the log and makes them durable.
///
/// Appending is one thread's at a time (the engine's writer lock); flushing is anybody's. Records wait in memory
/// until a flush takes them all as one batch: marks, chain and CRCs are stamped then, after the previous flush has
/// returned, so that a mark never says more than was durable. One thread writes and syncs, on its own time; those
/// that come meanwhile wait and form the next batch.
///
/// When `flush(through:)` returns, every byte below is durable. A write or sync that fails poisons the writer for
/// good: nothing is retried, `onFatal` is called once, and every later call throws `poisoned`.
///
/// Sendable: `monitor` guards all that varies, but for what the one flusher owns while `isFlushing` is set
/// (the batch it took, `chain`), and the atomics.
package final class LogWriter<D: Disk>: @unchecked Sendable {
    package let identity: LogIdentity
    let options: LogOptions
    let files: SegmentFiles<D>
    let checksum: RecordChecksum
    let onFatal: @Sendable (WALError) -> Void

    // Guarded by `monitor`.
    let monitor = Monitor()
    var filling: LogBuffer
    var spare: LogBuffer
    var isFlushing = false
    var failure: DiskError?
    var lastTime: Int64
    var lastIsWitness = false
    /// Positions whose chain value is wanted, and the value once it is known.
    var points: [(lsn: LSN, chain: UInt32?)] = []
    /// Set by a planted fault only: a position between two parts of a commit.
    var insideCommit: LSN?
    /// Complete segments that could not be marked yet.
    var unmarked: [SegmentName] = []
    /// The CRC of the last record handed to the disk; the flusher's while `isFlushing`.
    var chain: UInt32

    let appendedBits: Atomic<UInt64>
    let durableBits: Atomic<UInt64>
    let markBits: Atomic<UInt64>

    /// Opens the segment at `start`, which recovery has made the end of the log. `wal/` and `wal/archive_status/`
    /// exist. `onFatal` may be called from any thread that flushes.
    package init(
        disk: D, identity: LogIdentity, start: LogStart, options: LogOptions = LogOptions(),
        onFatal: @escaping @Sendable (WALError) -> Void
    ) throws(WALError) {
        precondition(LogLayout.canonical(start.position) == start.position, "a position between records")
        precondition(options.bufferBytes >= 2 * LogLayout.maximumRecordBytes)
        self.identity = identity
        self.options = options
        self.onFatal = onFatal
        checksum = RecordChecksum(system: identity.system, timeline: identity.timeline)
        filling = LogBuffer(capacity: options.bufferBytes)
        spare = LogBuffer(capacity: options.bufferBytes)
        lastTime = start.lastTime
        chain = start.chain
        appendedBits = Atomic(start.position.rawValue)
        durableBits = Atomic(start.position.rawValue)
        markBits = Atomic(start.durableMark.rawValue)
        files = try onDisk { () throws(DiskError) in
            try SegmentFiles(disk: disk, timeline: identity.timeline, position: start.position)
        }
        if options.isArchiving { try markCompleted(below: start.position) }
    }

    /// The end of what was appended.
    package var appendedLSN: LSN { LSN(appendedBits.load(ordering: .acquiring)) }
    /// Every byte below is durable.
    package var durableLSN: LSN { LSN(durableBits.load(ordering: .acquiring)) }
    /// The greatest mark that is itself durable: page versions at or below it may be written.
    package var durableMark: LSN { LSN(markBits.load(ordering: .acquiring)) }
    /// `true` once a write or sync has failed.
    package var isPoisoned: Bool { locked { failure != nil } }

    /// The redo point of a checkpoint: the end of what was appended. The chain's value there is kept for `chain(at:)`.
    package func takeRedoPoint() -> LSN {
        locked {
            if planted(.redoPointInsideCommit), let inside = insideCommit {
                insideCommit = nil
                return inside
            }
            let lsn = appendedLSN
            let isStamped = !isFlushing && durableLSN == lsn
            // Checkpoints take one at a time; those of checkpoints that failed are forgotten in the end.
            if points.count >= 16 { points.removeFirst() }
            points.append((lsn, isStamped ? chain : nil))
            return lsn
        }
    }

    /// The chain's value at a point taken, once everything below was flushed; `nil` before. Forgets the point.
    package func chain(at lsn: LSN) -> UInt32? {
        locked {
            guard let index = points.firstIndex(where: { $0.lsn == lsn && $0.chain != nil }) else { return nil }
            return points.remove(at: index).chain
        }
    }

    /// Makes segments ahead of the writer, so that commits need not: called by a background thread.
    /// Throws `disk` when there is no room; nothing is lost by that.
    package func prepareAhead() throws(WALError) {
        if let obstacle = try markReady([]) { throw .disk(obstacle) }
        let current = SegmentNumber(containing: appendedLSN)
        for ahead in 0...UInt64(options.segmentsAhead) {
            try make(through: SegmentNumber(current.rawValue + ahead))
        }
    }

    /// Recycles or removes segments that lie below `lsn` and are no longer needed. With archiving on, only those for
    /// which `isArchived` says so.
    package func recycle(below lsn: LSN, isArchived: (SegmentName) -> Bool) throws(WALError) {
        let ahead = SegmentNumber(SegmentNumber(containing: appendedLSN).rawValue + UInt64(options.segmentsAhead))
        // Never the current one, whatever was asked for.
        let bound = min(lsn, SegmentNumber(containing: durableLSN).start)
        try fatalUnlessNoSpace { () throws(DiskError) in
            try files.recycle(below: bound, ahead: ahead) {
                !options.isArchiving || isArchived($0) || planted(.recycleUnarchived)
            }
        }
    }

    /// Closes the files. Nothing may wait to be flushed, and nobody uses the writer afterwards.
    package func close() { files.closeAll() }

    func make(through number: SegmentNumber) throws(WALError) {
        try fatalUnlessNoSpace { () throws(DiskError) in try files.make(through: number) }
    }

    /// Runs calls that may meet a full disk and go on. A failed sync is fatal, whatever it was of; other errors
    /// have changed nothing that is trusted.
    func fatalUnlessNoSpace(_ body: () throws(DiskError) -> Void) throws(WALError) {
        do throws(DiskError) {
            try body()
        } catch {
            if error.isFailedSync { throw poison(error) }
            throw .disk(error)
        }
    }

    /// Stops the writer for good. Returns what to throw.
    func poison(_ error: DiskError) -> WALError {
        let isFirst = locked {
            defer { monitor.wakeAll() }
            if failure != nil { return false }
            failure = error
            return true
        }
        if isFirst { onFatal(.poisoned(error)) }
        return .poisoned(error)
    }

    func locked<R>(_ body: () -> R) -> R {
        monitor.lock()
        defer { monitor.unlock() }
        return body()
    }
}

extension DiskError {
    /// A sync of a file or directory that failed for another reason than want of space.
    var isFailedSync: Bool {
        !isNoSpace
            && (operation == "fdatasync" || operation == "sync" || operation.hasPrefix("sync directory")
                || operation == "syncDirectory")
    }
}
