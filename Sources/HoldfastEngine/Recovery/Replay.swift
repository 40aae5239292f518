import HoldfastCore
import HoldfastWAL

/// Drives replay: reads records, puts commits together, applies them. Where the segments come from is the reader's
/// source, where to stop is `judge`, what happens at the end is the caller's.
final class Replay<Source: SegmentSource> {
    private(set) var reader: LogReader<Source>
    let redo: Redo
    private let assembler = CommitAssembler()

    /// What was seen of the log so far, from the control file and then from records.
    private(set) var lastTransaction: TransactionID
    private(set) var lastTime: Int64
    private(set) var greatestRedo: LSN
    /// The end of the last commit applied, or where replay began.
    private(set) var appliedEnd: LSN
    /// The same once a commit was applied.
    private(set) var lastCommit: LogPlace?
    /// The end of the first record read.
    private(set) var firstRecord: LogPlace?
    private(set) var backupEnds: [LSN: LSN] = [:]
    /// The CRC of the record before the place where `judge` stopped replay.
    private(set) var stopChain: UInt32?
    /// The CRC before the parts of the commit that is being put together.
    private var beginChain: UInt32?
    /// Carries commits out in place of `redo`, once there are readers.
    var applier: ((AssembledCommit) throws -> Void)?
    /// Told of each checkpoint of the leader: its redo point, and where its record ends.
    var onCheckpoint: ((ReplayedCheckpoint) -> Void)?

    init(_ reader: LogReader<Source>, _ redo: Redo, from control: ControlData, start: LSN) {
        self.reader = reader
        self.redo = redo
        lastTransaction = control.lastTransaction
        lastTime = control.lastCommitTime
        greatestRedo = planted(.redoPointForgotten) ? .zero : max(control.greatestRedo, start)
        appliedEnd = start
    }

    /// Goes on with another reader, at the same place, along a history that goes on further. Parts of a commit that was cut
    /// there are dropped by the next beginning.
    func go(on reader: LogReader<Source>) {
        precondition(reader.position == self.reader.position, "replay cannot jump in the log")
        self.reader = reader
    }

    enum Stop: Equatable {
        /// No record follows: `reader.end` says why.
        case logEnded
        /// Before the record that begins here, which was not applied.
        case before(LSN)
        /// Behind the record that ends here.
        case after(LSN)
    }

    /// Replays until the log ends or `judge` says so. It is asked about every commit, and every other record that a target
    /// may name, before it is applied.
    func run(until judge: (ReplayPoint) throws -> TargetJudge.Verdict = { _ in .apply }) throws -> Stop {
        try redo.cache.touchingAhead { try replay(until: judge) }
    }

    /// The same with readers about: memory is not touched ahead.
    func replay(until judge: (ReplayPoint) throws -> TargetJudge.Verdict) throws -> Stop {
        while let record = try next() {
            if redo.raise == nil { redo.durableMark = max(redo.durableMark, reader.greatestMark) }
            if firstRecord == nil { firstRecord = LogPlace(lsn: record.end, chain: record.crc) }
            if record.kind == .commit, record.flags.contains(.begin) { beginChain = record.previousCRC }
            let commit = try onLog { () throws(WALError) in try assembler.add(record) }
            if let commit {
                let point = ReplayPoint(
                    kind: .commit(first: commit.first, last: commit.last), end: commit.end, time: commit.time)
                let verdict = try judge(point)
                if verdict == .stopBefore {
                    stopChain = beginChain
                    return .before(commit.start)
                }
                if let applier { try applier(commit) } else { try redo.apply(commit) }
                lastTransaction = max(lastTransaction, commit.last)
                lastTime = max(lastTime, commit.time)
                appliedEnd = commit.end
                lastCommit = LogPlace(lsn: commit.end, chain: record.crc)
                if verdict == .stopAfter {
                    stopChain = record.crc
                    return .after(commit.end)
                }
            } else if let point = try other(record) {
                let verdict = try judge(point)
                if verdict == .stopBefore {
                    stopChain = record.previousCRC
                    return .before(record.start)
                }
                lastTime = max(lastTime, point.time ?? 0)
                if verdict == .stopAfter {
                    stopChain = record.crc
                    return .after(record.end)
                }
            }
        }
        #if PlantedFaults
            if planted(.partsEarly),
                let partial = assembler.partial(end: reader.position, timeline: reader.history.timeline)
            {
                try redo.apply(partial)
            }
        #endif
        return .logEnded
    }

    private func next() throws(EngineError) -> LogRecord? {
        try onLog { () throws(WALError) in try reader.next() }
    }

    /// Notes what a record of another kind says; `nil` for those that carry nothing.
    private func other(_ record: LogRecord) throws(EngineError) -> ReplayPoint? {
        switch record.kind {
        case .commit, .filler, .witness, .segmentSwitch: return nil
        case .checkpoint, .restorePoint, .backupEnd, .timelineSwitch, .endOfRecovery: break
        }
        let body = try onLog { () throws(WALError) in try RecordBody(decoding: record) }
        switch body {
        case .checkpoint(let redo, let timeline, let last, let time):
            if !planted(.redoPointForgotten) { greatestRedo = max(greatestRedo, redo) }
            lastTransaction = max(lastTransaction, last)
            onCheckpoint?(
                ReplayedCheckpoint(
                    redo: redo, timeline: timeline, start: record.start,
                    end: LogPlace(lsn: record.end, chain: record.crc), lastTransaction: last, time: time))
        case .backupEnd(let start, _, _, _): backupEnds[start] = record.end
        case .restorePoint(let name, let time):
            return ReplayPoint(kind: .restorePoint(name), end: record.end, time: time)
        case .timelineSwitch, .endOfRecovery: break
        }
        return ReplayPoint(kind: .other, end: record.end, time: body.time)
    }
}

/// A checkpoint of the leader, as its record tells it.
struct ReplayedCheckpoint: Sendable {
    var redo: LSN
    var timeline: TimelineID
    /// Of the record.
    var start: LSN
    var end: LogPlace
    var lastTransaction: TransactionID
    var time: Int64
}

extension EngineError {
    /// The engine's error for one of the log's. Want of space is a refusal that heals by itself.
    init(_ error: WALError) {
        self =
            switch error {
            case .disk(let disk) where disk.isNoSpace: .writesRefused(disk)
            case .disk(let disk): .disk(disk)
            case .poisoned(let disk): .stopped(disk.description)
            default: .log(error.diagnosis)
            }
    }
}

extension EngineError {
    init(_ error: ImpossibleChange) { self = .log(error.diagnosis) }
}

/// Runs a call of the log, turning its error into the engine's.
@inline(__always)
func onLog<R>(_ body: () throws(WALError) -> R) throws(EngineError) -> R {
    do throws(WALError) { return try body() } catch { throw EngineError(error) }
}

/// Runs a call of the disk, turning its error into the engine's.
@inline(__always)
func onDisk<R>(_ body: () throws(DiskError) -> R) throws(EngineError) -> R {
    do throws(DiskError) { return try body() } catch { throw .disk(error) }
}
