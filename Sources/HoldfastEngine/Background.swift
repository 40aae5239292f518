import Glibc
import HoldfastCore
import HoldfastWAL
import Synchronization

/// The engine's two threads. The *keeper* wakes every 50 ms: flushes what waits, witnesses a log that has been idle for
/// 100 ms, makes segments ahead, drops versions nobody needs, frees pages of cleared trees. The *checkpointer* takes
/// checkpoints by their triggers, and writes pages out when the cache is full of dirty ones.
///
/// The threads hold the engine only while they work, so that one that was dropped without `close` goes away.
final class Background: @unchecked Sendable {
    // Sendable: all mutable state is guarded by `monitor` or atomic.
    private let monitor = Monitor()
    private var running = 0
    private var isAwake = false
    private let stopping = Atomic<Bool>(false)
    private let reclaiming = Atomic<Bool>(true)

    var isStopping: Bool { stopping.load(ordering: .acquiring) }

    /// Work has come for the checkpointer.
    func wake() {
        monitor.lock()
        isAwake = true
        monitor.broadcast()
        monitor.unlock()
    }

    /// Pages of cleared trees wait to be freed.
    func reclaim() { reclaiming.store(true, ordering: .releasing) }
    var isReclaiming: Bool { reclaiming.load(ordering: .acquiring) }
    func reclaimed() { reclaiming.store(false, ordering: .releasing) }

    func start(_ engine: Engine, replayedBytes: Int) {
        let keeper = Keeper(engine, self)
        let checkpointer = Checkpointer(engine, self, isDue: replayedBytes > SegmentNumber.bytes)
        monitor.lock()
        running = 2
        monitor.unlock()
        startThread { [self] in
            while waitFor(milliseconds: 50) { keeper.turn() }
            ended()
        }
        startThread { [self] in
            while waitFor(milliseconds: 100) { checkpointer.turn() }
            ended()
        }
    }

    /// Stops both threads. Waits for them, unless one of them is calling.
    func stop() {
        stopping.store(true, ordering: .sequentiallyConsistent)
        monitor.lock()
        monitor.broadcast()
        let isOwnThread = Self.isBackgroundThread
        while running > 0, !isOwnThread { monitor.wait() }
        monitor.unlock()
    }

    private func ended() {
        monitor.lock()
        running -= 1
        monitor.broadcast()
        monitor.unlock()
    }

    private func waitFor(milliseconds: Int) -> Bool {
        monitor.lock()
        if !isStopping, !isAwake { monitor.wait(milliseconds: milliseconds) }
        isAwake = false
        monitor.unlock()
        return !isStopping
    }

    /// Marks the two threads, one of which may be the last to let go of an engine.
    private static let marker: pthread_key_t = {
        var key = pthread_key_t()
        pthread_key_create(&key, nil)
        return key
    }()
    private static var isBackgroundThread: Bool { pthread_getspecific(marker) != nil }

    /// A thread that cannot be started is one that has ended.
    private func startThread(_ body: @escaping @Sendable () -> Void) {
        let isStarted = DetachedThread.start {
            Self.markThread()
            body()
        }
        if !isStarted { ended() }
    }

    private static func markThread() { pthread_setspecific(marker, UnsafeRawPointer(bitPattern: 1)) }
}

/// One turn after the other on its own thread.
private final class Keeper: @unchecked Sendable {
    // Used by the keeper thread only.
    private weak var engine: Engine?
    private unowned let background: Background
    private var seen = LSN.zero
    private var quietSince: Int64 = 0
    /// Slots of the page cache that were in use at the turn before, and the end of what was touched ahead.
    private var usedSlots = 0
    private var touchedSlots = 0

    init(_ engine: Engine, _ background: Background) {
        self.engine = engine
        self.background = background
    }

    func turn() {
        guard let engine, engine.failure.reason == nil else { return }
        // Want of space and the like: commits meet and report it, and the next turn tries again.
        do {
            try engine.log.prepareAhead()
            engine.preparing.withLock { $0 = nil }
        } catch { engine.preparing.withLock { $0 = error.description } }
        do {
            try engine.boundSlots()
            // Commits that nobody waits for become durable within a turn or two.
            if engine.log.durableLSN < seen { try engine.flush(through: seen) }
            let now = monotonicMicroseconds()
            let appended = engine.log.appendedLSN
            if appended != seen {
                seen = appended
                quietSince = now
            } else if now - quietSince >= 100_000, engine.log.needsWitness {
                try engine.raiseMark(to: seen)
                seen = engine.log.appendedLSN
            }
        } catch { engine.preparing.withLock { $0 = "\(error)" } }
        engine.cache.prune(published: engine.publishedLSN, mark: engine.log.durableMark)
        engine.cache.trim()
        touchAhead(engine.cache)
        reclaim(engine)
    }

    /// While the cache grows, its next memory is touched here and not by those who fill it: the kernel zeroes it then.
    /// As much as two turns have used lately; nothing when it does not grow.
    private func touchAhead(_ cache: PageCache) {
        let used = cache.usedSlots
        defer { usedSlots = used }
        guard used > usedSlots else { return }
        touchedSlots = max(touchedSlots, used)
        let wanted = used + min(2 * (used - usedSlots), (8 << 20) / Page.bytes)
        guard wanted > touchedSlots, cache.frames.populate(from: touchedSlots, count: wanted - touchedSlots) else {
            return
        }
        touchedSlots = wanted
    }

    /// Frees pages of cleared trees for some milliseconds, whenever no transaction runs.
    private func reclaim(_ engine: Engine) {
        let start = monotonicMicroseconds()
        do {
            while background.isReclaiming, !background.isStopping, monotonicMicroseconds() - start < 20_000 {
                guard let transaction = try engine.tryBeginTransaction() else { return }
                do {
                    let isMore = try transaction.reclaimSome(pages: 256)
                    // Before the commit: a clear that comes behind it asks again.
                    if !isMore { background.reclaimed() }
                    _ = try transaction.stage()
                } catch {
                    transaction.rollback()
                    throw error
                }
                // Published with the next flush: other transactions' commits below it may not be durable yet.
            }
        } catch { engine.preparing.withLock { $0 = "\(error)" } }
    }
}

private final class Checkpointer: @unchecked Sendable {
    // Used by the checkpointer thread only.
    private weak var engine: Engine?
    private unowned let background: Background
    private var isDue: Bool
    private var last = monotonicMicroseconds()

    init(_ engine: Engine, _ background: Background, isDue: Bool) {
        self.engine = engine
        self.background = background
        self.isDue = isDue
    }

    func turn() {
        guard let engine, engine.failure.reason == nil else { return }
        do {
            while engine.cache.isCrowded, !background.isStopping {
                if try engine.cache.writeOutSome(atMost: 1024) == 0 { break }
            }
            let logged = engine.log.appendedLSN - engine.storage.control.redo.lsn
            let seconds = Int((monotonicMicroseconds() - last) / 1_000_000)
            let byTime =
                seconds >= engine.checkpointSeconds.load(ordering: .relaxed) && engine.hasCommitsSinceCheckpoint
            if isDue || logged >= engine.checkpointWALBytes.load(ordering: .relaxed) || byTime {
                try engine.runCheckpoint(.spread, leaving: .running)
                isDue = false
                last = monotonicMicroseconds()
            }
            engine.checkpointing.withLock { $0 = nil }
        } catch {
            // Shown in the status; the next turn tries again.
            engine.checkpointing.withLock { $0 = "\(error)" }
            pause(milliseconds: 200)
        }
    }
}

func pause(milliseconds: Int) { usleep(UInt32(milliseconds) * 1000) }
