/// Whether one key's history can be put in one order that a single register, running one operation at a time, would
/// have answered alike, where each operation takes effect between its call and its return.
///
/// The search of Wing and Gong (Testing and verifying concurrent objects, 1993) with the memory of Lowe (Testing for
/// linearizability, 2017), as in Knossos and Porcupine: depth first; a set of operations done, and the state they left, is
/// looked at once, however it was reached.
public struct LinearizabilityCheck {
    /// A set of operations done and what they left. Operations are numbered by their calls: all below `first` are
    /// done, and of those above it the ones in `more`, sorted.
    private struct Configuration: Hashable {
        var first = 0
        var more: [Int] = []
        var state: Int64?

        func doing(_ index: Int, leaving state: Int64?) -> Configuration {
            var next = self
            next.state = state
            if index == first {
                next.first += 1
                while next.more.first == next.first {
                    next.more.removeFirst()
                    next.first += 1
                }
            } else {
                next.more.insert(index, at: next.more.firstIndex { $0 > index } ?? next.more.endIndex)
            }
            return next
        }
    }

    private let operations: [RegisterOperation]

    private init(_ history: [RegisterOperation]) { operations = history.sorted { $0.invoked < $1.invoked } }

    /// `nil` when the history is linearizable; otherwise the operations around the place beyond which no order leads.
    /// The register holds nothing at first.
    public static func contradiction(in history: [RegisterOperation]) -> [RegisterOperation]? {
        LinearizabilityCheck(history).search()
    }

    private func search() -> [RegisterOperation]? {
        var stack = [Configuration()]
        var seen: Set<Configuration> = []
        var furthest = 0
        while let configuration = stack.popLast() {
            guard seen.insert(configuration).inserted else { continue }
            furthest = max(furthest, configuration.first)
            if configuration.first == operations.count { return nil }
            let candidates = next(configuration)
            // A read that fits leaves everything as it is: whatever order leads on with it later leads on with it now.
            if let read = candidates.first(where: { fits(operations[$0], configuration.state) }) {
                stack.append(configuration.doing(read, leaving: configuration.state))
                continue
            }
            // What returned first is tried first: it is on top.
            for index in candidates.sorted(by: { operations[$0].returned > operations[$1].returned }) {
                let operation = operations[index]
                let (outcome, state) = RegisterOperation.run(operation.call, on: configuration.state)
                if let seen = operation.outcome {
                    if seen == outcome { stack.append(configuration.doing(index, leaving: state)) }
                } else {
                    stack.append(configuration.doing(index, leaving: state))
                    stack.append(configuration.doing(index, leaving: configuration.state))
                }
            }
        }
        return Array(operations[max(0, furthest - 12)..<min(operations.count, furthest + 12)])
    }

    private func fits(_ operation: RegisterOperation, _ state: Int64?) -> Bool {
        operation.call == .get && operation.outcome == .value(state)
    }

    /// The operations that may take effect next: those not done that were called before any of them had returned.
    private func next(_ configuration: Configuration) -> [Int] {
        var all: [Int] = []
        var firstReturn = UInt64.max
        var index = configuration.first
        var more = configuration.more[...]
        while index < operations.count, operations[index].invoked <= firstReturn {
            if more.first == index {
                more.removeFirst()
            } else {
                all.append(index)
                firstReturn = min(firstReturn, operations[index].returned)
            }
            index += 1
        }
        return all
    }
}
