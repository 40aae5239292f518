import Glibc
import HoldfastCore
import Synchronization

/// Touches page memory a little ahead of a replay, on a thread of its own. The kernel zeroes memory, and the host of a
/// virtual machine may first have to find it, when it is touched for the first time: otherwise replay, which fills a
/// cache as fast as it can, would spend a third of its time on that.
///
/// Only a help: when the kernel refuses, memory is touched by its user, as ever.
final class TouchAhead: @unchecked Sendable {
    // Sendable: mutable state is guarded by `monitor`, or atomic.
    private let slots: Int
    /// Makes so many slots' memory present, from the given one on; `false` when that cannot be.
    private let populate: @Sendable (_ from: Int, _ count: Int) -> Bool
    /// Guards the two flags. Taken under the page cache's lock, never the other way round.
    private let monitor = Monitor()
    /// Slots below this are in use, as far as `advance` said.
    private let used = Atomic<Int>(0)
    private var isRunning = false
    private var isStopping = false

    /// How far it goes ahead of what is used; this much may stay touched for nothing.
    static var slotsAhead: Int { (32 << 20) / Page.bytes }
    /// How much is touched by one call.
    static var step: Int { (2 << 20) / Page.bytes }

    convenience init(_ frames: Frames) { self.init(slots: frames.count) { frames.populate(from: $0, count: $1) } }

    init(slots: Int, populate: @escaping @Sendable (_ from: Int, _ count: Int) -> Bool) {
        self.slots = slots
        self.populate = populate
    }

    /// Slots below `slot` are in use. The thread starts when a whole step of them is, so that a short recovery has none.
    func advance(_ slot: Int) {
        used.store(slot, ordering: .relaxed)
        guard slot % Self.step == 0 else { return }
        monitor.lock()
        if !isRunning, !isStopping {
            isRunning = DetachedThread.start { [self] in run(from: slot) }
            isStopping = !isRunning
        }
        monitor.broadcast()
        monitor.unlock()
    }

    /// Ends the thread and waits for it.
    func stop() {
        monitor.lock()
        isStopping = true
        monitor.broadcast()
        while isRunning { monitor.wait() }
        monitor.unlock()
    }

    private func run(from first: Int) {
        var next = first
        while next < slots, wait(until: next) {
            // Memory that its user has touched meanwhile is left as it is.
            next = max(next, used.load(ordering: .relaxed))
            let count = min(Self.step, slots - next)
            guard count > 0, populate(next, count) else { break }
            next += count
        }
        monitor.lock()
        isRunning = false
        // For good: whoever asks for more has the rest to itself.
        isStopping = true
        monitor.broadcast()
        monitor.unlock()
    }

    /// Waits until `next` is needed soon; `false` when all is to end.
    private func wait(until next: Int) -> Bool {
        monitor.lock()
        defer { monitor.unlock() }
        while !isStopping, next > used.load(ordering: .relaxed) + Self.slotsAhead { monitor.wait() }
        return !isStopping
    }
}
