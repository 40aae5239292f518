import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Synchronization

/// One operation of a client, and what was answered.
struct Attempt: Sendable {
    enum Kind: Sendable {
        /// A key that nobody else writes.
        case once
        /// Keys that all clients write and read.
        case set, swap
        /// Beside a write in one transaction, so that it is answered as writes are: by a leader, with its followers' word.
        case get
        /// As any client reads.
        case plainGet
    }

    var kind: Kind
    var key: String
    /// What is written; unlike any other.
    var value: Int64
    /// `nil`: nobody knows whether it happened.
    var outcome: RegisterOperation.Outcome?
    var invoked: UInt64
    var returned: UInt64
    var node: String
    /// Of an acknowledged write: the timeline that the node had, and where the write ends in its log.
    var timeline: UInt32?
    var end: LSN?

    var isWrite: Bool { kind != .plainGet }
    var isAcknowledgedWrite: Bool { isWrite && outcome != nil }

    var operation: RegisterOperation {
        let call: RegisterOperation.Call =
            switch kind {
            case .once, .set: .set(value)
            case .swap: .swap(value)
            case .get, .plainGet: .get
            }
        return RegisterOperation(call: call, outcome: outcome, invoked: invoked, returned: returned)
    }
}

/// What all clients did in this round, and what must be true of all rounds. Thread-safe.
final class SoakHistory: Sendable {
    private struct State {
        var attempts: [Attempt] = []
        var failures: [String] = []
        var firstAcknowledged: [UInt32: UInt64] = [:]
        var lastAcknowledged: [UInt32: UInt64] = [:]
        var round = 0
        var isPaused = true
        var isOver = false
        var idle = 0
        var stopped = 0
    }

    private let state = Mutex(State())

    func add(_ attempt: Attempt) {
        state.withLock { state in
            state.attempts.append(attempt)
            guard attempt.isAcknowledgedWrite, let timeline = attempt.timeline else { return }
            state.firstAcknowledged[timeline] = min(state.firstAcknowledged[timeline] ?? .max, attempt.returned)
            state.lastAcknowledged[timeline] = max(state.lastAcknowledged[timeline] ?? 0, attempt.returned)
        }
    }

    /// An answer that no server of this cluster may give.
    func fail(_ text: String) { state.withLock { $0.failures.append(text) } }

    /// Ends the failures of the round.
    func takeFailures() -> [String] {
        state.withLock { state in
            defer { state.failures = [] }
            return state.failures
        }
    }

    var attempts: [Attempt] { state.withLock { $0.attempts } }
    var acknowledged: Int { state.withLock { $0.attempts.count { $0.isAcknowledgedWrite } } }
    func firstAcknowledged(_ timeline: UInt32) -> UInt64? { state.withLock { $0.firstAcknowledged[timeline] } }
    func lastAcknowledged(_ timeline: UInt32) -> UInt64? { state.withLock { $0.lastAcknowledged[timeline] } }
    /// The newest timeline that has acknowledged a write.
    var newestTimeline: UInt32 { state.withLock { $0.firstAcknowledged.keys.max() ?? 0 } }

    // MARK: The clients' turn

    /// `nil`: there is nothing to be done now.
    var round: Int? { state.withLock { $0.isPaused ? nil : $0.round } }
    var isOver: Bool { state.withLock { $0.isOver } }

    func begin(round: Int) {
        state.withLock { state in
            state.attempts = []
            state.round = round
            state.isPaused = false
        }
    }

    func setIdle(_ isIdle: Bool) { state.withLock { $0.idle += isIdle ? 1 : -1 } }
    func clientStopped() { state.withLock { $0.stopped += 1 } }

    /// Returns when none of so many clients waits for an answer any more.
    func pause(_ clients: Int) throws {
        state.withLock { $0.isPaused = true }
        try waitUntil("clients rest") { state.withLock { $0.idle + $0.stopped == clients } }
    }

    func end(_ clients: Int) throws {
        state.withLock { ($0.isPaused, $0.isOver) = (true, true) }
        try waitUntil("clients end") { state.withLock { $0.stopped == clients } }
    }
}
