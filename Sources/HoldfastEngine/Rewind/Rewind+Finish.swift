import HoldfastCore
import HoldfastWAL

extension Rewind {
    /// Steps 3 to 5, from the plan alone.
    func finish(
        _ plan: RewindPlan, _ own: TimelineHistory, _ peer: RewindPeer, _ file: ControlFile<D>, saved: String
    ) throws -> RewindResult {
        var redo = (position: plan.redo, chain: plan.redoChain, isPlanned: true)
        var consistent = plan.fork
        // (3)
        if !plan.runs.isEmpty {
            if let older = try source.begin(fork: plan.fork.lsn), older.lsn < redo.position.lsn {
                redo = (older, nil, false)
            }
            try write(plan.runs)
            let end = try source.end()
            if end.lsn > consistent.lsn { consistent = end }
        }
        // (4)
        try cutLog(own, peer.history)
        try putHistories(own, peer.history)
        let keepsLabel = plan.demand != nil
        try onDisk { () throws(DiskError) in
            for name in [RecoverySignal.fileName, PromoteSignal.path] + (keepsLabel ? [] : [BackupLabel.path])
            where try disk.exists(name) { try disk.remove(name) }
            // Slots hold the log for followers of the branch that is left.
            for name in try disk.list("slots") { try disk.remove("slots/" + name) }
            try disk.syncDirectory("slots")
            try disk.replaceAtomically(StandbySignal.fileName, with: order.signal.encoded)
        }
        // (5)
        guard let token = peer.history.entry(redo.position.timeline)?.token else {
            preconditionFailure("a redo point in common lies on the new history")
        }
        var control = ControlData(
            state: .recovering, system: plan.system, timeline: redo.position.timeline, token: token,
            redo: redo.position.lsn, redoChain: redo.chain)
        control.isArchiving = true
        if redo.isPlanned {
            // What the abandoned branch counted behind its redo point does not count; the checkpoint's record of an older one
            // says how far the numbers were.
            control.checkpointLSN = plan.checkpointLSN
            control.checkpointTime = plan.checkpointTime
            control.lastCommitTime = plan.checkpointTime
            control.lastTransaction = plan.lastTransaction
        }
        control.knownDurableEnd = max(plan.fork.lsn, redo.position.lsn)
        control.minimumRecoveryPoint = consistent
        control.demand = plan.demand
        control.greatestRedo = max(plan.greatestRedo, control.greatestRedo)
        try onDisk { () throws(DiskError) in try file.writeBoth(control) }
        return RewindResult(
            fork: plan.fork, ownTimeline: plan.timeline, ownEnd: plan.end, newTimeline: peer.history.timeline,
            redo: redo.position, consistent: consistent, lost: plan.lost,
            pages: plan.runs.reduce(0) { $0 + $1.count }, saved: saved)
    }

    /// Nothing diverged: the node follows from where its log ends. A start meanwhile is refused for the signal that has no
    /// control file to go with it, and repeating the command removes it.
    func follow(
        _ file: ControlFile<D>, _ branch: OwnBranch<D>, _ end: LogEnd, _ fork: ControlData.Position, _ peer: RewindPeer
    ) throws -> RewindResult {
        var control = file.current
        let position: ControlData.Position
        if branch.isFollower {
            position = control.minimumRecoveryPoint ?? control.redo
        } else {
            position = .init(timeline: end.timeline, lsn: end.position)
            try onLog { () throws(WALError) in
                try EndOfLog(disk: disk, system: control.system).clearBehind(end)
            }
            try putHistories(branch.history, peer.history)
        }
        try onDisk { () throws(DiskError) in
            try disk.replaceAtomically(StandbySignal.fileName, with: order.signal.encoded)
        }
        if !branch.isFollower {
            control.state = .recovering
            control.isArchiving = true
            control.knownDurableEnd = end.position
            control.ownFrom = nil
            control.minimumRecoveryPoint = position
            try onDisk { () throws(DiskError) in try file.writeBoth(control) }
        }
        return RewindResult(
            fork: fork.lsn == .max ? position : fork, ownTimeline: control.timeline, ownEnd: position.lsn,
            newTimeline: peer.history.timeline, redo: control.redo, consistent: position)
    }

    private func write(_ runs: [PageRun]) throws {
        let pages = try onDisk { () throws(DiskError) in try PageFiles(disk) }
        defer { pages.close() }
        try source.read(runs) { first, bytes in
            let count = bytes.count / Page.bytes
            for index in 0..<count {
                let number = PageNumber(first.rawValue + UInt32(index))
                guard let base = bytes.baseAddress,
                    let fault = Page(reading: base + index * Page.bytes).fault(expected: number)
                else { continue }
                throw RewindError.badPage(number, source: source.name, why: fault.description)
            }
            try onDisk { () throws(DiskError) in
                try pages.extend(toCover: PageNumber(first.rawValue + UInt32(count - 1)))
                try pages.write(from: first, bytes)
            }
        }
        try onDisk { () throws(DiskError) in try pages.sync() }
    }

    /// Removes the segments that lie on the own branch only. The one that holds the fork stays: until the new timeline's is
    /// there it is read below the fork, and no further.
    private func cutLog(_ own: TimelineHistory, _ new: TimelineHistory) throws {
        let ending = EndOfLog(disk: disk, system: try ControlSlots(of: disk).current().system)
        for entry in own.entries.reversed() {
            let isCommon = new.entry(entry.timeline)?.token == entry.token
            let end = isCommon ? new.end(of: entry.timeline) ?? .max : .zero
            try onLog { () throws(WALError) in try ending.removeBeyondSwitch(entry.timeline, at: end) }
        }
    }

    /// The new timeline's history in place of those of the branch that is left: a start takes the newest that fits.
    private func putHistories(_ own: TimelineHistory, _ new: TimelineHistory) throws {
        try onDisk { () throws(DiskError) in
            for entry in own.entries where new.entry(entry.timeline)?.token != entry.token {
                let path = TimelineHistory.walPath(entry.timeline)
                if try disk.exists(path) { try disk.remove(path) }
            }
            if new.entries.count > 1 {
                try disk.replaceAtomically(TimelineHistory.walPath(new.timeline), with: new.encoded())
            }
            try disk.syncDirectory("wal")
        }
    }
}
