import HoldfastCore
import HoldfastWAL
import Synchronization

/// The log of a node that waits at its recovery target, or follows: nothing can be appended until it is promoted, when the
/// new timeline's log takes its place. The engine refuses writes before they come here.
final class PausedLog: EngineLog, Sendable {
    private let reached: Atomic<UInt64>
    private let mark: Atomic<UInt64>
    private let promoted = Mutex<(any EngineLog)?>(nil)
    /// For those who send the log on and wait for more.
    private let monitor = Monitor()

    init(at end: LSN) {
        reached = Atomic(end.rawValue)
        mark = Atomic(end.rawValue)
    }

    /// How far a follower may write pages: versions behind it are kept for that.
    func advanceMark(to lsn: LSN) { mark.max(lsn.rawValue, ordering: .acquiringAndReleasing) }

    /// A follower has more of the log, durably.
    func advance(to lsn: LSN) {
        if reached.max(lsn.rawValue, ordering: .acquiringAndReleasing).oldValue < lsn.rawValue { wakePaused() }
    }

    private func wakePaused() {
        monitor.lock()
        monitor.broadcast()
        monitor.unlock()
    }
    private var end: LSN { LSN(reached.load(ordering: .acquiring)) }

    /// From now on every call goes to `log`.
    func replace(with log: any EngineLog) {
        promoted.withLock { $0 = log }
        wakePaused()
    }

    private var log: (any EngineLog)? { promoted.withLock { $0 } }

    private func required() -> any EngineLog {
        guard let log else { preconditionFailure("a node that waits at its target was asked to write its log") }
        return log
    }

    var appendedLSN: LSN { log?.appendedLSN ?? end }
    var durableLSN: LSN { log?.durableLSN ?? end }
    var durableMark: LSN { log?.durableMark ?? LSN(mark.load(ordering: .acquiring)) }
    var needsWitness: Bool { log?.needsWitness ?? false }
    func reserve(bytes: Int) throws(WALError) { try required().reserve(bytes: bytes) }
    func append(
        commit: CommitBuilder, first: TransactionID, last: TransactionID, time: Int64
    ) throws(WALError) -> AppendedRecord {
        try required().append(commit: commit, first: first, last: last, time: time)
    }
    func append(_ body: RecordBody) throws(WALError) -> AppendedRecord { try required().append(body) }
    func appendWitness() throws(WALError) -> LSN { try required().appendWitness() }
    func switchSegment() throws(WALError) -> LSN { try required().switchSegment() }
    func takeRedoPoint() -> LSN { required().takeRedoPoint() }
    func chain(at lsn: LSN) -> UInt32? { required().chain(at: lsn) }
    func flush(through lsn: LSN) throws(WALError) { try log?.flush(through: lsn) }
    func prepareAhead() throws(WALError) { try log?.prepareAhead() }
    func recycle(below lsn: LSN, isArchived: (SegmentName) -> Bool) throws(WALError) {
        try log?.recycle(below: lsn, isArchived: isArchived)
    }
    func waitForDurable(beyond lsn: LSN, milliseconds: Int, unless isNeedless: () -> Bool) {
        if let log { return log.waitForDurable(beyond: lsn, milliseconds: milliseconds, unless: isNeedless) }
        monitor.lock()
        defer { monitor.unlock() }
        // What came between the caller's look and the lock has woken nobody.
        guard end <= lsn, log == nil, !isNeedless() else { return }
        monitor.wait(milliseconds: milliseconds)
    }
    func wakeWaiters() {
        log?.wakeWaiters()
        wakePaused()
    }
    func close() { log?.close() }
}

/// How a node that waits at its target is opened for writing.
struct PausedRecovery: Sendable {
    let log: PausedLog
    let target: RecoveryTarget
    /// Runs the promotion; once.
    let promote: @Sendable () throws -> (log: any EngineLog, end: LSN)

    init(
        log: PausedLog, target: RecoveryTarget, promote: @escaping () throws -> (log: any EngineLog, end: LSN)
    ) {
        self.log = log
        self.target = target
        // What it captures is used by this closure alone from here on, and the engine calls it once, under a lock.
        nonisolated(unsafe) let body = promote
        self.promote = { try body() }
    }
}
