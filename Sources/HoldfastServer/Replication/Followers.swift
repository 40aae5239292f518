import HoldfastCore
import Synchronization

/// The followers that are connected. Belongs to the event loop, but for the slots in use, which a lock guards.
final class Followers {
    private(set) var all: [Follower] = []
    /// Threads of senders that have not ended: more than `all` while some wind up.
    var senders = 0

    func add(_ follower: Follower) { all.append(follower) }
    func remove(_ follower: Follower) { all.removeAll { $0 === follower } }

    func reports(durable: LSN) -> [FollowerReport] { all.map { $0.report(durable: durable) } }

    /// How many have `lsn` on their disks.
    func count(flushed lsn: LSN) -> Int { all.reduce(0) { $0 + ($1.positions.flushed >= lsn ? 1 : 0) } }

    /// What at least `count` followers have; nil when there are fewer.
    func quorum(_ count: Int, _ level: SynchronousSettings.Level) -> LSN? {
        guard count > 0, all.count >= count else { return nil }
        if all.count == 1 { return Self.position(all[0], level) }
        return all.map { Self.position($0, level) }.sorted(by: >)[count - 1]
    }

    private static func position(_ follower: Follower, _ level: SynchronousSettings.Level) -> LSN {
        level == .flushed ? follower.positions.flushed : follower.positions.applied
    }
}

/// Slots that a connection uses: taken on the thread that checks a request, given back when its sender has ended.
final class SlotsInUse: Sendable {
    private let names = Mutex<Set<String>>([])

    /// false: another connection has it.
    func take(_ name: String) -> Bool { names.withLock { $0.insert(name).inserted } }
    func give(_ name: String) { names.withLock { _ = $0.remove(name) } }

    /// Runs `body` unless the slot is in use, and while nobody takes it; nil: it is in use.
    func whileFree<R>(_ name: String, _ body: () throws -> R) rethrows -> R? {
        guard take(name) else { return nil }
        defer { give(name) }
        return try body()
    }
}
