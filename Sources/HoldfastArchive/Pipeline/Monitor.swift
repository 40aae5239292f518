import Glibc
import Synchronization

/// Says "stop" from any thread; workers look at it at least ten times a second.
package final class CancellationFlag: Sendable {
    private let flag = Atomic<Bool>(false)
    package init() {}
    package func cancel() { flag.store(true, ordering: .relaxed) }
    package var isCancelled: Bool { flag.load(ordering: .relaxed) }
}

/// State shared by a pipeline's threads, and the waiting for it to change.
///
/// `@unchecked Sendable`: `state` is touched only inside `withLock`, which holds `mutex`.
final class Monitor<State>: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var state: State

    init(_ state: State) {
        self.state = state
        mutex.initialize(to: pthread_mutex_t())
        condition.initialize(to: pthread_cond_t())
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Runs `body` alone; what it changed is announced to all who wait.
    func withLock<R>(_ body: (inout State) throws -> R) rethrows -> R {
        pthread_mutex_lock(mutex)
        defer {
            pthread_cond_broadcast(condition)
            pthread_mutex_unlock(mutex)
        }
        return try body(&state)
    }

    /// Runs `body` whenever the state may have changed, and every 100 ms, until it returns something.
    func wait<R>(_ body: (inout State) throws -> R?) rethrows -> R {
        pthread_mutex_lock(mutex)
        defer {
            pthread_cond_broadcast(condition)
            pthread_mutex_unlock(mutex)
        }
        while true {
            if let result = try body(&state) { return result }
            var until = timespec()
            clock_gettime(CLOCK_REALTIME, &until)
            until.tv_nsec += 100_000_000
            if until.tv_nsec >= 1_000_000_000 {
                until.tv_nsec -= 1_000_000_000
                until.tv_sec += 1
            }
            pthread_cond_timedwait(condition, mutex, &until)
        }
    }
}

/// Threads made for blocking work, joined before the call returns.
enum WorkerThreads {
    private final class Start: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    /// Runs `body` on `count` threads and returns when all have ended. Throws when not one could be started.
    static func run(_ count: Int, _ body: @escaping @Sendable () -> Void) throws(ArchiveError) {
        var threads: [pthread_t] = []
        for _ in 0..<count {
            var thread = pthread_t()
            let start = Unmanaged.passRetained(Start(body))
            let code = pthread_create(
                &thread, nil,
                { argument in
                    Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue().body()  // as passed below
                    return nil
                }, start.toOpaque())
            if code != 0 {
                start.release()
                // Fewer threads do the same work; none at all is an error.
                if threads.isEmpty {
                    throw .system(.init(operation: "pthread_create", path: "worker", errno: code))
                }
                break
            }
            threads.append(thread)
        }
        for thread in threads { pthread_join(thread, nil) }
    }
}

/// The monotonic clock, in seconds.
func monotonicSeconds() -> Double {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
}
