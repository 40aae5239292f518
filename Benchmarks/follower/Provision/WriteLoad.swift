import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWire
import Synchronization

/// Clients that write small records one by one, as fast as they are acknowledged, and note how long each waits.
final class WriteLoad: Sendable {
    private struct State {
        var microseconds: [UInt32] = []
        var problem: String?
    }
    private let state = Mutex(State())
    private let isOver = Atomic(false)
    private let running = Atomic(0)

    /// - Parameter keys: the records `key:` and twelve digits below it are written, in tree 1.
    init(_ address: String, clients: Int, keys: Int, seed: UInt64) throws {
        for client in 0..<clients {
            running.add(1, ordering: .relaxed)
            Thread.detachNewThread { [self] in
                defer { running.subtract(1, ordering: .relaxed) }
                do {
                    try write(address, keys, SeededGenerator(seed: seed &+ UInt64(client)))
                } catch { state.withLock { $0.problem = "\(error)" } }
            }
        }
    }

    private func write(_ address: String, _ keys: Int, _ generator: SeededGenerator) throws {
        var random = generator
        let client = try WireClient(to: WireAddress(address))
        try client.call("SELECT", "1")
        var waits: [UInt32] = []
        while !isOver.load(ordering: .relaxed) {
            let key = String(format: "key:%012d", Int(random.next() % UInt64(keys)))
            var value = ""
            while value.utf8.count < Content.valueBytes { value += String(random.next(), radix: 36) }
            let start = ContinuousClock.now
            try client.call("SET", key, value)
            waits.append(UInt32(clamping: Int((ContinuousClock.now - start) / .microseconds(1))))
            if waits.count == 64 {
                let some = waits
                state.withLock { $0.microseconds += some }
                waits.removeAll(keepingCapacity: true)
            }
        }
    }

    /// What was noted since the last call. Throws when a client could not go on.
    func take() throws -> WriteWaits {
        try state.withLock { state in
            if let problem = state.problem { throw NeverHappened(what: "every write is acknowledged", errors: problem) }
            defer { state.microseconds = [] }
            return WriteWaits(state.microseconds)
        }
    }

    func stop() {
        isOver.store(true, ordering: .relaxed)
        while running.load(ordering: .relaxed) > 0 { usleep(1000) }
    }
}

/// How long writes waited, sorted.
struct WriteWaits {
    private(set) var microseconds: [UInt32]

    init(_ microseconds: [UInt32]) { self.microseconds = microseconds.sorted() }

    var count: Int { microseconds.count }
    var longest: Double { milliseconds(microseconds.last ?? 0) }
    /// In milliseconds; of none it is 0.
    func percentile(_ share: Double) -> Double {
        guard count > 0 else { return 0 }
        return milliseconds(microseconds[min(count - 1, Int(Double(count) * share))])
    }
    func longer(than milliseconds: Double) -> Int { microseconds.count { Double($0) > milliseconds * 1000 } }

    private func milliseconds(_ value: UInt32) -> Double { Double(value) / 1000 }
}
