import Foundation
import HoldfastCore

/// Renews a lease from a thread of its own until it is stopped. A renewal that fails is tried again every second
/// until the lease's own time is over; what depends on it asks `lease.requireHeld()`.
package final class LeaseKeeper: Sendable {
    package let lease: Lease
    private let signal: Signal

    /// The condition guards `stopped` and `finished`; that is why it may be shared.
    private final class Signal: @unchecked Sendable {
        let condition = NSCondition()
        var stopped = false
        var finished = false
    }

    /// `onFailure` is told of each failed renewal, from the keeper's thread.
    package init(
        _ lease: Lease, everySeconds: Double, onFailure: @escaping @Sendable (any Error) -> Void = { _ in }
    ) {
        self.lease = lease
        let signal = Signal()
        self.signal = signal
        Thread.detachNewThread {
            var wait = everySeconds
            while Self.sleep(signal, wait) {
                do {
                    try lease.renew()
                    wait = everySeconds
                } catch {
                    onFailure(error)
                    if !lease.isHeld { break }
                    wait = min(1, everySeconds)
                }
            }
            signal.condition.lock()
            signal.finished = true
            signal.condition.broadcast()
            signal.condition.unlock()
        }
    }

    /// Ends the renewals, waits for one that is under way, and gives the lease back when `releasing`.
    package func stop(releasing: Bool = true) throws {
        signal.condition.lock()
        signal.stopped = true
        signal.condition.broadcast()
        while !signal.finished { signal.condition.wait() }
        signal.condition.unlock()
        if releasing { try lease.release() }
    }

    deinit {
        signal.condition.lock()
        signal.stopped = true
        signal.condition.broadcast()
        signal.condition.unlock()
    }

    /// `false` when it was stopped meanwhile.
    private static func sleep(_ signal: Signal, _ seconds: Double) -> Bool {
        let end = Date(timeIntervalSinceNow: seconds)
        signal.condition.lock()
        defer { signal.condition.unlock() }
        while !signal.stopped {
            if !signal.condition.wait(until: end) { break }
        }
        return !signal.stopped
    }
}
