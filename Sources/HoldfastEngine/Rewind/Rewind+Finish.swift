import Glibc
import HoldfastCore
import HoldfastWAL

extension Rewind {
    /// Steps 3 to 5, from the plan alone.
    func finish(
        _ plan: RewindPlan, _ own: TimelineHistory, _ peer: RewindPeer, _ file: ControlFile<D>, saved: D
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
        let segment = try forkSegment(plan, own, peer.history, saved)
        try cutLog(own, peer.history)
        if let segment {
            try onDisk { () throws(DiskError) in
                try disk.replaceAtomically(segment.name.walPath, with: segment.bytes)
            }
        }
        try putHistories(own, peer.history)
        let keepsLabel = plan.demand != nil
        try onDisk { () throws(DiskError) in
            for name in [RecoverySignal.fileName, PromoteSignal.path, ClaimSignal.path]
                + (keepsLabel ? [] : [BackupLabel.path])
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
            pages: plan.runs.reduce(0) { $0 + $1.count }, saved: saved.root)
    }

    /// Nothing diverged: the node follows along its own history from where its log ends, and learns from the stream or the
    /// archive how it goes on. A start meanwhile is refused for the signal that has no
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
        }
        try onDisk { () throws(DiskError) in
            if !branch.isFollower {
                // They hold the log for followers of a leader that this is no more; and what a follower takes from the archive
                // does not lie in `wal/`, so that one from now would promise what is not there.
                for name in try disk.list("slots") { try disk.remove("slots/" + name) }
                try disk.syncDirectory("slots")
            }
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

    /// The new history's file of the segment that the fork lies in, with the common bytes below it, as a node that follows
    /// across a switch makes it: a stream can go on there before the archive has the segment. `nil`: the fork lies at a
    /// segment's start, the file is there, or nobody has the bytes; then the archive must bring it.
    private func forkSegment(
        _ plan: RewindPlan, _ own: TimelineHistory, _ new: TimelineHistory, _ saved: D
    ) throws -> (name: SegmentName, bytes: [UInt8])? {
        let position = LogLayout.canonical(plan.fork.lsn)
        let offset = LogLayout.offset(position)
        let number = SegmentNumber(containing: position)
        guard offset > 0, let entry = new.entry(new.timeline(at: position)) else { return nil }
        let target = SegmentName(timeline: entry.timeline, segment: number)
        if own.entry(entry.timeline)?.token == entry.token,
            try onDisk({ () throws(DiskError) in try disk.exists(target.walPath) })
        {
            return nil
        }
        for parent in own.entries.reversed() where parent.switchLSN < number.end {
            let name = SegmentName(timeline: parent.timeline, segment: number)
            guard var bytes = try bytes(of: name, saved), bytes.count >= offset else { continue }
            let found = bytes.withUnsafeBytes { try? SegmentHeader(reading: $0.baseAddress!) }
            guard let found, found.firstLSN == number.start, found.identity.system == plan.system,
                found.identity.token == parent.token
            else { continue }
            let header = SegmentHeader(
                identity: LogIdentity(system: plan.system, timeline: entry.timeline, token: entry.token),
                firstLSN: number.start, chain: found.chain)
            if bytes.count < SegmentNumber.bytes {
                bytes += [UInt8](repeating: 0, count: SegmentNumber.bytes - bytes.count)
            }
            bytes.withUnsafeMutableBytes {
                header.write(to: $0.baseAddress!)
                memset($0.baseAddress! + offset, 0, $0.count - offset)
            }
            return (target, bytes)
        }
        return nil
    }

    /// From the directory; from what was saved, if this is a repetition; or from the archive.
    private func bytes(of name: SegmentName, _ saved: D) throws -> [UInt8]? {
        for place in [disk, saved] {
            if try onDisk({ () throws(DiskError) in try place.exists(name.walPath) }) {
                return try onDisk { () throws(DiskError) in try place.readAll(name.walPath) }
            }
        }
        return try archive?.segment(name, reusing: nil).map { Array($0.bytes) }
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
