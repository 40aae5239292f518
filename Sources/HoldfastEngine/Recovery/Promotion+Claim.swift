import HoldfastCore
import HoldfastWAL

/// How a follower comes by its timeline.
extension Promotion {
    /// Step 2 and 3 of a follower: its signals, and its claim. When it throws, no promotion is under way.
    func claim(_ reached: Reached, _ source: any FollowerSource) throws -> PromoteSignal {
        let current = history.truncated(at: reached.end).current
        let parent = current.token
        let wish = order.options
        var asked = try ClaimSignal.read(disk)
        // A copy of the directory, on another host or beside the first, must not take what that asked for.
        if let known = asked, known.instance != options.instance { asked = nil }
        let isSameFork = asked?.switchLSN == reached.end && asked?.parent == parent
        var next = PromoteSignal(
            timeline: .first, token: .random(), switchLSN: reached.end, chain: reached.chain,
            mayClaimLater: wish.withoutRepository)
        do {
            var own = history.entries.map(\.timeline)
            var takesUp = false
            if let asked, let bytes = try source.history(asked.timeline),
                try TimelineHistory(decoding: bytes).current.token == asked.token
            {
                // The claim was written after all. From another place it is of no use, and nobody else can use it.
                own.append(asked.timeline)
                takesUp = isSameFork
            }
            if wish.isForced {
                try requireUnused(asked, source)
            } else if let bytes = try source.history(current.timeline) {
                let known = try TimelineHistory(decoding: bytes).current
                guard known.token == current.token else {
                    throw PromotionError.taken(known.timeline, reason: known.reason)
                }
            }
            next.timeline = try source.timelineToClaim(own: own, isForced: wish.isForced)
            if takesUp, let asked {
                next.timeline = asked.timeline
                next.token = asked.token
            }
        } catch {
            guard wish.withoutRepository, !source.isRefusal(error) else { throw error }
            // What is known here. An attempt from this place that may have been written keeps its name.
            if isSameFork, let asked {
                next.timeline = asked.timeline
                next.token = asked.token
            } else {
                next.timeline = try localNumber()
            }
        }
        try onDisk { () throws(DiskError) in
            try disk.replaceAtomically(
                ClaimSignal.path,
                with: ClaimSignal(
                    timeline: next.timeline, token: next.token, switchLSN: next.switchLSN, parent: parent,
                    instance: options.instance
                ).encoded)
        }
        try write(next)
        do {
            try source.claim(next.timeline, history: branch(next).encoded())
        } catch {
            if next.mayClaimLater, !source.isRefusal(error) { return next }
            // Another has it, or nobody knows: this node stays what it is. Should the claim be its own all the same, the
            // next attempt finds it so.
            try? onDisk { () throws(DiskError) in
                try disk.remove(PromoteSignal.path)
                try disk.syncDirectory("")
            }
            if !planted(.lostClaimIgnored) { throw error }
        }
        return next
    }

    /// Claims of others are passed over only when nobody leads on them, and nothing was written there. Those below this node's
    /// timeline were passed over by whoever opened it.
    private func requireUnused(_ asked: ClaimSignal?, _ source: any FollowerSource) throws {
        for bytes in try source.histories(above: .init(0)) {
            let claimed = try TimelineHistory(decoding: bytes).current
            let own = history.entry(claimed.timeline)
            guard own != nil || claimed.timeline > history.timeline else { continue }
            guard claimed.token != own?.token, claimed.token != asked?.token else { continue }
            try source.requireUnused(claimed.timeline)
        }
    }

    /// Above every timeline that this directory knows of.
    private func localNumber() throws -> TimelineID {
        let known = try onDisk { () throws(DiskError) in try disk.list("wal") }.compactMap { name -> TimelineID? in
            if name.hasSuffix(".history") { return TimelineID(name: name.dropLast(8)) }
            return SegmentName(name)?.timeline
        }
        let highest = max(known.max() ?? .first, history.timeline)
        guard highest.rawValue < UInt32.max else {
            throw EngineError.recoveryFailed(history.current.switchLSN, "timeline \(highest) is the last possible")
        }
        return TimelineID(highest.rawValue + 1)
    }
}
