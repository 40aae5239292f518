import HoldfastCore

/// `recovery.signal`: what `restore` asks of the `serve` that follows. It lies in the data directory from the
/// moment the restore is complete until replay has ended, and never holds a secret.
///
/// Text, one `key = value` a line, in this order; a value is printable ASCII without a line break:
///
///     holdfast recovery signal 1
///     cluster = main
///     backup = 20261123T021500Z-full
///     hold = restore-7f3a…                 the name of the restore's hold, renewed until replay ends
///     target = latest | immediate | time 2026-… | lsn 0/3000028 | transaction 17 | name before-upgrade
///     inclusive = true
///     timeline = current | latest | 3
///     action = promote | pause | shutdown
///     archive = true                       false: a copy, which neither claims nor pushes (`--no-archive`)
///     forced = false                       whether a living leader is taken over from
public struct RecoverySignal: Sendable, Equatable {
    public static let fileName = "recovery.signal"
    private static let heading = "holdfast recovery signal 1"

    public var cluster: String
    public var backup: String
    public var hold: String
    public var target: RecoveryTarget
    public var isInclusive: Bool
    public var timeline: TargetTimeline
    public var action: TargetAction
    public var usesArchive: Bool
    public var isForced: Bool

    public init(
        cluster: String, backup: String, hold: String, target: RecoveryTarget, isInclusive: Bool,
        timeline: TargetTimeline, action: TargetAction, usesArchive: Bool, isForced: Bool
    ) {
        self.cluster = cluster
        self.backup = backup
        self.hold = hold
        self.target = target
        self.isInclusive = isInclusive
        self.timeline = timeline
        self.action = action
        self.usesArchive = usesArchive
        self.isForced = isForced
    }

    /// The file's bytes.
    public var encoded: [UInt8] {
        let targetText =
            switch target {
            case .latest: "latest"
            case .immediate: "immediate"
            case .time(let time): "time " + Timestamp.text(microseconds: time)
            case .lsn(let lsn): "lsn " + lsn.description
            case .transaction(let id): "transaction " + id.description
            case .name(let name): "name " + name
            }
        let timelineText =
            switch timeline {
            case .current: "current"
            case .latest: "latest"
            case .number(let id): String(id.rawValue)
            }
        let lines = [
            Self.heading, "cluster = \(cluster)", "backup = \(backup)", "hold = \(hold)", "target = \(targetText)",
            "inclusive = \(isInclusive)", "timeline = \(timelineText)", "action = \(action.rawValue)",
            "archive = \(usesArchive)", "forced = \(isForced)",
        ]
        return Array((lines.joined(separator: "\n") + "\n").utf8)
    }

    /// Reads what `encoded` wrote; strict, since a wrong target is worse than none.
    public init(decoding bytes: [UInt8]) throws(RecoverySignalError) {
        guard bytes.count <= 4096 else { throw .malformed(line: 1, "the file is \(bytes.count) bytes long") }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        guard let heading = lines.first, heading.hasPrefix("holdfast recovery signal ") else {
            throw .malformed(line: 1, "not a recovery signal")
        }
        guard heading == Self.heading else { throw .newerVersion(printable(heading)) }
        let keys = ["cluster", "backup", "hold", "target", "inclusive", "timeline", "action", "archive", "forced"]
        guard lines.count == keys.count + 2, lines.last == "" else {
            throw .malformed(line: lines.count, "\(keys.count + 1) lines are expected")
        }
        var values: [Substring] = []
        for (index, key) in keys.enumerated() {
            let line = lines[index + 1]
            guard line.hasPrefix(key + " = ") else { throw .malformed(line: index + 2, "\(key) is expected") }
            values.append(line.dropFirst(key.count + 3))
        }
        func boolean(_ index: Int) throws(RecoverySignalError) -> Bool {
            switch values[index] {
            case "true": return true
            case "false": return false
            default: throw .malformed(line: index + 2, "true or false is expected")
            }
        }
        for index in 0...2 where !ObjectName.isValid(values[index]) {
            throw .malformed(line: index + 2, "not a name")
        }
        cluster = String(values[0])
        backup = String(values[1])
        hold = String(values[2])
        guard let target = Self.target(values[3]) else { throw .malformed(line: 5, "not a recovery target") }
        self.target = target
        isInclusive = try boolean(4)
        switch values[5] {
        case "current": timeline = .current
        case "latest": timeline = .latest
        default:
            guard let number = UInt32(values[5]), number > 0 else { throw .malformed(line: 7, "not a timeline") }
            timeline = .number(TimelineID(number))
        }
        guard let action = TargetAction(rawValue: String(values[6])) else {
            throw .malformed(line: 8, "not a target action")
        }
        self.action = action
        usesArchive = try boolean(7)
        isForced = try boolean(8)
    }

    private static func target(_ text: Substring) -> RecoveryTarget? {
        let parts = text.split(separator: " ", maxSplits: 1).map(String.init)
        switch (parts.first, parts.count) {
        case ("latest", 1): return .latest
        case ("immediate", 1): return .immediate
        case ("time", 2): return Timestamp.parse(parts[1]).map { .time(microseconds: $0) }
        case ("lsn", 2): return LSN(parts[1]).map { .lsn($0) }
        case ("transaction", 2): return UInt64(parts[1]).map { .transaction(TransactionID($0)) }
        case ("name", 2): return ObjectName.isValid(parts[1]) ? .name(parts[1]) : nil
        default: return nil
        }
    }
}

/// Why a signal file is refused.
public enum RecoverySignalError: DiagnosableError, Equatable {
    case malformed(line: Int, String)
    case newerVersion(String)

    public var diagnosis: Diagnosis {
        switch self {
        case .malformed(let line, let why):
            Diagnosis(
                "the recovery settings are damaged", at: "\(RecoverySignal.fileName), line \(line)", why: why,
                next: "run holdfast restore again", status: .dataError)
        case .newerVersion(let heading):
            Diagnosis(
                "the recovery settings are of a newer version", at: RecoverySignal.fileName, why: heading,
                next: "use the holdfast that restored this directory", status: .dataError)
        }
    }
}
