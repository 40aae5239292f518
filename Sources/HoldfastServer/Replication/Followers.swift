import HoldfastCore
import NIOCore
import Synchronization

/// The followers that are connected. Belongs to the event loop, but for the slots in use, which a lock guards.
final class Followers {
    private(set) var all: [Follower] = []
    /// Threads of senders that have not ended: more than `all` while some wind up.
    var senders = 0
    private let electable: () -> Set<String>?

    /// - Parameter electable: see `ServerComposition`.
    init(electable: @escaping () -> Set<String>? = { nil }) { self.electable = electable }

    func add(_ follower: Follower) { all.append(follower) }
    func remove(_ follower: Follower) { all.removeAll { $0 === follower } }

    func reports(durable: LSN) -> [FollowerReport] { all.map { $0.report(durable: durable) } }

    /// Those that count: of several connections of one follower the last, since the end of those before it has only not been
    /// noticed yet.
    private var distinct: [Follower] {
        guard all.count > 1 else { return all }
        return all.filter { follower in
            guard let instance = follower.instance else { return true }
            return all.last { $0.instance == instance } === follower
        }
    }

    /// How many have `lsn` on their disks.
    func count(flushed lsn: LSN) -> Int { distinct.reduce(0) { $0 + ($1.positions.flushed >= lsn ? 1 : 0) } }

    /// Those on whose word a synchronous write is acknowledged.
    private var voters: [Follower] {
        guard let names = electable() else { return distinct }
        return distinct.filter { names.contains($0.node) }
    }

    /// How many of those that count for synchronous writes have `lsn`.
    func count(_ level: SynchronousSettings.Level, _ lsn: LSN) -> Int {
        voters.reduce(0) { $0 + (Self.position($1, level) >= lsn ? 1 : 0) }
    }

    /// What at least `count` of them have; nil when there are fewer.
    func quorum(_ count: Int, _ level: SynchronousSettings.Level) -> LSN? {
        guard count > 0, all.count >= count else { return nil }
        let voters = voters
        guard voters.count >= count else { return nil }
        if voters.count == 1 { return Self.position(voters[0], level) }
        return voters.map { Self.position($0, level) }.sorted(by: >)[count - 1]
    }

    /// A connection of this follower which uses the slot and on which it has said nothing for longer than one that lives does:
    /// each keepalive asks for an answer.
    func abandoned(_ slot: String, by instance: String) -> Follower? {
        all.first { $0.slot == slot && $0.instance == instance && $0.silence > .seconds(3) }
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
