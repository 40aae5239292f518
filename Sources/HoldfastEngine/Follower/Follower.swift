import HoldfastCore
import HoldfastWAL
import Synchronization

/// A follower as its engine sees it, without its disk.
protocol FollowerDriver: LogFollower {
    var log: PausedLog { get }
    var status: FollowerStatus { get }
    /// The branches that it follows; once promoted, with its own.
    var history: TimelineHistory { get }
    /// Below what the leader's whole segments are archived, as it said.
    var archivedUpstream: LSN { get }
    /// Begins to replay, to keep house and to flush. Holds the engine only while it works. Without threads of its own it
    /// waits to be told.
    func start(_ engine: Engine)
    /// What the replaying thread does until it would wait, at most so many readings of the log to its end.
    func replayStep(turns: Int)
    /// What the keeper does at one turn.
    func keeperStep()
    /// Ends its threads; returns when they have ended. May be called again.
    func stop()
    /// Returns the control file behind a restartpoint that was taken as far as the leader's checkpoints allow.
    func beginBackup() throws -> ControlData
    /// The end of a backup that started on this timeline, with this token.
    func endBackup(_ timeline: TimelineID, _ token: TimelineToken) throws -> LogPlace
    /// A snapshot at the LSN that `choose` names; see `Engine.snapshot(meeting:)`.
    func snapshot(meeting choose: (_ shown: LSN) throws -> LSN) throws -> SnapshotHandle
    /// Replays what was received, and opens a new timeline. When it throws, the node follows again: unless the promotion is
    /// so far that it can only be finished, by another call or by a start.
    func promote(_ options: PromotionOptions) throws -> (log: any EngineLog, end: LSN)
}

/// Replays a leader's log with readers about, for as long as the node follows.
///
/// **Where the log comes from.** The replaying thread reads `FollowerSegments`: `wal/`, else the archive. Where both end it
/// makes a `ReceivedLog`, which a stream from a leader fills (`LogFollower`, called by whoever holds the connection). While
/// no stream runs it looks into the archive again, and at claims of newer timelines; so archive and stream take turns.
///
/// **What is durable before what.** Only durable log is replayed. Pages are written up to the minimum recovery point, which
/// the control file has durably before. A restartpoint takes over a redo point of the leader, behind which every page's first
/// change is an image, once all pages below it are on the disk.
///
/// **Threads**: the replaying one; the keeper, who writes pages, takes restartpoints and makes segments ahead; the
/// receiving one, which is not this type's; the flushing one, which makes durable what has come while more comes; and
/// whoever begins or ends a backup. Locks, in this order: `receiving` (around what
/// the receiving thread does), `restarting` (a restartpoint at a time), `monitor` (what the threads tell each other), the
/// engine's commit lock, `controlling` (the control file).
final class Follower<D: Disk>: FollowerDriver, @unchecked Sendable {
    // Sendable: see the locks; `replay`, `segments`, `writes` and `batch` are the replaying thread's while it runs.
    let disk: D
    let file: ControlFile<D>
    let options: EngineOptions
    let source: any FollowerSource
    let signal: StandbySignal
    let cache: PageCache
    let redo: Redo
    let segments: FollowerSegments<D>
    let replay: Replay<FollowerSegments<D>>
    let failure: FailureLatch
    let log: PausedLog

    let writes: WriteSet
    var batch = Batch()
    weak var engine: Engine?

    let receiving = Monitor()
    let restarting = Monitor()
    let monitor = Monitor()
    /// Guarded by `monitor`.
    var state: State
    let controlling = Monitor()
    /// Who is told that positions have moved.
    let observer = Mutex<(@Sendable () -> Void)?>(nil)
    private let applied: Atomic<UInt64>
    /// Whether `state.meeting` is set: looked at before each commit.
    let meets = Atomic(false)
    /// How far the log was flushed at the keeper's last turn. The keeper's own.
    var flushedAtLastTurn = LSN.zero

    /// Commits that were carried out and not yet shown to readers.
    struct Batch {
        var first = LSN.max
        var end = LSN.zero
        var bytes = 0
    }

    struct State {
        var history: TimelineHistory
        var received: ReceivedLog<D>?
        var isStreaming = false
        /// The replaying thread looks at archive and timelines: no stream may begin.
        var isLooking = false
        /// The archive may have what the stream has not: look at once.
        var looksNow = false
        var isPromoting = false
        var isStopping = false
        /// The three, and callers that write pages or the control file.
        var threads = 0
        /// The stream's timeline ends here, and this is how it goes on.
        var ending: (lsn: LSN, history: TimelineHistory)?
        var checkpoint: ReplayedCheckpoint?
        /// The last commit that readers are shown, or are about to be.
        var lastCommit: LogPlace?
        /// The end of a record behind the redo point.
        var anchor: LogPlace?
        var phase = FollowerStatus.Phase.archive
        var leader: String?
        var leaderLSN = LSN.zero
        var leaderClock: Int64 = 0
        var archived = LSN.zero
        var problem: String?
        /// Replay met what it cannot go on behind: the node serves what it has.
        var broken: String?
        var faults = 0
        var hasReadItsLog = false
        var meeting: ReplayMeeting?
    }

    init(
        disk: D, file: ControlFile<D>, options: EngineOptions, source: any FollowerSource, signal: StandbySignal,
        cache: PageCache, redo: Redo, segments: FollowerSegments<D>, replay: Replay<FollowerSegments<D>>,
        failure: FailureLatch
    ) {
        self.disk = disk
        self.file = file
        self.options = options
        self.source = source
        self.signal = signal
        self.cache = cache
        self.redo = redo
        self.segments = segments
        self.replay = replay
        self.failure = failure
        writes = WriteSet(cache)
        log = PausedLog(at: replay.reader.position)
        applied = Atomic(replay.reader.position.rawValue)
        state = State(history: replay.reader.history)
    }

    func locked<R>(_ body: (inout State) throws -> R) rethrows -> R {
        monitor.lock()
        defer { monitor.unlock() }
        return try body(&state)
    }

    var history: TimelineHistory { locked { $0.history } }
    var archivedUpstream: LSN { locked { $0.archived } }
    var appliedLSN: LSN { LSN(applied.load(ordering: .acquiring)) }

    /// Everything below `lsn` is shown to readers.
    func setApplied(_ lsn: LSN) {
        applied.max(lsn.rawValue, ordering: .acquiringAndReleasing)
        monitor.lock()
        monitor.broadcast()
        monitor.unlock()
        tellProgress()
    }

    // MARK: Beginning and end

    /// Replay in place is over: from `end` on there are readers.
    func handOver(at end: LSN) {
        log.advance(to: end)
        setApplied(end)
        cache.follow(self)
        locked { state in
            state.lastCommit = replay.lastCommit
            state.anchor = replay.firstRecord
        }
        replay.applier = { [unowned self] commit in try apply(commit) }
        replay.onCheckpoint = { [unowned self] checkpoint in locked { $0.checkpoint = checkpoint } }
    }

    func start(_ engine: Engine) {
        self.engine = engine
        guard options.runsFollowerThreads else { return }
        run { $0.replayLoop() }
        run { $0.keeperLoop() }
        run { $0.flushLoop() }
    }

    private func run(_ body: @escaping @Sendable (Follower) -> Void) {
        locked { $0.threads += 1 }
        let isStarted = DetachedThread.start { [self] in
            body(self)
            ended()
        }
        if !isStarted { ended() }
    }

    func ended() {
        locked { $0.threads -= 1 }
        monitor.lock()
        monitor.broadcast()
        monitor.unlock()
    }

    func stop() {
        monitor.lock()
        state.isStopping = true
        state.received?.wake()
        monitor.broadcast()
        while state.threads > 0 { monitor.wait() }
        let received = state.received
        state.received = nil
        monitor.unlock()
        // Whoever receives has left, or meets the stop.
        receiving.lock()
        received?.close()
        receiving.unlock()
        source.replayEnded()
    }

    var isStopping: Bool { locked { $0.isStopping } }

    /// Waits, unless the node stops or is to be promoted.
    func pause(milliseconds: Int) {
        monitor.lock()
        if options.runsFollowerThreads, !state.isStopping, !state.isPromoting {
            monitor.wait(milliseconds: milliseconds)
        }
        monitor.unlock()
    }

    // MARK: For others

    var positions: FollowerPositions {
        let received = locked { $0.received }
        let applied = appliedLSN
        let flushed = max(received?.durableLSN ?? applied, applied)
        return FollowerPositions(
            received: max(received?.receivedLSN ?? flushed, flushed),
            flushed: planted(.acknowledgeReceived) ? max(received?.receivedLSN ?? flushed, flushed) : flushed,
            applied: applied)
    }

    var status: FollowerStatus {
        // With the archive away it may stand before log that it had passed in an earlier life. Asked in this order, since both
        // move.
        let known = LogLayout.canonical(file.current.knownDurableEnd)
        let positions = positions
        let isThere = positions.flushed >= known
        return locked { state in
            FollowerStatus(
                phase: state.isStreaming ? .streaming : state.phase, positions: positions, leader: state.leader,
                leaderLSN: max(state.leaderLSN, positions.flushed), leaderClock: state.leaderClock,
                problem: state.broken ?? state.problem, faults: state.faults,
                hasReadItsLog: state.hasReadItsLog && isThere)
        }
    }

    func waitApplied(beyond lsn: LSN, milliseconds: Int) {
        monitor.lock()
        if appliedLSN <= lsn, !state.isStopping { monitor.wait(milliseconds: milliseconds) }
        monitor.unlock()
    }
}

// MARK: The control file, and how far pages may be written

extension Follower: DurabilitySource {
    /// The minimum recovery point that the control file has.
    var durableMark: LSN { log.durableMark }

    func raiseMark() throws(EngineError) { _ = try raiseMinimum(to: engine?.installedLSN ?? appliedLSN) }

    /// Pages through `lsn` (`nil`: through what was read) are about to be written: the control file says so first.
    func raiseMinimum(to lsn: LSN?) throws(EngineError) -> LSN {
        let target = lsn ?? replay.reader.position
        try updateControl { control in
            guard target > control.minimumRecoveryPoint?.lsn ?? .zero, !planted(.noMinimumRecoveryPoint) else {
                return false
            }
            if planted(.minimumNotRaised) { return false }
            control.minimumRecoveryPoint = .init(timeline: history.timeline(at: target), lsn: target)
            // What was replayed had been durable.
            control.knownDurableEnd = max(control.knownDurableEnd, target)
            return true
        }
        log.advanceMark(to: target)
        return target
    }

    /// The log was here up to `lsn`, and some of it is in the archive alone: while that is away, a restart that does not get
    /// so far must not be taken for all that this node had confirmed.
    func raiseDurableEnd(to lsn: LSN) throws(EngineError) {
        try updateControl { control in
            guard lsn > control.knownDurableEnd else { return false }
            control.knownDurableEnd = lsn
            return true
        }
    }

    /// Changes the control file durably, when `body` says that it did. A failed sync is fatal.
    func updateControl(_ body: (inout ControlData) -> Bool) throws(EngineError) {
        controlling.lock()
        defer { controlling.unlock() }
        var control = file.current
        guard body(&control) else { return }
        do throws(DiskError) {
            try file.write(control)
        } catch {
            throw error.isFailedSync ? fatal(error) : .disk(error)
        }
    }

    func fatal(_ error: DiskError) -> EngineError {
        let stopped = EngineError.stopped(error.description)
        if failure.set(error.description) { options.onFatal(stopped) }
        return stopped
    }
}
