import Collections
import HoldfastCore
import HoldfastEngine
import HoldfastWire
import Logging
import NIOCore

/// Holds the replies of writes that are durable here until enough followers have confirmed them.
///
/// Readers on other connections see such a write as soon as it is durable here: only the acknowledgement waits.
/// Belongs to the event loop.
final class SynchronousGate {
    /// How a wait ended.
    enum Outcome {
        case acknowledged
        /// Whether the write survives this leader is unknown; the error says so.
        case unknown(String)

        /// What may be said once the engine's write deadline is looked at; `end`: `.zero` when nothing was written.
        func bounded(by engine: Engine, _ end: LSN) -> Outcome {
            guard case .acknowledged = self, end > .zero, !engine.mayAcknowledge else { return self }
            return .unknown(ErrorReplies.unknown(EngineError.outcomeUnknown(end)))
        }
    }

    private struct Held {
        var end: LSN
        var deadline: NIODeadline
        var release: (Outcome) -> Void
    }

    var settings = SynchronousSettings() { didSet { if settings != oldValue { settingsChanged() } } }
    private let followers: Followers
    private let loop: any EventLoop
    private let durable: () -> LSN
    private let logger: Logger
    /// In the order of their ends, and so of their deadlines.
    private var held = Deque<Held>()
    private var timer: Scheduled<Void>?
    /// Set when writes are acknowledged without followers: what these must confirm before writes wait for them again.
    private var degradedUntil: LSN?

    init(followers: Followers, loop: any EventLoop, durable: @escaping () -> LSN, logger: Logger) {
        self.followers = followers
        self.loop = loop
        self.durable = durable
        self.logger = logger
    }

    var isDegraded: Bool { degradedUntil != nil }

    /// Whether a write that ends there may be acknowledged now; at `.zero` nothing was written.
    func passes(_ end: LSN) -> Bool {
        guard settings.minimumFollowers > 0, degradedUntil == nil, end > .zero else { return true }
        guard held.isEmpty, let quorum else { return false }
        return quorum >= end
    }

    private var quorum: LSN? { followers.quorum(settings.minimumFollowers, settings.level) }

    /// Calls `release` when followers have confirmed the write that ends there, or the time is over; not at once.
    func hold(through end: LSN, _ release: @escaping (Outcome) -> Void) {
        held.append(Held(end: end, deadline: .now() + timeout, release: release))
        if timer == nil { setTimer() }
    }

    /// A follower has confirmed something, or came.
    func followersMoved() {
        if let target = degradedUntil { lookForReturn(target) }
        guard !held.isEmpty, let quorum else { return }
        while let first = held.first, first.end <= quorum { held.removeFirst().release(.acknowledged) }
    }

    private func settingsChanged() {
        degradedUntil = nil
        if settings.minimumFollowers == 0 {
            while let first = held.popFirst() { first.release(.acknowledged) }
        } else {
            followersMoved()
        }
        // No write waits longer than one that comes now.
        let latest = NIODeadline.now() + timeout
        for index in held.indices { held[index].deadline = min(held[index].deadline, latest) }
        timer?.cancel()
        setTimer()
    }

    private var timeout: TimeAmount { .nanoseconds(Int64(settings.timeoutSeconds * 1e9)) }

    /// Writes wait again when followers have what was acknowledged without them, and are close behind the rest.
    private func lookForReturn(_ target: LSN) {
        guard let quorum, quorum >= target else { return }
        let now = durable()
        guard now < quorum + (1 << 20) else { return degradedUntil = now }
        degradedUntil = nil
        logger.notice("followers are back: writes wait for them again", metadata: ["lsn": "\(quorum)"])
    }

    // MARK: Time

    private func setTimer() {
        guard let first = held.first else { return timer = nil }
        let this = NIOLoopBound(self, eventLoop: loop)
        timer = loop.scheduleTask(deadline: first.deadline) { this.value.timeIsOver() }
    }

    private func timeIsOver() {
        timer = nil
        let now = NIODeadline.now()
        guard let first = held.first, first.deadline <= now else { return setTimer() }
        let confirmed = followers.count(settings.level, first.end)
        let why =
            "\(confirmed) of the \(settings.minimumFollowers) followers that must have \(settings.level.rawValue) it "
            + "said so within \(settings.timeoutSeconds) s"
        switch settings.onTimeout {
        case .degrade:
            degradedUntil = durable()
            logger.warning(
                "writes are acknowledged without followers until these are back", metadata: ["why": "\(why)"])
            while let late = held.popFirst() { late.release(.acknowledged) }
        case .refuse:
            let text =
                "UNKNOWN the write is on this leader's disk, but whether it survives this leader is unknown: \(why); "
                + "hint: read it back before you repeat it, and look at the followers in STATUS"
            while let late = held.first, late.deadline <= now { held.removeFirst().release(.unknown(text)) }
        }
        setTimer()
    }
}
