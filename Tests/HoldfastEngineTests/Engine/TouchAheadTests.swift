import Glibc
import HoldfastCore
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("Memory is touched ahead of a replay, and no further than it goes")
struct TouchAheadTests {
    /// What was asked for, in order.
    private final class Touched: Sendable {
        private let all = Mutex<[Range<Int>]>([])
        func note(_ from: Int, _ count: Int) { all.withLock { $0.append(from..<from + count) } }
        var ranges: [Range<Int>] { all.withLock { $0 } }
    }

    private func waitUntil(_ condition: () -> Bool) throws {
        for _ in 0..<20_000 {
            if condition() { return }
            usleep(500)
        }
        Issue.record("it never happened")
    }

    @Test("each slot once, in order, at most so far ahead, and not past the end")
    func ahead() throws {
        let step = TouchAhead.step
        let slots = TouchAhead.slotsAhead + 10 * step + 3
        let touched = Touched()
        let ahead = TouchAhead(slots: slots) {
            touched.note($0, $1)
            return true
        }
        ahead.advance(step - 1)
        #expect(touched.ranges.isEmpty)
        ahead.advance(step)
        try waitUntil { touched.ranges.last?.upperBound ?? 0 > step + TouchAhead.slotsAhead }
        #expect(touched.ranges.last!.upperBound <= 2 * step + TouchAhead.slotsAhead)
        for used in stride(from: 2 * step, to: slots, by: step) { ahead.advance(used) }
        try waitUntil { touched.ranges.last?.upperBound == slots }
        ahead.stop()
        let ranges = touched.ranges
        #expect(ranges.first?.lowerBound == step)
        #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound })
    }

    @Test("it stops while it waits, in the middle of a call, before it began, and when the kernel refuses")
    func stops() throws {
        let step = TouchAhead.step
        let idle = TouchAhead(slots: 100 * step) { _, _ in true }
        idle.stop()
        idle.advance(step)
        let slow = TouchAhead(slots: 10_000 * step) { _, _ in
            usleep(1000)
            return true
        }
        slow.advance(step)
        slow.stop()
        let calls = Touched()
        let refused = TouchAhead(slots: 100 * step) {
            calls.note($0, $1)
            return false
        }
        refused.advance(step)
        try waitUntil { !calls.ranges.isEmpty }
        for used in 2...50 { refused.advance(used * step) }
        refused.stop()
        #expect(calls.ranges.count == 1)
    }
}
