import HoldfastCore

/// The states that were committed, in order, and which of them a crash may leave.
struct History {
    /// From the empty state on.
    private(set) var states: [Model] = [Model()]
    /// The end of each state's commit; `.max` while it is under way.
    private(set) var ends: [LSN] = [.zero]
    /// The last state that somebody was told is durable, or that a reader has seen.
    private(set) var acknowledged = 0
    /// Below this the archive has the log.
    var archivedEnd = LSN.zero

    var last: Int { states.count - 1 }
    var current: Model { states[last] }

    /// A commit begins: from now on a crash may leave it.
    mutating func append(_ model: Model) {
        states.append(model)
        ends.append(.max)
    }

    mutating func committed(_ index: Int, end: LSN) { ends[index] = end }

    /// The commit that was appended last was refused: it must never be seen.
    mutating func refuse() {
        states.removeLast()
        ends.removeLast()
    }

    mutating func acknowledge(_ index: Int) { acknowledged = max(acknowledged, index) }

    /// The last state whose commit ends at or below `lsn`.
    func index(at lsn: LSN) -> Int {
        var index = last
        while ends[index] > lsn { index -= 1 }
        return index
    }

    /// The state that a recovered directory holds, which must be one that it may hold.
    func identify(_ digest: UInt64) throws(Violation) -> Int {
        var index = last
        while index >= acknowledged {
            if states[index].digest == digest { return index }
            index -= 1
        }
        while index >= 0, states[index].digest != digest { index -= 1 }
        if index >= 0 { throw Violation("state \(index) was recovered, and \(acknowledged) was acknowledged") }
        throw Violation(
            "a state was recovered that never was: acknowledged is \(acknowledged), the last is \(last)")
    }

    /// A start has shown state `index`: what came behind it is gone for good.
    /// - Parameter end: where the log ends now; nothing was committed between it and this state's commit.
    mutating func recovered(_ index: Int, end: LSN) {
        states.removeSubrange((index + 1)...)
        ends.removeSubrange((index + 1)...)
        acknowledged = index
        // One that was under way has its end in the log, which nobody was told.
        if ends[index] == .max { ends[index] = end }
    }

    /// What a reader may find when the log has lost its end behind `lsn`.
    func lost(behind lsn: LSN) -> History {
        var copy = self
        copy.acknowledged = min(acknowledged, index(at: lsn))
        copy.archivedEnd = .zero
        return copy
    }
}

/// The engine has broken a promise.
public struct Violation: Error, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}
