import Foundation

/// A cron expression in a time zone: which moments it names. Moments are seconds since 1970-01-01 UTC.
///
/// When clocks go forward a run that falls into the gap happens at the gap's end, once; when they go back a run in
/// the repeated hour happens the first time only. An expression that names every hour follows elapsed time instead:
/// nothing is made up for the gap, and the repeated hour counts twice.
package struct CronSchedule: Sendable, Equatable {
    package let expression: CronExpression
    package let timeZone: TimeZone

    package init(_ expression: CronExpression, in timeZone: TimeZone) {
        self.expression = expression
        self.timeZone = timeZone
    }

    /// The first moment after `moment`. `nil` when there is none within nine years (leap days are eight apart at most).
    package func next(after moment: Int) -> Int? {
        let today = floorDivide(moment + offset(at: moment), 86_400)
        // From yesterday: clocks that go back at midnight repeat the end of it.
        for number in (today - 1)...(today + 9 * 366) where expression.matches(CivilDay(number: number)) {
            if let found = moments(ofDay: number).first(where: { $0 > moment }) { return found }
        }
        return nil
    }

    /// The last moment at or before `moment` and after `after`; `nil` when there is none.
    package func last(atOrBefore moment: Int, after: Int) -> Int? {
        guard after < moment else { return nil }
        let today = floorDivide(moment + offset(at: moment), 86_400)
        let first = floorDivide(after + offset(at: after), 86_400) - 1
        // Bounded as `next` is: what was due nine years ago is not caught up.
        for number in stride(from: today + 1, through: Swift.max(first, today - 9 * 366), by: -1)
        where expression.matches(CivilDay(number: number)) {
            if let found = moments(ofDay: number).last(where: { $0 <= moment && $0 > after }) { return found }
        }
        return nil
    }

    /// The moments of one local day, in order, each once.
    private func moments(ofDay number: Int) -> [Int] {
        var found: [Int] = []
        for hour in 0..<24 where expression.hours & (1 << UInt64(hour)) != 0 {
            for minute in 0..<60 where expression.minutes & (1 << UInt64(minute)) != 0 {
                found.append(contentsOf: moments(ofLocal: number * 86_400 + hour * 3600 + minute * 60))
            }
        }
        // The end of a gap may be named by several local times of it.
        return Set(found).sorted()
    }

    /// `local` counts seconds as if the wall clock were UTC.
    private func moments(ofLocal local: Int) -> [Int] {
        let before = offset(at: local - 86_400)
        let after = offset(at: local + 86_400)
        if before == after && offset(at: local - before) == before { return [local - before] }
        var hits: [Int] = []
        for candidate in Set([before, after, offset(at: local)]) where offset(at: local - candidate) == candidate {
            hits.append(local - candidate)
        }
        hits.sort()
        if expression.isEveryHour { return hits }
        if let first = hits.first { return [first] }
        return [endOfGap(around: local, before: before, after: after)]
    }

    /// The moment at which the clock jumped over `local`.
    private func endOfGap(around local: Int, before: Int, after: Int) -> Int {
        var low = local - Swift.max(before, after) - 1
        var high = local - Swift.min(before, after) + 1
        let old = offset(at: low)
        while high - low > 1 {
            let middle = low + (high - low) / 2
            if offset(at: middle) == old { low = middle } else { high = middle }
        }
        return high
    }

    private func offset(at moment: Int) -> Int {
        timeZone.secondsFromGMT(for: Date(timeIntervalSince1970: Double(moment)))
    }

    private func floorDivide(_ a: Int, _ b: Int) -> Int { a >= 0 ? a / b : -((-a + b - 1) / b) }
}
