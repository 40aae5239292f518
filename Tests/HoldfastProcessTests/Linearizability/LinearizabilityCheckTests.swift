import HoldfastTestSupport
import Testing

/// The checker itself: what it accepts and what it does not.
@Suite("The linearizability checker")
struct LinearizabilityCheckTests {
    private typealias Call = RegisterOperation.Call
    private typealias Outcome = RegisterOperation.Outcome

    private static func operation(
        _ invoked: UInt64, _ returned: UInt64, _ call: Call, _ outcome: Outcome?
    ) -> RegisterOperation {
        RegisterOperation(call: call, outcome: outcome, invoked: invoked, returned: returned)
    }

    @Test("histories that can be put in order")
    func accepted() {
        let operation = Self.operation
        for (name, history) in [
            ("empty", []),
            ("one after the other", [operation(1, 2, .set(5), .ok), operation(3, 4, .get, .value(5))]),
            ("a read beside a write, before it", [operation(1, 9, .set(5), .ok), operation(2, 3, .get, .value(nil))]),
            (
                "reads beside a write, one on each side of it",
                [operation(1, 9, .set(5), .ok), operation(2, 3, .get, .value(nil)), operation(4, 5, .get, .value(5))]
            ),
            (
                "of two writes at once the first called comes last",
                [operation(1, 4, .set(1), .ok), operation(2, 3, .set(2), .ok), operation(5, 6, .get, .value(1))]
            ),
            ("no reply, and it happened", [operation(1, 5, .set(7), nil), operation(6, 7, .get, .value(7))]),
            ("no reply, and it never happened", [operation(1, 5, .set(7), nil), operation(6, 7, .get, .value(nil))]),
            (
                "no reply, and it happened late",
                [
                    operation(1, 9, .increment, nil), operation(2, 3, .get, .value(nil)),
                    operation(4, 5, .get, .value(1)), operation(10, 11, .increment, .number(2)),
                ]
            ),
            (
                "every call",
                [
                    operation(1, 2, .setIfPresent(1), .value(nil)), operation(3, 4, .setIfAbsent(2), .number(1)),
                    operation(5, 6, .setIfAbsent(3), .number(0)), operation(7, 8, .setIfPresent(4), .ok),
                    operation(9, 10, .swap(5), .value(4)), operation(11, 12, .increment, .number(6)),
                    operation(13, 14, .take, .value(6)), operation(15, 16, .delete, .number(0)),
                    operation(17, 18, .increment, .number(1)), operation(19, 20, .delete, .number(1)),
                ]
            ),
        ] as [(String, [RegisterOperation])] {
            #expect(LinearizabilityCheck.contradiction(in: history) == nil, "\(name)")
        }
    }

    @Test("histories that cannot")
    func refused() {
        let operation = Self.operation
        for (name, history) in [
            ("a lost write", [operation(1, 2, .set(5), .ok), operation(3, 4, .get, .value(nil))]),
            (
                "a stale read",
                [operation(1, 2, .set(1), .ok), operation(3, 4, .set(2), .ok), operation(5, 6, .get, .value(1))]
            ),
            (
                "a write seen, and then not",
                [operation(1, 9, .set(5), .ok), operation(2, 3, .get, .value(5)), operation(4, 5, .get, .value(nil))]
            ),
            (
                "two readers that disagree about the order of two writes",
                [
                    operation(1, 9, .set(1), .ok), operation(1, 9, .set(2), .ok), operation(10, 11, .get, .value(1)),
                    operation(12, 13, .get, .value(2)),
                ]
            ),
            ("a value out of nothing", [operation(1, 2, .get, .value(3))]),
            (
                "an increment counted once for two",
                [operation(1, 5, .increment, .number(1)), operation(2, 6, .increment, .number(1))]
            ),
            (
                "no reply, and it came back from the dead",
                [operation(1, 5, .set(7), nil), operation(6, 7, .get, .value(nil)), operation(8, 9, .get, .value(7))]
            ),
            (
                "no reply, and it happened twice",
                [operation(1, 5, .increment, nil), operation(6, 7, .get, .value(2))]
            ),
            (
                "two that were first",
                [operation(1, 5, .setIfAbsent(1), .number(1)), operation(2, 6, .setIfAbsent(2), .number(1))]
            ),
        ] as [(String, [RegisterOperation])] {
            #expect(LinearizabilityCheck.contradiction(in: history) != nil, "\(name)")
        }
    }

    @Test("short random histories: it says what trying every order says")
    func againstEveryOrder() {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("every order"))
        var counts = (yes: 0, no: 0)
        for _ in 0..<4000 {
            let history = Self.randomHistory(Int.random(in: 1...6, using: &random), &random)
            let expected = Self.hasOrder(history, from: nil)
            if expected { counts.yes += 1 } else { counts.no += 1 }
            #expect((LinearizabilityCheck.contradiction(in: history) == nil) == expected, "\(history)")
        }
        print("every order: \(counts.yes) linearizable, \(counts.no) not")
        #expect(counts.yes > 200 && counts.no > 200, "both kinds occur")
    }

    /// Calls at once or in turn with outcomes of a register that sometimes forgets or lies.
    private static func randomHistory(_ count: Int, _ random: inout SeededGenerator) -> [RegisterOperation] {
        var state: Int64?
        let times = (0..<UInt64(2 * count)).shuffled(using: &random)
        return (0..<count).map { index in
            let calls: [Call] = [
                .get, .get, .set(Int64(index) * 10), .setIfAbsent(7), .setIfPresent(8), .swap(9), .increment, .delete,
                .take,
            ]
            let call = calls.randomElement(using: &random)!
            let old = state
            var (outcome, next) = RegisterOperation.run(call, on: state)
            state = next
            switch Int.random(in: 0..<8, using: &random) {
            case 0: state = old
            case 1: (outcome, next) = RegisterOperation.run(call, on: [nil, 7, 10].randomElement(using: &random)!)
            default: break
            }
            let (a, b) = (times[2 * index], times[2 * index + 1])
            return operation(min(a, b), max(a, b), call, Int.random(in: 0..<6, using: &random) == 0 ? nil : outcome)
        }
    }

    /// By trying all of them.
    private static func hasOrder(_ left: [RegisterOperation], from state: Int64?) -> Bool {
        if left.isEmpty { return true }
        for (index, operation) in left.enumerated() {
            var rest = left
            rest.remove(at: index)
            if rest.contains(where: { $0.returned < operation.invoked }) { continue }
            let (outcome, next) = RegisterOperation.run(operation.call, on: state)
            if operation.outcome == nil, hasOrder(rest, from: state) { return true }
            if operation.outcome ?? outcome == outcome, hasOrder(rest, from: next) { return true }
        }
        return false
    }
}
