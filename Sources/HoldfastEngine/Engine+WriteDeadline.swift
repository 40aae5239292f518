import Glibc
import Synchronization

/// The bound in time of what this node may acknowledge: a leader's lease, where there is one.
extension Engine {
    /// From `microseconds` of CLOCK_BOOTTIME on no transaction begins or commits, and nothing that was committed before may
    /// be acknowledged any more; reads go on. 0: there is no bound. Takes effect at once, for what is under way too.
    public func setWriteDeadline(_ microseconds: Int64) { writeDeadline.store(microseconds, ordering: .releasing) }

    /// Nothing may be acknowledged until a later deadline is set.
    public func fence() { setWriteDeadline(1) }

    /// To be asked after a commit's flush, and after followers have confirmed it, before anybody is told.
    public var mayAcknowledge: Bool { !isPastWriteDeadline }

    @inline(__always) var isPastWriteDeadline: Bool {
        let deadline = writeDeadline.load(ordering: .acquiring)
        return deadline != 0 && Self.isOver(deadline)
    }

    private static func isOver(_ deadline: Int64) -> Bool {
        // It goes on while the machine sleeps, as the lease does.
        var now = timespec()
        clock_gettime(CLOCK_BOOTTIME, &now)
        return Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec / 1000) >= deadline
    }
}
