import NIOCore

/// How long an address has to wait with its next login: longer with each failure, forgotten in time.
///
/// A success takes nothing back, or who has one password could try another's in between.
struct LoginFailures {
    private struct Entry {
        var failures = 0
        /// When the last of them was; one is forgotten for each `forgetSeconds` since.
        var last: NIODeadline
        /// No attempt begins before.
        var next: NIODeadline
    }

    /// After the first failure; doubled with each further one.
    static let firstDelay = TimeAmount.milliseconds(250)
    static let longestDelay = TimeAmount.seconds(5)
    private static let forgetSeconds: Int64 = 15
    /// Addresses that are remembered; beyond, the one whose last failure is longest ago is forgotten.
    private static let capacity = 4096

    private var entries: [String: Entry] = [:]

    /// How long an attempt from `address` has to wait; attempts that come together wait one behind the other. nil: longer
    /// than `patience`, so that it is not worth waiting.
    mutating func wait(_ address: String, now: NIODeadline, patience: TimeAmount) -> TimeAmount? {
        guard var entry = entries[address] else { return .zero }
        let failures = Self.remembered(entry, now)
        guard failures > 0 else {
            entries[address] = nil
            return .zero
        }
        let start = max(now, entry.next)
        guard start - now <= patience else { return nil }
        entry.next = start + Self.delay(failures)
        entries[address] = entry
        return start - now
    }

    /// Notes a failure, and returns how long its answer is held back.
    mutating func note(_ address: String, now: NIODeadline) -> TimeAmount {
        if entries[address] == nil, entries.count >= Self.capacity,
            let oldest = entries.min(by: { $0.value.last < $1.value.last })
        {
            entries[oldest.key] = nil
        }
        var entry = entries[address] ?? Entry(last: now, next: now)
        entry.failures = Self.remembered(entry, now) + 1
        entry.last = now
        let delay = Self.delay(entry.failures)
        entry.next = max(entry.next, now + delay)
        entries[address] = entry
        return delay
    }

    private static func remembered(_ entry: Entry, _ now: NIODeadline) -> Int {
        max(0, entry.failures - Int((now - entry.last).nanoseconds / (forgetSeconds * 1_000_000_000)))
    }

    private static func delay(_ failures: Int) -> TimeAmount {
        let doubled = firstDelay.nanoseconds << Int64(min(failures, 20) - 1)
        return .nanoseconds(min(doubled, longestDelay.nanoseconds))
    }
}
