/// How many followers must have a write before it is acknowledged: `synchronous:` of the configuration.
package struct SynchronousSettings: Sendable, Equatable {
    package enum Level: String, CaseIterable, Sendable {
        /// It is on the follower's disk.
        case flushed
        /// Reads on the follower see it.
        case applied
    }

    /// What becomes of a write that too few followers have confirmed in time. It is on the leader's disk in any case.
    package enum OnTimeout: String, CaseIterable, Sendable {
        /// It is acknowledged, and so is every later one at once, until the followers are back.
        case degrade
        /// It is answered with the error `UNKNOWN`.
        case refuse
    }

    /// How many followers may be asked for.
    package static let followers = 0...100

    /// 0: a write is acknowledged when it is on the leader's disk.
    package var minimumFollowers = 0
    package var level = Level.flushed
    package var timeoutSeconds = 5.0
    package var onTimeout = OnTimeout.refuse

    package init() {}
}
