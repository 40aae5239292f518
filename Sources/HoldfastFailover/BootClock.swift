import Glibc

/// A clock that nobody sets and that goes on while the machine sleeps: what leases are measured by.
package enum BootClock {
    /// Microseconds since the machine was started.
    package static func microseconds() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec / 1000)
    }
}

/// Until when a leader may acknowledge.
package enum LeaseDeadline {
    /// etcd counts the time to live from when it handles a renewal, which is after `sent`; so a lease cannot pass to
    /// another before `sent` + the time to live. A tenth of it is left for clocks that do not go equally fast, and for a
    /// reply that was checked and is under way.
    package static func after(sent: Int64, ttlMilliseconds: Int) -> Int64 {
        sent + Int64(ttlMilliseconds) * 900
    }
}
