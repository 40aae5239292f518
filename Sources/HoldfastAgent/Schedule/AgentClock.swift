import Glibc

/// The clock that schedules run by: the system's, or, for tests of the whole process only, one that runs faster from
/// the moment the agent starts (`HOLDFAST_CLOCK_RATE=60` makes a second of a minute).
package struct AgentClock: Sendable {
    package let rate: Double
    private let start: Double

    package init(rate: Double = 1) {
        self.rate = rate
        start = Self.systemSeconds()
    }

    /// From the environment; a rate that is not a number from 1 to 100,000 is refused.
    package init(environment: [String: String]) throws(ConfigurationError) {
        guard let text = environment["HOLDFAST_CLOCK_RATE"] else {
            self.init()
            return
        }
        guard let rate = Double(text), (1...100_000).contains(rate) else {
            throw .badValue(
                "HOLDFAST_CLOCK_RATE", .environment("HOLDFAST_CLOCK_RATE"), why: "it is not a number from 1 to 100000",
                next: "unset it: it is for tests")
        }
        self.init(rate: rate)
    }

    /// Seconds since 1970-01-01 UTC.
    package var now: Int { Int(start + (Self.systemSeconds() - start) * rate) }

    /// How long to sleep, in real milliseconds, to wake at `moment`. At most 30 s, so that a stepped clock is noticed.
    package func millisecondsUntil(_ moment: Int?) -> Int {
        guard let moment else { return 30_000 }
        let real = (Double(moment) - start) / rate + start - Self.systemSeconds()
        return Swift.min(Swift.max(Int(real * 1000) + 1, 1), 30_000)
    }

    private static func systemSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
