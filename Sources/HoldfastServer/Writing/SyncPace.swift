import Glibc
import Synchronization

/// How long a sync takes here, and so whether the event loop may do it itself.
///
/// Handing a batch to another thread and waking the loop again costs about as much as a sync of a fast disk. A slow
/// one must not hold up the readers.
final class SyncPace: Sendable {
    private let limit: UInt64
    /// Moving average in nanoseconds, of any thread's syncs.
    private let average = Atomic<UInt64>(0)
    private let onLoop: Atomic<Bool>

    init(limitMicroseconds: Double) {
        limit = UInt64(max(0, limitMicroseconds) * 1000)
        onLoop = Atomic(limit > 0)
    }

    var syncsOnLoop: Bool { onLoop.load(ordering: .relaxed) }
    var averageMicroseconds: Double { Double(average.load(ordering: .relaxed)) / 1000 }

    func measure(_ sync: () throws -> Void) rethrows {
        let begin = Self.now()
        try sync()
        record(nanoseconds: Self.now() &- begin)
    }

    /// A sync took so long. One that is far too slow counts at once; back to the loop only after many quick ones.
    func record(nanoseconds: UInt64) {
        let old = average.load(ordering: .relaxed)
        let new =
            old == 0 ? nanoseconds : nanoseconds > limit &* 8 ? max(old, nanoseconds) : (old &* 15 &+ nanoseconds) / 16
        average.store(new, ordering: .relaxed)
        if syncsOnLoop {
            if new > limit { onLoop.store(false, ordering: .relaxed) }
        } else if new < limit / 2 {
            onLoop.store(true, ordering: .relaxed)
        }
    }

    private static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}
