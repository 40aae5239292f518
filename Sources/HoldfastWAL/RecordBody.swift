import HoldfastCore

/// The bodies of the records that are neither commits nor empty. Byte tables (little-endian; times are
/// microseconds since 1970-01-01 UTC):
///
///     checkpoint       0 redo LSN 8 · 8 time 8 · 16 last transaction 8 · 24 redo timeline 4 · 28 zero 4
///     restorePoint     0 time 8 · 8 length of the name 2 · 10 the name, UTF-8
///     backupEnd        0 start LSN 8 · 8 time 8 · 16 the backup's token 8 · 24 start timeline 4 · 28 zero 4
///     timelineSwitch   0 switch LSN 8 · 8 time 8 · 16 token 8 · 24 the timeline left 4 · 28 the new one 4
///     endOfRecovery    0 recovered to 8 · 8 time 8
///
/// `segmentSwitch`, `witness` and `filler` have no body to speak of.
package enum RecordBody: Equatable, Sendable {
    /// `redo` lies between commits; from there replay makes the pages whole.
    case checkpoint(redo: LSN, redoTimeline: TimelineID, lastTransaction: TransactionID, time: Int64)
    case restorePoint(name: String, time: Int64)
    /// Everything a backup that began at `start` needs lies before this record's end.
    case backupEnd(start: LSN, startTimeline: TimelineID, token: UInt64, time: Int64)
    /// The first record of a timeline.
    case timelineSwitch(
        switchLSN: LSN, previous: TimelineID, timeline: TimelineID, token: TimelineToken, time: Int64)
    case endOfRecovery(recoveredTo: LSN, time: Int64)

    package var kind: RecordKind {
        switch self {
        case .checkpoint: .checkpoint
        case .restorePoint: .restorePoint
        case .backupEnd: .backupEnd
        case .timelineSwitch: .timelineSwitch
        case .endOfRecovery: .endOfRecovery
        }
    }

    /// Microseconds since 1970. The writer never lets it run backwards.
    package var time: Int64 {
        get {
            switch self {
            case .checkpoint(_, _, _, let time), .restorePoint(_, let time), .backupEnd(_, _, _, let time),
                .timelineSwitch(_, _, _, _, let time), .endOfRecovery(_, let time):
                time
            }
        }
        set {
            switch self {
            case .checkpoint(let redo, let timeline, let last, _):
                self = .checkpoint(redo: redo, redoTimeline: timeline, lastTransaction: last, time: newValue)
            case .restorePoint(let name, _): self = .restorePoint(name: name, time: newValue)
            case .backupEnd(let start, let timeline, let token, _):
                self = .backupEnd(start: start, startTimeline: timeline, token: token, time: newValue)
            case .timelineSwitch(let lsn, let previous, let timeline, let token, _):
                self = .timelineSwitch(
                    switchLSN: lsn, previous: previous, timeline: timeline, token: token, time: newValue)
            case .endOfRecovery(let lsn, _): self = .endOfRecovery(recoveredTo: lsn, time: newValue)
            }
        }
    }

    package func encoded() -> [UInt8] {
        var out: [UInt8] = []
        func add(_ value: some FixedWidthInteger) {
            withUnsafeBytes(of: value.littleEndian) { out.append(contentsOf: $0) }
        }
        switch self {
        case .checkpoint(let redo, let timeline, let last, let time):
            add(redo.rawValue)
            add(time)
            add(last.rawValue)
            add(timeline.rawValue)
            add(UInt32(0))
        case .restorePoint(let name, let time):
            add(time)
            add(UInt16(name.utf8.count))
            out.append(contentsOf: name.utf8)
        case .backupEnd(let start, let timeline, let token, let time):
            add(start.rawValue)
            add(time)
            add(token)
            add(timeline.rawValue)
            add(UInt32(0))
        case .timelineSwitch(let lsn, let previous, let timeline, let token, let time):
            add(lsn.rawValue)
            add(time)
            add(token.rawValue)
            add(previous.rawValue)
            add(timeline.rawValue)
        case .endOfRecovery(let lsn, let time):
            add(lsn.rawValue)
            add(time)
        }
        return out
    }

    /// Decodes a record of one of these kinds; throws `invalid` for other kinds and for a body of
    /// another length than its kind's.
    package init(decoding record: LogRecord) throws(WALError) {
        let body = record.body
        func require(_ bytes: Int) throws(WALError) {
            guard body.count == bytes else {
                throw .invalid(at: record.start, "a \(record.kind) record with \(body.count) bytes of body")
            }
        }
        func load<T: FixedWidthInteger>(_ offset: Int, _ type: T.Type) -> T {
            body.loadUnaligned(fromByteOffset: offset, as: type)
        }
        switch record.kind {
        case .checkpoint:
            try require(32)
            self = .checkpoint(
                redo: LSN(load(0, UInt64.self)), redoTimeline: TimelineID(load(24, UInt32.self)),
                lastTransaction: TransactionID(load(16, UInt64.self)), time: load(8, Int64.self))
        case .restorePoint:
            guard body.count >= 10 else {
                throw .invalid(at: record.start, "a restore point with \(body.count) bytes of body")
            }
            try require(10 + Int(load(8, UInt16.self)))
            guard let name = String(validating: body[10...], as: UTF8.self) else {
                throw .invalid(at: record.start, "a restore point whose name is not UTF-8")
            }
            self = .restorePoint(name: name, time: load(0, Int64.self))
        case .backupEnd:
            try require(32)
            self = .backupEnd(
                start: LSN(load(0, UInt64.self)), startTimeline: TimelineID(load(24, UInt32.self)),
                token: load(16, UInt64.self), time: load(8, Int64.self))
        case .timelineSwitch:
            try require(32)
            self = .timelineSwitch(
                switchLSN: LSN(load(0, UInt64.self)), previous: TimelineID(load(24, UInt32.self)),
                timeline: TimelineID(load(28, UInt32.self)),
                token: TimelineToken(rawValue: load(16, UInt64.self)), time: load(8, Int64.self))
        case .endOfRecovery:
            try require(16)
            self = .endOfRecovery(recoveredTo: LSN(load(0, UInt64.self)), time: load(8, Int64.self))
        case .commit, .segmentSwitch, .witness, .filler:
            throw .invalid(at: record.start, "a \(record.kind) record where one with a body of its own was expected")
        }
    }
}
