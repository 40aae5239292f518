import Foundation
@testable import HoldfastAgent
import HoldfastCore
import HoldfastTestSupport
import Testing

private func moment(_ text: String) -> Int { Int(Timestamp.parse(text)! / 1_000_000) }
private func text(_ moment: Int?) -> String {
    moment.map { String(Timestamp.text(microseconds: Int64($0) * 1_000_000).prefix(16)) } ?? "never"
}
private func schedule(_ expression: String, _ zone: String = "UTC") throws -> CronSchedule {
    CronSchedule(try CronExpression(expression), in: try #require(TimeZone(identifier: zone)))
}

@Suite("A schedule names the moments that an operator means")
struct CronTests {
    @Test(
        "the next moments of an expression",
        arguments: [
            ("* * * * *", "2026-11-24T03:00:30Z", ["2026-11-24T03:01", "2026-11-24T03:02"]),
            ("0 2 * * *", "2026-11-24T02:00:00Z", ["2026-11-25T02:00", "2026-11-26T02:00"]),
            ("*/15 9-10 * * 1-5", "2026-11-27T10:31:00Z", ["2026-11-27T10:45", "2026-11-30T09:00"]),
            ("5/20 0 * * *", "2026-01-01T00:00:00Z", ["2026-01-01T00:05", "2026-01-01T00:25", "2026-01-01T00:45"]),
            ("0 2 * * 0", "2026-11-24T00:00:00Z", ["2026-11-29T02:00", "2026-12-06T02:00"]),
            ("0 2 * * 7", "2026-11-24T00:00:00Z", ["2026-11-29T02:00"]),
            ("0 2 * * sun,Wed", "2026-11-24T00:00:00Z", ["2026-11-25T02:00", "2026-11-29T02:00"]),
            ("0 0 1,15 * 1", "2026-11-24T00:00:00Z", ["2026-11-30T00:00", "2026-12-01T00:00", "2026-12-07T00:00"]),
            ("0 0 31 * *", "2026-11-24T00:00:00Z", ["2026-12-31T00:00", "2027-01-31T00:00", "2027-03-31T00:00"]),
            ("@weekly", "2026-11-24T00:00:00Z", ["2026-11-29T00:00"]),
            ("@yearly", "2026-11-24T00:00:00Z", ["2027-01-01T00:00", "2028-01-01T00:00"]),
            ("0 0 1 JAN *", "2026-11-24T00:00:00Z", ["2027-01-01T00:00"]),
        ])
    func next(expression: String, after: String, expected: [String]) throws {
        let schedule = try schedule(expression)
        var at = moment(after)
        for expected in expected {
            at = try #require(schedule.next(after: at))
            #expect(text(at) == expected)
        }
    }

    @Test("C8: leap days, also across a century that has none")
    func leapDays() throws {
        let schedule = try schedule("30 1 29 2 *")
        #expect(text(schedule.next(after: moment("2026-11-24T00:00:00Z"))) == "2028-02-29T01:30")
        #expect(text(schedule.next(after: moment("2096-03-01T00:00:00Z"))) == "2104-02-29T01:30")
    }

    @Test("C8: a run in the hour that spring skips happens once, at the end of the gap")
    func springForward() throws {
        // Berlin: 2027-03-28, 02:00 becomes 03:00 at 01:00 UTC.
        let nightly = try schedule("30 2 * * *", "Europe/Berlin")
        let before = moment("2027-03-27T12:00:00Z")
        let gap = try #require(nightly.next(after: before))
        #expect(text(gap) == "2027-03-28T01:00")
        #expect(text(nightly.next(after: gap)) == "2027-03-29T00:30")
        let several = try schedule("*/5 2 * * *", "Europe/Berlin")
        #expect(text(several.next(after: before)) == "2027-03-28T01:00")
        #expect(text(several.next(after: gap)) == "2027-03-29T00:00")
        let hourly = try schedule("30 * * * *", "Europe/Berlin")
        #expect(text(hourly.next(after: moment("2027-03-28T00:30:00Z"))) == "2027-03-28T01:30")
    }

    @Test("C8: a run in the hour that autumn repeats happens once, an hourly one each hour")
    func fallBack() throws {
        // Berlin: 2026-10-25, 03:00 becomes 02:00 at 01:00 UTC.
        let nightly = try schedule("30 2 * * *", "Europe/Berlin")
        let first = try #require(nightly.next(after: moment("2026-10-24T12:00:00Z")))
        #expect(text(first) == "2026-10-25T00:30")
        #expect(text(nightly.next(after: first)) == "2026-10-26T01:30")
        let hourly = try schedule("30 * * * *", "Europe/Berlin")
        #expect(text(hourly.next(after: first)) == "2026-10-25T01:30")
        #expect(text(hourly.next(after: moment("2026-10-25T01:30:00Z"))) == "2026-10-25T02:30")
    }

    @Test("C8: a zone that skips a whole day, and one that shifts by half an hour")
    func oddZones() throws {
        // Apia had no 30 December 2011; Lord Howe moves by thirty minutes.
        let apia = try schedule("0 12 30 12 *", "Pacific/Apia")
        #expect(text(apia.next(after: moment("2011-12-01T00:00:00Z"))) == "2011-12-30T10:00")
        let lordHowe = try schedule("15 2 * * *", "Australia/Lord_Howe")
        #expect(text(lordHowe.next(after: moment("2026-10-03T12:00:00Z"))) == "2026-10-03T15:30")
    }

    @Test("the last moment agrees with the next one, over two years of random moments")
    func lastAgreesWithNext() throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("cron"))
        let start = moment("2026-01-01T00:00:00Z")
        for expression in ["0 2 * * *", "*/7 1-3 * * 0", "30 * * * *", "0 0 29 2 *", "15 2 1,31 * 1"] {
            let schedule = try schedule(expression, "Europe/Berlin")
            for _ in 0..<40 {
                let at = start + Int.random(in: 0..<63_072_000, using: &random)
                let next = try #require(schedule.next(after: at))
                #expect(next > at)
                #expect(schedule.last(atOrBefore: next, after: at) == next, "\(expression) after \(at)")
                #expect(schedule.last(atOrBefore: next - 1, after: at) == nil, "\(expression) after \(at)")
            }
        }
    }

    @Test(
        "what is no schedule is refused with the reason",
        arguments: [
            ("", "it has 0 fields where 5 are expected"), ("60 * * * *", "the minute is not within 0 to 59"),
            ("* 24 * * *", "the hour is not within 0 to 23"), ("* * 0 * *", "the day of month is not within 1 to 31"),
            ("* * * 13 *", "the month is not within 1 to 12"), ("* * * * 8", "the day of week is not within 0 to 7"),
            ("*/0 * * * *", "the step of the minute is not a number above 0"),
            ("5-1 * * * *", "the range of the minute is empty"), ("1,,2 * * * *", "the minute is not within 0 to 59"),
            ("1/2/3 * * * *", "the minute has more than one step"), ("0 0 30 2 *", "no year has such a day"),
            ("@fortnightly", "it is no schedule of that name"), ("-1 * * * *", "the minute is not within 0 to 59"),
            ("99999999999999999999 * * * *", "the minute is not within 0 to 59"),
        ])
    func refused(expression: String, why: String) {
        #expect(throws: CronExpression.Failure(why: why)) { try CronExpression(expression) }
    }
}

@Suite("A scheduled job runs when it is due, once, and again when it failed")
struct JobPlanTests {
    private func plan(_ expression: String, at now: Int, state: JobState? = nil) throws -> JobPlan {
        JobPlan(try schedule(expression), state: state, now: now)
    }

    @Test("every minute is run every minute, and nothing before the first")
    func everyMinute() throws {
        var now = moment("2026-11-24T03:00:30Z")
        var plan = try plan("* * * * *", at: now)
        #expect(plan.step(now: now) == .wait(until: now + 30))
        for _ in 0..<5 {
            now = (now / 60 + 1) * 60
            #expect(plan.step(now: now) == .run(due: now))
            plan.succeeded(now: now + 2)
            #expect(plan.step(now: now + 2) == .wait(until: now + 60))
        }
    }

    @Test("C8: every minute of four hours is run once, but those that a longer run swallowed, across restarts too")
    func minuteByMinute() throws {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("minute by minute"))
        let file = ScheduleFile(SimulatedDisk(seed: 3))
        let start = moment("2026-11-24T03:00:30Z")
        var now = start
        var plan = try plan("* * * * *", at: now)
        var runs: [Int: Int] = [:]
        // Minutes that were over before a longer run was.
        var swallowed: Set<Int> = []
        while now < start + 14_400 {
            switch plan.step(now: now) {
            case .wait(let until):
                let until = try #require(until)
                #expect(until == (now / 60 + 1) * 60)
                // Whoever waits may be woken early, and looks again.
                now = Int.random(in: 0..<8, using: &random) == 0 ? Int.random(in: now...until, using: &random) : until
            case .run(let due):
                #expect(due == now / 60 * 60, "the latest minute is due")
                now +=
                    Int.random(in: 0..<20, using: &random) == 0
                    ? Int.random(in: 60...200, using: &random)
                    : Int.random(in: 0...55, using: &random)
                if Int.random(in: 0..<30, using: &random) == 0 {
                    // The agent does not survive the run: it was noted before as not handled, and is not run twice.
                    try file.save(["full": plan.state])
                    plan = try self.plan("* * * * *", at: now, state: file.load()["full"])
                    swallowed.formUnion(stride(from: due, through: now - 60, by: 60))
                    continue
                }
                plan.succeeded(now: now)
                runs[due, default: 0] += 1
                swallowed.formUnion(stride(from: due + 60, through: now - 60, by: 60))
            }
            if Int.random(in: 0..<50, using: &random) == 0 {
                try file.save(["full": plan.state])
                plan = try self.plan("* * * * *", at: now, state: file.load()["full"])
            }
        }
        print("minute by minute: \(runs.count) runs, \(swallowed.count) minutes that a longer run swallowed")
        for due in stride(from: (start / 60 + 1) * 60, through: now - 60, by: 60) {
            let expected = swallowed.contains(due) ? 0 : 1
            #expect(runs[due] ?? 0 == expected, "\(text(due)) was run \(runs[due] ?? 0) times, not \(expected)")
        }
    }

    @Test("runs missed while the agent was away are made up for once")
    func missedRuns() throws {
        let stopped = moment("2026-11-20T12:00:00Z")
        var before = try plan("0 2 * * *", at: stopped)
        #expect(before.step(now: stopped) == .wait(until: moment("2026-11-21T02:00:00Z")))
        let started = moment("2026-11-24T09:00:00Z")
        var after = try plan("0 2 * * *", at: started, state: before.state)
        #expect(after.step(now: started) == .run(due: moment("2026-11-24T02:00:00Z")))
        after.succeeded(now: started + 60)
        #expect(after.step(now: started + 60) == .wait(until: moment("2026-11-25T02:00:00Z")))
    }

    @Test("a failed run is tried again with growing pauses, until the next takes its place")
    func retries() throws {
        var now = moment("2026-11-24T02:00:00Z")
        let due = now
        var plan = try plan("0 2 * * *", at: now - 1)
        var pauses: [Int] = []
        for _ in 0..<9 {
            #expect(plan.step(now: now) == .run(due: due))
            plan.failed(now: now, why: "no", isBusy: false)
            guard case .wait(let until?) = plan.step(now: now) else { Issue.record("no wait"); return }
            pauses.append(until - now)
            now = until
        }
        #expect(pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600])
        #expect(plan.state.lastFailure == "no")
        now = moment("2026-11-25T02:00:00Z")
        #expect(plan.step(now: now) == .run(due: now))
        #expect(plan.state.attempts == 0)
    }

    @Test("another job of the cluster that runs makes it wait, not back off")
    func busy() throws {
        let now = moment("2026-11-24T02:00:00Z")
        var plan = try plan("0 2 * * *", at: now - 1)
        for round in 0..<3 {
            #expect(plan.step(now: now + round * 60) == .run(due: now))
            plan.failed(now: now + round * 60, why: "busy", isBusy: true)
            #expect(plan.step(now: now + round * 60) == .wait(until: now + (round + 1) * 60))
        }
    }

    @Test("C8: a clock that was years ahead and is set right does not silence the schedule")
    func clockSetBack() throws {
        let wrong = moment("2031-01-01T02:00:00Z")
        var plan = try plan("0 2 * * *", at: wrong - 1)
        #expect(plan.step(now: wrong) == .run(due: wrong))
        plan.succeeded(now: wrong)
        let right = moment("2026-11-24T01:00:00Z")
        #expect(plan.step(now: right) == .wait(until: moment("2026-11-24T02:00:00Z")))
        #expect(plan.step(now: right + 3600) == .run(due: right + 3600))
    }

    @Test("another schedule in the file makes up for nothing of the old one")
    func changedSchedule() throws {
        let now = moment("2026-11-24T09:00:00Z")
        let old = JobState(schedule: "0 2 * * 0 UTC", handled: now - 864_000)
        var plan = try plan("0 2 * * *", at: now, state: old)
        #expect(plan.step(now: now) == .wait(until: moment("2026-11-25T02:00:00Z")))
    }

    @Test("the state is durable, and a newer or damaged one is refused by name")
    func stateFile() throws {
        let disk = SimulatedDisk(seed: 7)
        let file = ScheduleFile(disk)
        #expect(try file.load() == [:])
        let state = JobState(schedule: "0 2 * * * UTC", handled: 5, due: 7, attempts: 2, retryAt: 9, lastFailure: "x")
        try file.save(["full": state])
        #expect(try ScheduleFile(disk.restart(seed: 8)).load() == ["full": state])
        try disk.replaceAtomically("schedule.json", with: Array(#"{"version":2,"jobs":[]}"#.utf8))
        #expect(throws: ScheduleFile<SimulatedDisk>.Failure.newer(path: "/simulated/schedule.json", version: 2)) {
            try file.load()
        }
        try disk.replaceAtomically("schedule.json", with: Array("{".utf8))
        #expect(throws: ScheduleFile<SimulatedDisk>.Failure.self) { try file.load() }
    }
}
