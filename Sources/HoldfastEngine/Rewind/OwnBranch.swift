import HoldfastCore
import HoldfastWAL

/// A node's own log and what its control file says of it, before a rewind. Only read.
struct OwnBranch<D: Disk> {
    let disk: D
    let control: ControlData
    let history: TimelineHistory
    let isFollower: Bool
    /// The pages are whole from here on, and the log was durable to here.
    let mustReach: LSN
    private let evidence: EndEvidence?
    private let segments: OwnSegments<D>
    private let slots: [ControlData]

    /// - Throws: for a directory that waits for something else first.
    init(_ disk: D, _ control: ControlData, _ archive: (any RecoverySource)?) throws {
        self.disk = disk
        self.control = control
        isFollower = control.state == .recovering
        slots = try ControlSlots(of: disk).slots.compactMap(\.data)
        if isFollower {
            guard try onDisk({ () throws(DiskError) in try disk.exists(StandbySignal.fileName) }),
                try onDisk({ () throws(DiskError) in try !disk.exists(PromoteSignal.path) })
            else { throw RewindError.unfinished(path: disk.root, why: "its recovery from an archive is not over") }
            history = try FollowerRecovery<D>.history(disk, control) {
                try [archive?.history(control.timeline)].compactMap { $0 }
            }
            mustReach = LogLayout.canonical(
                max(
                    control.knownDurableEnd, control.minimumRecoveryPoint?.lsn ?? .zero, control.demand?.stop ?? .zero))
            evidence = nil
        } else {
            // What a rewind of a node that had nothing to throw away left when it was interrupted.
            try onDisk { () throws(DiskError) in
                if try disk.exists(StandbySignal.fileName) {
                    try disk.remove(StandbySignal.fileName)
                    try disk.syncDirectory("")
                }
            }
            guard try onDisk({ () throws(DiskError) in try !disk.exists(BackupLabel.path) }) else {
                throw RewindError.unfinished(path: disk.root, why: "it has a \(BackupLabel.path): it was never started")
            }
            let plan = try RecoveryPlan(disk: disk, control: control)
            history = plan.history
            evidence = plan.evidence
            mustReach = LogLayout.canonical(max(plan.evidence.knownDurableEnd, plan.mustReach ?? .zero))
        }
        archive?.willReplay(history.entries.map { ($0.timeline, $0.switchLSN) })
        segments = OwnSegments(disk, archive, below: mustReach)
    }

    /// Where a scan begins: a place between commits, as far as is known.
    struct RedoPoint {
        var position: ControlData.Position
        var chain: UInt32?
        var checkpointLSN = LSN.zero
        var time: Int64 = 0
        var lastTransaction = TransactionID(0)
    }

    struct Scan {
        var log: DivergedLog
        var start: LSN
    }

    /// Reads the own log to its end: from the redo point in use, or from the fork if that lies before it.
    func scan(fork: ControlData.Position) throws -> Scan {
        let redo = control.redo
        let start =
            redo.lsn <= fork.lsn ? RedoPoint(position: redo, chain: control.redoChain) : RedoPoint(position: fork)
        return try scan(fork: fork, from: start)
    }

    func scan(fork: ControlData.Position, from start: RedoPoint) throws -> Scan {
        let reader = reader(from: start.position.lsn, start.chain)
        let log = try reading { () throws(WALError) in
            try DivergedLog(reader, fork: fork.lsn, limit: min(fork.lsn, control.redo.lsn))
        }
        if let evidence {
            _ = try onLog { () throws(WALError) in
                try EndOfLog(disk: disk, system: control.system).judge(log.end, evidence)
            }
        }
        // What a follower lacks below the fork the archive brings; what it had beyond it must be known.
        guard log.end.position >= mustReach || isFollower && mustReach <= LogLayout.canonical(fork.lsn) else {
            throw missing(log.end)
        }
        return Scan(log: log, start: start.position.lsn)
    }

    private func missing(_ end: LogEnd) -> RewindError {
        .logMissing(
            at: end.position, why: "segment \(end.segment): \(end.reason); and the log was durable up to \(mustReach)")
    }

    private func reader(from lsn: LSN, _ chain: UInt32?) -> LogReader<OwnSegments<D>> {
        LogReader(source: segments, system: control.system, history: history, from: lsn, chain: chain)
    }

    private func reading<R>(_ body: () throws(WALError) -> R) throws -> R {
        do throws(WALError) { return try body() } catch { throw segments.failure ?? EngineError(error) }
    }

    // MARK: The redo point

    /// The newest redo point known at or below the fork below which this node's pages are all on its disk: of a control slot;
    /// else of a checkpoint's record, in the log behind the fork or in the segments before it.
    ///
    /// None above the redo point in use counts: a leader's record says nothing of the pages of the node that received it.
    func redoPoint(fork: ControlData.Position, _ scan: Scan) throws -> RedoPoint {
        if let demand = control.demand, demand.stop > fork.lsn {
            throw RewindError.backupTooLate(stop: demand.stop, fork: fork.lsn)
        }
        let ofSlots = slots.filter {
            $0.system == control.system && $0.state != .restoring && $0.redo.lsn <= fork.lsn
                && history.contains($0.redo.timeline, $0.redo.lsn)
        }
        if let slot = ofSlots.max(by: { $0.redo.lsn < $1.redo.lsn }) {
            return RedoPoint(
                position: slot.redo, chain: slot.redoChain, checkpointLSN: slot.checkpointLSN,
                time: slot.lastCommitTime, lastTransaction: slot.lastTransaction)
        }
        if let found = scan.log.checkpoint { return point(found, fork) }
        return try point(earlier(than: fork), fork)
    }

    private func point(_ checkpoint: ReplayedCheckpoint, _ fork: ControlData.Position) -> RedoPoint {
        let timeline = checkpoint.redo >= fork.lsn ? fork.timeline : history.timeline(at: checkpoint.redo)
        return RedoPoint(
            position: .init(timeline: timeline, lsn: checkpoint.redo), checkpointLSN: checkpoint.start,
            time: checkpoint.time, lastTransaction: checkpoint.lastTransaction)
    }

    /// Looks through the segments before the fork, newest first.
    private func earlier(than fork: ControlData.Position) throws -> ReplayedCheckpoint {
        var number = SegmentNumber(containing: LSN(fork.lsn.rawValue - 1))
        let first = SegmentNumber(containing: LogLayout.firstPosition)
        while number >= first {
            let reader = reader(from: number.start, nil)
            var found: ReplayedCheckpoint?
            let end = min(number.end, fork.lsn)
            while reader.position < end, let record = try reading({ () throws(WALError) in try reader.next() }) {
                if let checkpoint = try reading({ () throws(WALError) in try ReplayedCheckpoint(record) }),
                    checkpoint.redo <= min(fork.lsn, control.redo.lsn)
                {
                    found = checkpoint
                }
            }
            if let found { return found }
            if let end = reader.end {
                throw RewindError.noRedoPoint(fork: fork.lsn, why: "segment \(end.segment): \(end.reason)")
            }
            number = SegmentNumber(number.rawValue - 1)
        }
        throw RewindError.noRedoPoint(fork: fork.lsn, why: "no checkpoint of the log before it is known")
    }
}
