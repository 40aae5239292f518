import HoldfastCore
import Synchronization

/// A hold on something in the repository that ends by itself when it is not renewed.
///
/// Others judge it by the store's clock: it holds for `leaseSeconds` from the time of its highest object. The holder
/// stops by its own CLOCK_BOOTTIME after two thirds of that, counted from before the object was sent, so that it
/// has stopped before anybody else may begin.
package final class Lease: Sendable {
    package let name: String
    package let leaseSeconds: Int

    private let store: any ObjectStore
    private let objects: NumberedObjects
    private let clock: @Sendable () -> UInt64
    private let content: @Sendable (_ released: Bool) throws -> [UInt8]
    /// The lowest number that a renewal may remove when it is superseded.
    private let removableFrom: UInt64

    private struct State {
        var number: UInt64
        /// CLOCK_BOOTTIME in nanoseconds.
        var deadline: UInt64
        var ended = false
    }
    /// Guards the numbers; held for moments only.
    private let state: Mutex<State>
    /// One renewal at a time; held while the store works. Taken before `state`.
    private let renewing = Mutex<Void>(())

    private init(
        name: String, leaseSeconds: Int, store: any ObjectStore, objects: NumberedObjects,
        clock: @escaping @Sendable () -> UInt64, removableFrom: UInt64, number: UInt64, deadline: UInt64,
        content: @escaping @Sendable (Bool) throws -> [UInt8]
    ) {
        self.name = name
        self.leaseSeconds = leaseSeconds
        self.store = store
        self.objects = objects
        self.clock = clock
        self.content = content
        self.removableFrom = removableFrom
        state = Mutex(State(number: number, deadline: deadline))
    }

    /// How a lease stands, as anybody reads it.
    package enum Standing: Sendable, Equatable {
        case never
        case released(Holder)
        /// Its time is over, or its holder is known to be dead.
        case lapsed(Holder)
        case fresh(Holder)

        package var isFresh: Bool { if case .fresh = self { true } else { false } }
    }

    /// Takes the next number when nobody holds the lease. Throws `leaseTaken` naming the holder otherwise.
    static func take(
        _ name: String, leaseSeconds: Int, store: any ObjectStore, objects: NumberedObjects,
        environment: RepositoryEnvironment, removableFrom: UInt64 = 1,
        content: @escaping @Sendable (_ released: Bool) throws -> [UInt8]
    ) throws -> Lease {
        let (standing, highest) = try read(objects, store, environment.holder)
        if case .fresh(let holder) = standing { throw RepositoryError.leaseTaken(name, by: holder.display) }
        let number = highest + 1
        let before = environment.boottimeNanoseconds()
        guard try store.create(objects.path(number), try content(false)) != .different else {
            throw RepositoryError.leaseTaken(name, by: "another that was quicker")
        }
        // A taker that slept between its reading and its creation may have made a number that was used and removed.
        let all = try objects.list(store)
        guard all.last?.number == number else {
            try store.delete(objects.path(number))
            throw RepositoryError.leaseTaken(name, by: "another that was quicker")
        }
        let lease = Lease(
            name: name, leaseSeconds: leaseSeconds, store: store, objects: objects,
            clock: environment.boottimeNanoseconds, removableFrom: removableFrom, number: number,
            deadline: Self.deadline(before, leaseSeconds), content: content)
        try lease.requireHeld()
        try lease.remove(all.map(\.number), below: number)
        return lease
    }

    /// Goes on with a lease that this process made as `number` in another way.
    static func adopt(
        _ name: String, leaseSeconds: Int, store: any ObjectStore, objects: NumberedObjects,
        environment: RepositoryEnvironment, removableFrom: UInt64, number: UInt64, madeAfter before: UInt64,
        content: @escaping @Sendable (_ released: Bool) throws -> [UInt8]
    ) -> Lease {
        Lease(
            name: name, leaseSeconds: leaseSeconds, store: store, objects: objects,
            clock: environment.boottimeNanoseconds, removableFrom: removableFrom, number: number,
            deadline: Self.deadline(before, leaseSeconds), content: content)
    }

    /// How the lease made of `objects` stands, and its highest number (0: none).
    static func read(
        _ objects: NumberedObjects, _ store: any ObjectStore, _ observer: Holder
    ) throws -> (Standing, UInt64) {
        // The highest may be superseded and removed between listing and reading: then there is a higher one.
        for _ in 0..<16 {
            guard let last = try objects.list(store).last else { return (.never, 0) }
            guard let bytes = try store.read(last.object.path, limit: RecordCoding.limitBytes) else { continue }
            let facts = try RecordCoding.decode(LeaseFacts.self, bytes, at: last.object.path.text)
            if facts.released { return (.released(facts.holder), last.number) }
            // An age below zero is a clock that was set back: fresh.
            let age = (try store.now().microseconds - last.object.modified.microseconds) / 1_000_000
            if age >= Int64(facts.leaseSeconds) || facts.holder.isKnownDead(from: observer) {
                return (.lapsed(facts.holder), last.number)
            }
            return (.fresh(facts.holder), last.number)
        }
        throw RepositoryError.leaseTaken(objects.directory.text, by: "a holder that renews faster than it can be read")
    }

    package var isHeld: Bool { state.withLock { !$0.ended && clock() < $0.deadline } }

    /// Throws `leaseLost` when the time is over by this machine's clock: asked before anything that needs the hold.
    package func requireHeld() throws {
        guard isHeld else { throw RepositoryError.leaseLost(name) }
    }

    /// Creates the next number. A renewal that returns after the end of what it renews is a lost hold, for good.
    package func renew() throws {
        try renewing.withLock { _ in
            try requireHeld()
            let number = state.withLock { $0.number } + 1
            let before = clock()
            let creation = try store.create(objects.path(number), try content(false))
            let held = state.withLock { state -> Bool in
                guard creation != .different, clock() < state.deadline else {
                    state.ended = true
                    return false
                }
                state.number = number
                state.deadline = Self.deadline(before, leaseSeconds)
                return true
            }
            guard held else { throw RepositoryError.leaseLost(name) }
            try remove([number - 1], below: number)
        }
    }

    /// Gives it back, so that nobody need wait. What was lost before is left alone.
    package func release() throws {
        try renewing.withLock { _ in
            let next = state.withLock { state -> UInt64? in
                defer { state.ended = true }
                return state.ended ? nil : state.number + 1
            }
            // Late is harmless: of another's lease the higher number stays, and says what holds.
            guard let number = next else { return }
            if try store.create(objects.path(number), try content(true)) != .different {
                try remove([number - 1], below: number)
            }
        }
    }

    private func remove(_ numbers: [UInt64], below limit: UInt64) throws {
        for number in numbers where number < limit && number >= removableFrom {
            try store.delete(objects.path(number))
        }
    }

    private static func deadline(_ before: UInt64, _ leaseSeconds: Int) -> UInt64 {
        // A hold that is gone on with has the seconds of a record from outside: a century is as good as any more.
        before + min(UInt64(clamping: leaseSeconds), 100 * 366 * 86_400) * 1_000_000_000 / 3 * 2
    }
}
