import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL

/// What must be true when a round is over: all nodes have the leader's log, and no client waits for an answer.
struct RoundCheck {
    /// Of this round.
    let attempts: [Attempt]
    /// The branches that lead to the timeline of whoever leads now.
    let history: TimelineHistory
    /// Name and records of each node; the leader's first.
    let dumps: [(node: String, text: String)]
    let minimumFollowers: Int
    /// Ends of the transactions that rewinds have told that they threw away, in this round.
    let reported: Set<LSN>
    /// What a follower had received of the old timeline when its leader failed.
    let received: (timeline: UInt32, lsn: LSN)

    struct Result {
        var failures: [String] = []
        /// Acknowledged and not on the leader; without `min_followers` only.
        var lost: [Attempt] = []
        /// Plain reads of a write that was not acknowledged, and is lost.
        var earlyReads = 0
        /// Keys whose other plain reads cannot be put in order with the writes: a leader that was left behind answered.
        var keysReadLate = 0
        /// Acknowledged writes of keys of their own that stay, and must for ever.
        var kept: [String: Int64] = [:]
    }

    func run(_ earlier: [String: Int64]) -> Result {
        var result = Result()
        for dump in dumps.dropFirst() where dump.text != dumps[0].text {
            result.failures.append(
                "\(dump.node) and \(dumps[0].node) differ: \(Self.difference(dump.text, dumps[0].text))")
        }
        let records = records(&result)
        let (kept, lost) = divide(&result)
        for attempt in kept where attempt.kind == .once { result.kept[attempt.key] = attempt.value }
        for (key, value) in earlier.merging(result.kept, uniquingKeysWith: { $1 }) where records[key] != "\(value)" {
            result.failures.append("\(key) was acknowledged as \(value) and is \(records[key] ?? "lost")")
        }
        for attempt in lost where attempt.kind == .once && records[attempt.key] != nil {
            result.failures.append("\(attempt.key) is said to be lost and is there")
        }
        for key in Set(attempts.lazy.filter { $0.kind != .once }.map(\.key)).sorted() {
            register(key, kept, records[key].flatMap { Int64($0) }, &result)
        }
        onTime(&result)
        return result
    }

    private func records(_ result: inout Result) -> [String: String] {
        var records: [String: String] = [:]
        for line in dumps[0].text.split(separator: "\n") {
            let parts = line.split(separator: "\t", omittingEmptySubsequences: false)
            guard parts.count == 2 else {
                result.failures.append("\(dumps[0].node) dumps the line \(printable(line))")
                continue
            }
            records[String(parts[0])] = String(parts[1])
        }
        return records
    }

    /// Acknowledged writes whose log the leader has, and those whose log it has not.
    private func divide(_ result: inout Result) -> (kept: [Attempt], lost: [Attempt]) {
        var (kept, lost): ([Attempt], [Attempt]) = ([], [])
        for attempt in attempts where attempt.isAcknowledgedWrite {
            guard let timeline = attempt.timeline, let end = attempt.end else { continue }
            if history.contains(TimelineID(timeline), end) {
                kept.append(attempt)
                continue
            }
            lost.append(attempt)
            let place = "\(attempt.node) on timeline \(timeline) at \(end)"
            let what = "\(attempt.key)=\(attempt.value), acknowledged by \(place)"
            if minimumFollowers > 0 {
                result.failures.append("\(what), is not in the leader's log: \(branches)")
            } else if timeline == received.timeline, end <= received.lsn {
                result.failures.append("\(what), is lost, and a follower had received the log to \(received.lsn)")
            } else if !reported.contains(end) {
                result.failures.append("\(what), is lost and no rewind has told it")
            }
        }
        result.lost = lost
        return (kept, lost)
    }

    private var branches: String {
        history.entries.map { "timeline \($0.timeline.rawValue) from \($0.switchLSN)" }.joined(separator: ", ")
    }

    // MARK: One key as a register

    private func register(_ key: String, _ kept: [Attempt], _ last: Int64?, _ result: inout Result) {
        let all = attempts.filter { $0.key == key }
        guard minimumFollowers > 0 else {
            // What a lost write was answered depends on what else was lost: only the order of what stayed is looked at.
            let writes = kept.filter { $0.key == key && ($0.kind == .set || $0.kind == .swap) }
            guard let newest = writes.max(by: { ($0.timeline!, $0.end!) < ($1.timeline!, $1.end!) }) else { return }
            let unknown = all.contains { $0.outcome == nil && $0.value == last }
            // Writes of one commit have one end.
            let atOnce = writes.contains { $0.value == last && $0.timeline == newest.timeline && $0.end == newest.end }
            if !atOnce && !unknown {
                let found = last.map { "\($0)" } ?? "nothing"
                result.failures.append("\(key) is \(found), written last was \(newest.value)")
            }
            return
        }
        let end = (all.map(\.invoked) + all.map(\.returned).filter { $0 != .max }).max() ?? 0
        let read = RegisterOperation(call: .get, outcome: .value(last), invoked: end + 1, returned: end + 2)
        let operations = Self.bounded(all.filter { $0.kind != .plainGet }.map(\.operation) + [read])
        if let contradiction = LinearizabilityCheck.contradiction(in: operations) {
            result.failures.append("\(key) is no register:\n\(Self.story(contradiction, all))")
            return
        }
        let written = Set(operations.compactMap(\.written))
        let reads = all.filter { $0.kind == .plainGet }.map(\.operation)
        let (good, early) = (reads.filter { $0.isRead(of: written) }, reads.filter { !$0.isRead(of: written) })
        result.earlyReads += early.count
        let values = Set(all.filter { $0.kind != .plainGet }.map(\.value))
        for operation in early where !operation.isRead(of: values) {
            result.failures.append("\(key) was read as \(operation), which nobody wrote")
        }
        if LinearizabilityCheck.contradiction(in: operations + good) != nil { result.keysReadLate += 1 }
    }

    /// A write without an answer has happened, and before it was seen; one that nobody ever saw might as well not have,
    /// since all values differ.
    private static func bounded(_ operations: [RegisterOperation]) -> [RegisterOperation] {
        var seen: [Int64: UInt64] = [:]
        for operation in operations {
            if case .value(let value?) = operation.outcome {
                seen[value] = min(seen[value] ?? .max, operation.returned)
            }
        }
        return operations.compactMap { operation in
            guard operation.outcome == nil else { return operation }
            guard case .set(let value) = operation.call.asSet, let first = seen[value] else { return nil }
            // What was seen before it was asked for is no order at all: the checker says so.
            return RegisterOperation(
                call: .set(value), outcome: .ok, invoked: operation.invoked, returned: max(first, operation.invoked + 1)
            )
        }
    }

    private static func story(_ operations: [RegisterOperation], _ attempts: [Attempt]) -> String {
        let start = operations.first?.invoked ?? 0
        return operations.map { operation in
            let attempt = attempts.first { $0.invoked == operation.invoked }
            var shown = operation
            shown.invoked -= start
            shown.returned = operation.returned == .max ? .max : operation.returned &- start
            let place = attempt.map { attempt in
                " on \(attempt.node)" + (attempt.timeline.map { ", timeline \($0)" } ?? "")
                    + (attempt.end.map { " at \($0)" } ?? "")
            }
            return "    \(shown)\(place ?? "")"
        }.joined(separator: "\n")
    }

    // MARK: Time

    /// No leader acknowledges anything that it was asked for after a newer one had acknowledged something.
    private func onTime(_ result: inout Result) {
        var first: [UInt32: UInt64] = [:]
        for attempt in attempts where attempt.isAcknowledgedWrite {
            guard let timeline = attempt.timeline else { continue }
            first[timeline] = min(first[timeline] ?? .max, attempt.returned)
        }
        for attempt in attempts where attempt.isAcknowledgedWrite {
            guard let timeline = attempt.timeline else { continue }
            for (newer, time) in first where newer > timeline && attempt.invoked > time {
                result.failures.append(
                    "\(attempt.node) acknowledged \(attempt.key) on timeline \(timeline), asked for "
                        + "\((attempt.invoked - time) / 1_000_000) ms after timeline \(newer) had acknowledged")
            }
        }
    }

    private static func difference(_ one: String, _ other: String) -> String {
        let (a, b) = (Set(one.split(separator: "\n")), Set(other.split(separator: "\n")))
        let (here, there) = (a.subtracting(b), b.subtracting(a))
        return "\(here.count) lines are here only (\(here.min().map { printable($0) } ?? "")), "
            + "\(there.count) there only (\(there.min().map { printable($0) } ?? ""))"
    }
}

extension RegisterOperation {
    fileprivate var written: Int64? {
        switch call {
        case .set(let value), .swap(let value): value
        default: nil
        }
    }

    fileprivate func isRead(of written: Set<Int64>) -> Bool {
        guard case .value(let value?) = outcome else { return true }
        return written.contains(value)
    }
}

extension RegisterOperation.Call {
    /// What the call writes when it is not known what it found.
    fileprivate var asSet: Self { if case .swap(let value) = self { .set(value) } else { self } }
}
