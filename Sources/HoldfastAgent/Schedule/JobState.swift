/// What is durable about one scheduled job. Moments are seconds since 1970-01-01 UTC.
package struct JobState: Codable, Sendable, Equatable {
    /// The schedule that `handled` belongs to: another one starts afresh, and makes up for nothing.
    package var schedule: String
    /// Every due moment up to here is dealt with: done, or overtaken by a later one.
    package var handled: Int
    /// The due moment that is being worked on.
    package var due: Int?
    /// Failed runs for `due`.
    package var attempts = 0
    package var retryAt: Int?
    /// The last run that ended, when, and why it failed; `nil` if it did not.
    package var lastEnded: Int?
    package var lastFailure: String?

    enum CodingKeys: String, CodingKey {
        case schedule, handled, due, attempts
        case retryAt = "retry_at"
        case lastEnded = "last_ended"
        case lastFailure = "last_failure"
    }
}

/// Decides when a job runs. It has no clock and does no I/O: the caller says what time it is, keeps `state` durable,
/// and reports how the run ended.
///
/// Runs that were missed while nobody looked are made up for once. A failed run is tried again after 1, 2, 4 … minutes,
/// at most an hour, until it succeeds or the next due moment takes its place.
package struct JobPlan: Sendable, Equatable {
    package enum Step: Sendable, Equatable {
        case run(due: Int)
        /// Nothing to do before this moment; `nil`: never again.
        case wait(until: Int?)
    }

    package static let firstRetry = 60
    package static let longestRetry = 3600

    package let schedule: CronSchedule
    package private(set) var state: JobState

    package init(_ schedule: CronSchedule, state: JobState?, now: Int) {
        let name = "\(schedule.expression) \(schedule.timeZone.identifier)"
        self.schedule = schedule
        if let state, state.schedule == name {
            self.state = state
        } else {
            self.state = JobState(schedule: name, handled: now)
        }
    }

    package mutating func step(now: Int) -> Step {
        // The clock went back behind what was done: its future is open again.
        if state.handled > now { state.handled = now }
        if let due = state.due, due > now {
            state.due = nil
            state.retryAt = nil
            state.attempts = 0
        }
        let next = schedule.next(after: now)
        guard let latest = schedule.last(atOrBefore: now, after: state.handled) else { return .wait(until: next) }
        if state.due != latest {
            state.due = latest
            state.attempts = 0
            state.retryAt = nil
        }
        if let retryAt = state.retryAt, retryAt > now, retryAt - now <= Self.longestRetry {
            return .wait(until: next.map { Swift.min($0, retryAt) } ?? retryAt)
        }
        return .run(due: latest)
    }

    package mutating func succeeded(now: Int) {
        state.handled = state.due ?? now
        state.due = nil
        state.attempts = 0
        state.retryAt = nil
        state.lastEnded = now
        state.lastFailure = nil
    }

    /// - Parameter isBusy: another job of the cluster runs; that is no fault of this one, and no reason to wait longer
    ///   each time.
    package mutating func failed(now: Int, why: String, isBusy: Bool) {
        if isBusy {
            state.retryAt = now + Self.firstRetry
        } else {
            state.attempts += 1
            let doublings = Swift.min(state.attempts - 1, 10)
            state.retryAt = now + Swift.min(Self.firstRetry << doublings, Self.longestRetry)
        }
        state.lastEnded = now
        state.lastFailure = why
    }
}
