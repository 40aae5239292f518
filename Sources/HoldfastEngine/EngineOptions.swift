import Glibc
import HoldfastCore
import HoldfastWAL

/// How a write is acknowledged.
public enum Durability: Sendable {
    /// The call returns when the commit is on the disk; only then do readers see it.
    case durable
    /// The call returns, and readers see the commit, before it is on the disk: a crash may take back
    /// what was read. It becomes durable with the next flush, at most about a tenth of a second later.
    case asynchronous
}

/// What `Engine.initialize` may be told.
public struct InitializeOptions: Sendable {
    /// The new cluster's identity; random when `nil`.
    public var systemIdentifier: SystemIdentifier?
    /// Bytes that the page file gets at once, so that the first writes need no growth.
    public var pageFileBytes: Int

    public init(systemIdentifier: SystemIdentifier? = nil, pageFileBytes: Int = 1 << 20) {
        self.systemIdentifier = systemIdentifier
        self.pageFileBytes = pageFileBytes
    }
}

/// Budgets and habits of an engine. Memory is at most `cacheBytes + versionBytes + transactionBytes`
/// and some MiB for buffers.
public struct EngineOptions: Sendable {
    /// Bytes of pages kept in memory in their newest version.
    public var cacheBytes: Int
    /// Bytes of old versions kept for snapshots; beyond it the oldest snapshot gets `snapshotTooOld`.
    public var versionBytes: Int
    /// Bytes of pages that one transaction may change; beyond it `transactionTooLarge`.
    public var transactionBytes: Int
    /// A checkpoint begins when this many bytes were logged since the last one's redo point.
    public var checkpointWALBytes: Int
    /// A checkpoint begins when this many seconds have passed since the last one and something was logged.
    public var checkpointSeconds: Int
    /// Bytes of log that a slot may keep for a follower that is behind or away; a slot beyond it is invalidated.
    public var slotWALBytes: Int
    /// Whether finished segments wait for an archiver (`.ready`) and are kept until they are `.done`.
    /// `nil`: as the control file says.
    public var archiving: Bool?
    /// The background threads: checkpoints by their triggers, segments prepared ahead, idle witnesses.
    /// Tests that count I/O calls go without.
    public var runsBackgroundWork: Bool
    /// The two threads of a node that follows. A simulator, which decides from its seed what happens when, goes without: it
    /// calls `replayStep` and `keeperStep`.
    package var runsFollowerThreads = true
    /// Whether each commit's redo is carried out and compared with its pages before it is logged; a difference stops the
    /// engine. For whoever suspects the log: each commit then also copies, redoes and compares every page that it changed.
    public var verifiesRedo = false
    /// What `verifiesRedo` carries out; tests plant a wrong one.
    var redo: RedoVerifier.Redo = { change, page, end in try apply(change, to: page, commitEnd: end) }
    /// Which directory on which host this is, in one line: what a follower claimed before it crashed is taken up by itself alone.
    public var instance = ""
    /// Where a restored directory finds its log; needed while it holds `recovery.signal`.
    public var recovery: (any RecoverySource)?
    /// Called when the archive's log has been replayed to where it ends or the target is, before the pages are written: from
    /// where, to where, and in how many seconds. Segments that had to be waited for count.
    public var onReplayed: (@Sendable (_ from: LSN, _ to: LSN, _ seconds: Double) -> Void)?
    /// Microseconds since 1970; commits never go back behind it.
    public var now: @Sendable () -> Int64
    /// Called once, on the thread that met it, when the log or a page file could not be synced: nothing may be
    /// acknowledged after it. The default prints one line to stderr and ends the process with status 74.
    public var onFatal: @Sendable (any DiagnosableError) -> Void

    public init(
        cacheBytes: Int = 256 << 20, versionBytes: Int = 256 << 20, transactionBytes: Int = 256 << 20,
        checkpointWALBytes: Int = 1 << 30, checkpointSeconds: Int = 300, archiving: Bool? = nil,
        runsBackgroundWork: Bool = true, slotWALBytes: Int = 4 << 30
    ) {
        self.cacheBytes = cacheBytes
        self.versionBytes = versionBytes
        self.transactionBytes = transactionBytes
        self.checkpointWALBytes = checkpointWALBytes
        self.checkpointSeconds = checkpointSeconds
        self.archiving = archiving
        self.runsBackgroundWork = runsBackgroundWork
        self.slotWALBytes = slotWALBytes
        self.now = systemClockMicroseconds
        self.onFatal = endProcess
    }
}

/// The system's clock, in microseconds since 1970.
@Sendable public func systemClockMicroseconds() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000
}

/// One line on stderr, then the end of the process: with status 74, which a failed sync demands, or 70 when the engine
/// contradicts itself.
@Sendable public func endProcess(_ error: any DiagnosableError) {
    let line = "holdfast: fatal: " + error.diagnosis.description.replacing("\n", with: "; ") + "\n"
    _ = line.utf8.withContiguousStorageIfAvailable { write(2, $0.baseAddress, $0.count) }
    let status = error.diagnosis.status == .internalError ? ExitStatus.internalError : .inputOutput
    _exit(status.rawValue)
}
