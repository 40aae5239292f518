import Glibc

/// A mutex and a condition. Locked and unlocked by pairs in one function, except where its owner says otherwise.
package final class Monitor: @unchecked Sendable {
    // Both live at fixed addresses from init to deinit; pthread does the locking.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>

    package init() {
        mutex = .allocate(capacity: 1)
        condition = .allocate(capacity: 1)
        mutex.initialize(to: pthread_mutex_t())
        condition.initialize(to: pthread_cond_t())
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    @inline(__always) package func lock() { pthread_mutex_lock(mutex) }
    @inline(__always) package func unlock() { pthread_mutex_unlock(mutex) }
    @inline(__always) package func tryLock() -> Bool { pthread_mutex_trylock(mutex) == 0 }

    /// Waits for a `broadcast`, unlocked meanwhile. Ask the condition again afterwards.
    package func wait() { pthread_cond_wait(condition, mutex) }

    /// The same for at most this long.
    package func wait(milliseconds: Int) {
        var until = timespec()
        clock_gettime(CLOCK_MONOTONIC, &until)
        until.tv_nsec += milliseconds % 1000 * 1_000_000
        until.tv_sec += milliseconds / 1000 + until.tv_nsec / 1_000_000_000
        until.tv_nsec %= 1_000_000_000
        pthread_cond_timedwait(condition, mutex, &until)
    }

    package func broadcast() { pthread_cond_broadcast(condition) }
    /// Wakes one that waits.
    package func signal() { pthread_cond_signal(condition) }
}

/// A lock that may be released by another thread than the one that took it: a transaction moves between threads.
final class HandedLock: Sendable {
    private let monitor = Monitor()
    // Guarded by `monitor`.
    nonisolated(unsafe) private var isHeld = false

    func lock() {
        monitor.lock()
        while isHeld { monitor.wait() }
        isHeld = true
        monitor.unlock()
    }

    func tryLock() -> Bool {
        monitor.lock()
        defer { monitor.unlock() }
        if isHeld { return false }
        isHeld = true
        return true
    }

    func unlock() {
        monitor.lock()
        isHeld = false
        monitor.signal()
        monitor.unlock()
    }
}

/// Microseconds of a clock that only runs forward.
func monotonicMicroseconds() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000
}
