import Glibc
import HoldfastCore
import HoldfastWAL

/// A snapshot of a follower at an LSN that another node names.
///
/// A follower carries out commit after commit, and under load it has passed a leader's LSN before it has heard of it. So
/// replay stands still between two commits while the other node is asked, which names an LSN at or behind that place; then
/// replay goes on, and takes the snapshot itself before it carries out the first commit that ends beyond. What is received
/// meanwhile is made durable and acknowledged as ever: the leader waits for nothing but, at level `applied`, the time that
/// one question takes, and that is bounded.
enum ReplayMeeting {
    /// Replay is to stand still between two commits.
    case asked
    /// It does, and has shown readers everything that ends at or below. It goes on by itself when `until` is past:
    /// milliseconds of the monotonic clock.
    case standing(LSN, until: Int64)
    /// It goes on to here.
    case heading(LSN)
    case met(Result<SnapshotHandle, any Error>)
}

/// Why two nodes could not be brought to one LSN. Another attempt may.
package enum MeetingError: DiagnosableError, Equatable {
    case notFollowing
    case inUse
    /// The follower stops, is promoted, or cannot replay.
    case over(String)
    case tooLong(String)
    /// The other node's log does not reach there.
    case beyond(LSN, end: LSN)

    package var diagnosis: Diagnosis {
        switch self {
        case .notFollowing:
            Diagnosis("this node follows nobody", next: "ask a follower", status: .tryAgain)
        case .inUse:
            Diagnosis(
                "another comparison is under way on this follower", next: "wait until it is over", status: .tryAgain)
        case .over(let why):
            Diagnosis("the comparison cannot go on", why: why, next: "try again", status: .tryAgain)
        case .tooLong(let what):
            Diagnosis(
                "the two nodes were not brought to one LSN", why: what, next: "try again when there is less load",
                status: .tryAgain)
        case .beyond(let lsn, let end):
            Diagnosis(
                "this node has no state as of that LSN", at: "\(lsn)", why: "its log is durable to \(end)",
                next: "check which of the two is the leader", status: .tryAgain)
        }
    }
}

extension Follower {
    /// Replay reaches the end of a commit within this time, or it is asked another time.
    private static var standingMilliseconds: Int64 { 60_000 }
    /// No question to another node holds replay up for longer.
    private static var heldMilliseconds: Int64 { 10_000 }
    /// From there to the LSN that the other node has named.
    private static var headingMilliseconds: Int64 { 120_000 }

    private static var now: Int64 { monotonicMicroseconds() / 1000 }

    func snapshot(meeting choose: (_ shown: LSN) throws -> LSN) throws -> SnapshotHandle {
        try locked { state in
            guard state.meeting == nil else { throw MeetingError.inUse }
            state.meeting = .asked
        }
        meets.store(true, ordering: .sequentiallyConsistent)
        defer {
            // A snapshot that came too late for whoever asked is closed with its last reference.
            locked { $0.meeting = nil }
            meets.store(false, ordering: .sequentiallyConsistent)
            wakeReplay()
        }
        wakeReplay()
        let shown = try waitMeeting(Self.standingMilliseconds, "replay reached the end of no commit") { meeting in
            if case .standing(let lsn, _) = meeting { lsn } else { nil }
        }
        let target = try choose(shown)
        try locked { state in
            guard case .standing? = state.meeting else {
                throw MeetingError.tooLong("the other node took longer than replay may stand still")
            }
            state.meeting = .heading(target)
        }
        wakeReplay()
        return try waitMeeting(Self.headingMilliseconds, "replay did not reach \(target)") { meeting in
            if case .met(let result) = meeting { try result.get() } else { nil }
        }
    }

    private func wakeReplay() {
        monitor.lock()
        monitor.broadcast()
        let received = state.received
        monitor.unlock()
        received?.wake()
    }

    private func waitMeeting<R>(
        _ milliseconds: Int64, _ what: String, _ isReady: (ReplayMeeting) throws -> R?
    ) throws -> R {
        let deadline = Self.now + milliseconds
        monitor.lock()
        defer { monitor.unlock() }
        while true {
            if let meeting = state.meeting {
                if case .met(.failure(let error)) = meeting { throw error }
                if let ready = try isReady(meeting) { return ready }
            }
            if state.isStopping { throw MeetingError.over("this node stops") }
            if state.isPromoting { throw MeetingError.over("this node is being promoted") }
            if let why = state.broken { throw MeetingError.over(why) }
            guard Self.now < deadline else { throw MeetingError.tooLong("\(what) in \(milliseconds / 1000) s") }
            monitor.wait(milliseconds: 50)
        }
    }

    // MARK: The replaying thread

    /// Before a commit that ends at `end` is carried out. `show` shows readers what was carried out before it.
    func meet(before end: LSN, _ show: () throws -> Void) throws {
        while meets.load(ordering: .acquiring), let meeting = locked({ $0.meeting }) {
            switch meeting {
            case .met: return
            case .asked:
                try show()
                stand()
            case .standing(_, let until):
                monitor.lock()
                if case .standing? = state.meeting {
                    if state.isStopping || state.isPromoting || Self.now >= until {
                        state.meeting = .met(
                            .failure(MeetingError.tooLong("the other node took longer than replay may stand still")))
                        monitor.broadcast()
                    } else {
                        monitor.wait(milliseconds: 20)
                    }
                }
                monitor.unlock()
            case .heading(let target):
                guard end > target else { return }
                try show()
                takeMet()
            }
        }
    }

    /// Everything that was read is carried out and shown, and there is no more for now.
    func meetAtEnd(_ position: LSN) {
        guard meets.load(ordering: .acquiring), let meeting = locked({ $0.meeting }) else { return }
        switch meeting {
        case .asked: stand()
        case .heading(let target) where LogLayout.canonical(target) <= position: takeMet()
        case .standing, .heading, .met: break
        }
    }

    private func stand() {
        monitor.lock()
        if case .asked? = state.meeting, let engine {
            state.meeting = .standing(engine.publishedLSN, until: Self.now + Self.heldMilliseconds)
            monitor.broadcast()
        }
        monitor.unlock()
    }

    private func takeMet() {
        let result = Result { () throws -> SnapshotHandle in
            guard let engine else { throw EngineError.closed }
            return try engine.makeSnapshot()
        }
        monitor.lock()
        if case .heading? = state.meeting { state.meeting = .met(result) }
        monitor.broadcast()
        monitor.unlock()
    }
}

extension Engine {
    /// A follower's snapshot at an LSN that somebody else names: of every commit that ends at or below, and of no other.
    /// Blocking; one at a time.
    ///
    /// - Parameter choose: called once, with an LSN through which everything is shown here, while replay stands still.
    ///   It names an LSN at or above, which the log of this node will reach, within 10 s.
    /// - Throws: `MeetingError`, after which replay goes on as before; what `choose` throws; `memoryExhausted`, `closed`.
    package func snapshot(meeting choose: (_ shown: LSN) throws -> LSN) throws -> SnapshotHandle {
        guard isFollower, let follower else { throw MeetingError.notFollowing }
        return try follower.snapshot(meeting: choose)
    }

    /// A snapshot of now that has at least every commit that ends at or below `lsn`, as soon as there is one. Writers wait for
    /// nothing. Blocking.
    ///
    /// - Returns: the snapshot, and the LSN as of which it is the state: `lsn`, or the end of a commit behind it.
    /// - Throws: `MeetingError.beyond` when the log does not reach `lsn` in time; `memoryExhausted`, `closed`.
    package func snapshot(
        through lsn: LSN, milliseconds: Int, while goesOn: () -> Bool = { true }
    ) throws -> (snapshot: SnapshotHandle, lsn: LSN) {
        let deadline = monotonicMicroseconds() / 1000 + Int64(milliseconds)
        while true {
            // A log that ends without a commit is shown as a whole once its last commit is.
            commitLock.lock()
            let last = installedLSN, durable = log.durableLSN
            commitLock.unlock()
            let isShown =
                publishedLSN >= lsn
                || (last <= publishedLSN && LogLayout.canonical(durable) >= LogLayout.canonical(lsn))
            if isShown {
                let handle = try makeSnapshot()
                return (handle, max(handle.lsn, lsn))
            }
            guard goesOn() else { throw EngineError.closed }
            guard monotonicMicroseconds() / 1000 < deadline else { throw MeetingError.beyond(lsn, end: durable) }
            usleep(1000)
        }
    }
}
