import Foundation
import HoldfastCore
import HoldfastRepository
import HoldfastWAL
import Synchronization

/// Takes the segments that a server marked `.ready` to the archive, several at once, and marks them `.done` in order.
///
/// A segment is marked only when it and its summary are durable in the repository, and only when every segment before
/// it in the queue is: so whatever dies when, what is not marked is pushed again, and equal content is welcome. The
/// server recycles only what is `.done`. While the repository is away the queue waits in `wal/`, and is worked off
/// when it is back.
package final class Archiver<D: Disk>: Sendable {
    package struct Options: Sendable {
        /// Segments pushed at once.
        package var workers = 2
        /// Seconds between two looks at an empty queue.
        package var pollSeconds = 0.2
        /// After a failed round: this long, doubled with each up to `longestRetrySeconds`.
        package var firstRetrySeconds = 0.5
        package var longestRetrySeconds = 30.0

        package init() {}
    }

    private let disk: D
    private let options: Options
    private let connect: @Sendable () throws -> WALArchive
    private let onRound: @Sendable (ArchiverState) -> Void

    private struct Shared {
        var state = ArchiverState()
        /// Opened at the first need, and anew after an error.
        var archive: WALArchive?
        /// In the archive, not marked yet since one before them is not.
        var pushed: Set<SegmentName> = []
    }
    /// Held for moments only.
    private let shared = Mutex(Shared())
    /// One round at a time. Taken before `shared`.
    private let round = Mutex<Void>(())
    private let signal = Signal()

    /// The condition guards all of it; that is why it may be shared.
    private final class Signal: @unchecked Sendable {
        let condition = NSCondition()
        var isRunning = false
        var stopped = false
        var awoken = false
    }

    /// - Parameters:
    ///   - disk: the data directory, whose lock the server holds.
    ///   - connect: opens the repository; called again after an error, and for as long as it is away.
    ///   - onRound: told after each round that pushed something or failed, from the archiver's thread.
    package init(
        _ disk: D, options: Options = Options(), connect: @escaping @Sendable () throws -> WALArchive,
        onRound: @escaping @Sendable (ArchiverState) -> Void = { _ in }
    ) {
        self.disk = disk
        self.options = options
        self.connect = connect
        self.onRound = onRound
    }

    package var state: ArchiverState { shared.withLock { $0.state } }

    // MARK: One round

    /// Works the queue off once; returns how many segments were marked. Throws the first error in the queue's order,
    /// after everything else was tried; what was pushed is kept in mind for the next round.
    @discardableResult
    package func archiveOnce() throws -> Int {
        try round.withLock { _ in
            do {
                let marked = try workQueueOff()
                shared.withLock {
                    $0.state.failedRounds = 0
                    $0.state.lastError = nil
                }
                return marked
            } catch {
                let diagnosis =
                    (error as? any DiagnosableError)?.diagnosis
                    ?? Diagnosis("archiving failed", why: printable("\(error)", limit: 200), status: .internalError)
                shared.withLock {
                    $0.state.failedRounds += 1
                    $0.state.lastError = diagnosis
                    $0.state.lastErrorAt = .now
                    $0.archive = nil
                }
                throw error
            }
        }
    }

    private func workQueueOff() throws -> Int {
        let queue = try readySegments()
        shared.withLock { shared in
            shared.state.waiting = queue.count
            shared.state.oldestWaiting = queue.first
            shared.pushed.formIntersection(queue)
        }
        guard !queue.isEmpty else { return 0 }
        let archive = try self.archive()
        let pushed = shared.withLock { $0.pushed }
        let results = push(queue.filter { !pushed.contains($0) }, SegmentPusher(disk: disk, archive: archive))
        var marked = 0
        for name in queue {
            if !pushed.contains(name) { try results[name]!.get() }  // Every other one was pushed just now.
            try markDone(name)
            marked += 1
        }
        return marked
    }

    /// The queue, in the order in which the log was written.
    package func readySegments() throws -> [SegmentName] {
        try disk.list("wal/archive_status").compactMap { entry in
            entry.hasSuffix(".ready") ? SegmentName(entry.dropLast(6)) : nil
        }.sorted()
    }

    private func archive() throws -> WALArchive {
        if let archive = shared.withLock({ $0.archive }) { return archive }
        let archive = try connect()
        shared.withLock { $0.archive = archive }
        return archive
    }

    /// Pushes all of them on threads made for it, and waits.
    private func push(
        _ names: [SegmentName], _ pusher: SegmentPusher<D>
    ) -> [SegmentName: Result<Void, any Error>] {
        let results = Mutex<[SegmentName: Result<Void, any Error>]>([:])
        let next = Atomic(0)
        DispatchQueue.concurrentPerform(iterations: min(max(1, options.workers), max(1, names.count))) { _ in
            while true {
                let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
                guard index < names.count else { return }
                let name = names[index]
                let result = Result { try pusher.push(name) }
                if case .success(let stored) = result {
                    shared.withLock { shared in
                        shared.pushed.insert(name)
                        if case .stored(let bytes) = stored { shared.state.storedBytes += bytes }
                    }
                }
                results.withLock { $0[name] = result.map { _ in } }
            }
        }
        return results.withLock { $0 }
    }

    /// The segment is durable in the archive before its mark changes, and the mark is durable before it counts.
    private func markDone(_ name: SegmentName) throws {
        try disk.rename(name.readyPath, to: name.donePath)
        try disk.syncDirectory("wal/archive_status")
        shared.withLock { shared in
            shared.pushed.remove(name)
            shared.state.waiting -= 1
            shared.state.lastArchived = name
            shared.state.lastArchivedAt = .now
            shared.state.archivedSegments += 1
        }
    }

    // MARK: The loop

    /// Begins to archive on a thread of its own, until `stop`.
    package func start() {
        signal.condition.lock()
        precondition(!signal.isRunning && !signal.stopped)
        signal.isRunning = true
        signal.condition.unlock()
        Thread.detachNewThread { self.run() }
    }

    /// Looks at the queue now, also while it waits after an error.
    package func wake() {
        signal.condition.lock()
        signal.awoken = true
        signal.condition.broadcast()
        signal.condition.unlock()
    }

    /// Ends the loop after the segments that are under way; what is not marked waits for the next start.
    package func stop() {
        signal.condition.lock()
        signal.stopped = true
        signal.condition.broadcast()
        while signal.isRunning { signal.condition.wait() }
        signal.condition.unlock()
    }

    private func run() {
        var retrySeconds = options.firstRetrySeconds
        while true {
            var pause = options.pollSeconds
            do {
                let marked = try archiveOnce()
                retrySeconds = options.firstRetrySeconds
                if marked > 0 { onRound(state) }
            } catch {
                onRound(state)
                pause = retrySeconds
                retrySeconds = min(retrySeconds * 2, options.longestRetrySeconds)
            }
            signal.condition.lock()
            let end = Date(timeIntervalSinceNow: pause)
            while !signal.stopped && !signal.awoken {
                if !signal.condition.wait(until: end) { break }
            }
            signal.awoken = false
            if signal.stopped {
                signal.isRunning = false
                signal.condition.broadcast()
                signal.condition.unlock()
                return
            }
            signal.condition.unlock()
        }
    }
}
