import HoldfastCore
import HoldfastEngine
import HoldfastRestore

/// A recovery target as it was typed, to be checked before anything is looked at.
package struct TargetChoice: Sendable {
    package var time: String?
    package var lsn: String?
    package var name: String?
    package var transaction: String?
    package var isImmediate: Bool
    package var isExclusive: Bool
    package var timeline: String
    package var action: String

    package init(
        time: String? = nil, lsn: String? = nil, name: String? = nil, transaction: String? = nil,
        isImmediate: Bool = false, isExclusive: Bool = false, timeline: String = "latest", action: String = "promote"
    ) {
        self.time = time
        self.lsn = lsn
        self.name = name
        self.transaction = transaction
        self.isImmediate = isImmediate
        self.isExclusive = isExclusive
        self.timeline = timeline
        self.action = action
    }

    package enum Failure: DiagnosableError, Equatable {
        case conflicting([String])
        case bad(option: String, text: String, expected: String)
        case exclusiveWithout
        case badName(Diagnosis)

        package var diagnosis: Diagnosis {
            switch self {
            case .conflicting(let options):
                Diagnosis(
                    "\(options.joined(separator: " and ")) exclude each other", next: "give one target", status: .usage)
            case .bad(let option, let text, let expected):
                Diagnosis(
                    "\(option) cannot be used", why: "\"\(printable(text))\" is not \(expected)", next: "correct it",
                    status: .usage)
            case .exclusiveWithout:
                Diagnosis(
                    "--exclusive needs a target", why: "only a time, an LSN, a transaction or a name has a before",
                    next: "give one, or leave it out", status: .usage)
            case .badName(let diagnosis): diagnosis
            }
        }
    }

    /// Puts the target into a request.
    func apply(to request: inout RestoreRequest) throws(Failure) {
        request.target = try target()
        request.isInclusive = !isExclusive
        if isExclusive, request.target == .latest || request.target == .immediate { throw .exclusiveWithout }
        request.timeline = try timelineChoice()
        guard let action = TargetAction(rawValue: action) else {
            throw .bad(option: "--target-action", text: action, expected: "promote, pause or shutdown")
        }
        request.action = action
    }

    private func target() throws(Failure) -> RecoveryTarget {
        let given = [
            time.map { _ in "--target-time" }, lsn.map { _ in "--target-lsn" }, name.map { _ in "--target-name" },
            transaction.map { _ in "--target-transaction" }, isImmediate ? "--target-immediate" : nil,
        ].compactMap { $0 }
        guard given.count <= 1 else { throw .conflicting(given) }
        if let time {
            guard let microseconds = Timestamp.parse(time) else {
                throw .bad(
                    option: "--target-time", text: time,
                    expected: "RFC 3339 with a zone, such as 2026-11-24T02:00:00+01:00")
            }
            return .time(microseconds: microseconds)
        }
        if let lsn {
            guard let value = LSN(lsn) else {
                throw .bad(option: "--target-lsn", text: lsn, expected: "an LSN such as 0/3000028")
            }
            return .lsn(value)
        }
        if let name {
            guard ObjectName.isValid(name) else { throw .badName(ObjectName.refusal(name, of: "restore point")) }
            return .name(name)
        }
        if let transaction {
            guard let value = UInt64(transaction), value > 0 else {
                throw .bad(option: "--target-transaction", text: transaction, expected: "a transaction's number")
            }
            return .transaction(TransactionID(value))
        }
        return isImmediate ? .immediate : .latest
    }

    private func timelineChoice() throws(Failure) -> TargetTimeline {
        switch timeline {
        case "current": return .current
        case "latest": return .latest
        default:
            guard let number = UInt32(timeline), number > 0 else {
                throw .bad(
                    option: "--target-timeline", text: timeline, expected: "current, latest, or a timeline's number")
            }
            return .number(TimelineID(number))
        }
    }
}
