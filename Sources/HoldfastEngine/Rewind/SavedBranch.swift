import HoldfastCore
import HoldfastWAL

/// The directory beside the data directory where a rewind keeps what it throws away:
///
///     transactions.jsonl     a line for each commit: transactions, LSN, time, pages
///     wal/<segment>          the node's own log behind the fork, for holdfast wal dump
///     own.history            the history of the branch that was left
///     plan                   what repeating the rewind needs; written last, so that it says that all is there
struct SavedBranch<D: Disk> {
    static var planPath: String { "plan" }
    static var historyPath: String { "own.history" }
    static var listPath: String { "transactions.jsonl" }
    /// A run of pages is a line of at most 40 bytes.
    private static var planLimit: Int { 1 << 30 }

    let disk: D
    init(_ disk: D) { self.disk = disk }

    /// Durable when it returns. What an interrupted call left is replaced.
    func write(_ plan: RewindPlan, _ own: TimelineHistory, list: [UInt8], segmentsOf data: D) throws {
        if try onDisk({ () throws(DiskError) in try disk.exists(Self.planPath) }) {
            guard let old = try? Self.plan(disk), old.end == plan.end, old.system == plan.system else {
                throw RewindError.savedExists(path: disk.root)
            }
        }
        try onDisk { () throws(DiskError) in
            if try !disk.exists("wal") { try disk.createDirectory("wal") }
            try disk.syncDirectory("")
            for name in try data.list("wal").compactMap({ SegmentName($0) })
            where own.entry(name.timeline) != nil && name.segment.end > plan.fork.lsn && name.segment.start < plan.end {
                try disk.replaceAtomically(name.walPath, with: data.readAll(name.walPath))
            }
            try disk.replaceAtomically(Self.listPath, with: list)
            try disk.replaceAtomically(Self.historyPath, with: own.encoded())
            try disk.replaceAtomically(Self.planPath, with: plan.encoded)
        }
    }

    /// What an earlier rewind of the directory with this control file had saved.
    func read(_ control: ControlData) throws -> (RewindPlan, TimelineHistory) {
        for path in [Self.planPath, Self.historyPath]
        where try !onDisk({ () throws(DiskError) in try disk.exists(path) }) {
            throw RewindError.savedMissing(path: disk.root)
        }
        let plan = try Self.plan(disk)
        guard plan.system == control.system, plan.timeline == control.timeline,
            plan.fork == control.minimumRecoveryPoint
        else { throw RewindError.savedDamaged(path: disk.root, why: "it is of another directory") }
        let bytes = try onDisk { () throws(DiskError) in try disk.readAll(Self.historyPath) }
        return (plan, try onLog { () throws(WALError) in try TimelineHistory(decoding: bytes) })
    }

    private static func plan(_ disk: D) throws -> RewindPlan {
        let bytes = try onDisk { () throws(DiskError) in try disk.readAll(planPath, limit: planLimit) }
        switch RewindPlan.decode(bytes) {
        case .success(let plan): return plan
        case .failure(let fault):
            throw RewindError.savedDamaged(path: disk.root + "/" + planPath, why: fault.why)
        }
    }
}
