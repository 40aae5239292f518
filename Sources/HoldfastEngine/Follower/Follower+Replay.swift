import HoldfastCore
import HoldfastWAL

/// The replaying thread.
extension Follower {
    /// While no stream runs the archive is looked at so often.
    private static var archiveMilliseconds: Int64 { 1000 }
    /// Log that is replayed at most before readers see it.
    private static var batchBytes: Int { 32 << 20 }
    /// No error that says "try again" is reported more often.
    private static var retryMilliseconds: Int { 500 }

    func replayLoop() {
        reading { reader in while turn(reader) == .goesOn {} }
    }

    func replayStep(turns: Int) {
        reading { reader in
            for _ in 0..<turns where turn(reader) != .goesOn { return }
        }
    }

    /// What a reading of the log to its end was followed by.
    private enum Turn { case goesOn, idle, over }

    private func reading(_ body: (UnsafeMutablePointer<ReaderSlots.Slot>) -> Void) {
        let reader = cache.readers.claim()
        cache.readers.enter(reader)
        body(reader)
        cache.readers.leave(reader)
        cache.readers.release(reader)
    }

    /// Reads the log to its end, and finds out where it goes on: waits for that on a thread of its own.
    private func turn(_ reader: UnsafeMutablePointer<ReaderSlots.Slot>) -> Turn {
        guard !locked({ $0.isStopping || $0.broken != nil }), failure.reason == nil else { return .over }
        do {
            let stop = try replay.replay { [unowned self] _ in
                cache.readers.refresh(reader)
                return isStopping ? .stopBefore : .apply
            }
            try show()
            guard case .logEnded = stop, let end = replay.reader.end else { return .over }
            cache.readers.refresh(reader)
            return try findMore(behind: end)
        } catch {
            if let archive = segments.takeFailure() {
                // What was read so far stands; the archive may answer again.
                report("\(archive)")
                pause(milliseconds: Self.retryMilliseconds)
                if locked({ $0.isPromoting }) {
                    do { try show() } catch { report("\(error)") }
                    return .over
                }
                return options.runsFollowerThreads ? .goesOn : .idle
            }
            if !isStopping { giveUp("\(error)") }
            return .over
        }
    }

    /// What the replaying thread has done by the time that a promotion goes on, where there is none.
    func replayRest() throws {
        reading { reader in while turn(reader) == .goesOn {} }
        if let end = replay.reader.end, let why = locked({ $0.ending == nil ? nil : $0.problem ?? "" }) {
            throw EngineError.recoveryFailed(end.position, "the next timeline cannot be followed: \(why)")
        }
    }

    private func report(_ problem: String?) { locked { $0.problem = problem } }

    private func giveUp(_ why: String) {
        writes.discard()
        locked { $0.broken = "replay cannot go on: \(why)" }
    }

    // MARK: Carrying out

    /// Redo on copies, which readers see with the whole batch.
    func apply(_ commit: AssembledCommit) throws {
        if batch.bytes >= Self.batchBytes || writes.pages.count >= cache.transactionSlots / 2 { try showBatch() }
        try meet(before: commit.end, showBatch)
        var changes = commit.changes
        while let change = try impossible({ () throws(ImpossibleChange) in try changes.next() }) {
            let place: UnsafeMutableRawPointer
            if change.isImage {
                try makeRoom(for: change.page)
                place = try writes.placeForImage(change.page)
            } else {
                place = try writes.copyForDifference(change.page)
            }
            _ = try impossible { () throws(ImpossibleChange) in
                try HoldfastWAL.apply(change, to: place, commitEnd: commit.end)
            }
        }
        batch.first = min(batch.first, commit.start)
        batch.end = commit.end
        batch.bytes += commit.payload.count
    }

    /// Waits for want of space to end: a commit is carried out whole or not at all, and nobody else waits for it.
    private func makeRoom(for page: PageNumber) throws {
        while true {
            do throws(DiskError) {
                return try cache.store.extend(toCover: page)
            } catch {
                guard error.isNoSpace, !isStopping else { throw EngineError.disk(error) }
                report("replay waits for space: \(error)")
                // A promotion waits too: without this commit there is none.
                monitor.lock()
                if options.runsFollowerThreads, !state.isStopping {
                    monitor.wait(milliseconds: Self.retryMilliseconds)
                }
                monitor.unlock()
            }
        }
    }

    @inline(__always)
    private func impossible<R>(_ body: () throws(ImpossibleChange) -> R) throws(EngineError) -> R {
        do throws(ImpossibleChange) { return try body() } catch { throw EngineError(error) }
    }

    /// Shows readers what was carried out, while a commit that was read is still to be.
    private func showBatch() throws {
        if !writes.isEmpty { try show(through: batch.end) }
    }

    /// Shows readers everything that was read: all of a commit at once, and no part of one that has not come whole.
    private func show() throws { try show(through: replay.reader.position) }

    private func show(through end: LSN) throws {
        defer { batch = Batch() }
        guard let engine else { return }
        // Before a page of it can be written: a backup that ends now ends behind everything that it may have copied.
        locked { $0.lastCommit = replay.lastCommit }
        engine.commitLock.lock()
        if !writes.isEmpty {
            cache.install(writes, end: batch.end, from: LSN(batch.first.rawValue + 1))
            writes.forgetInstalled()
        }
        engine.lastTransaction = max(engine.lastTransaction, replay.lastTransaction)
        engine.lastCommitTime = max(engine.lastCommitTime, replay.lastTime)
        engine.greatestRedo = max(engine.greatestRedo, replay.greatestRedo)
        engine.setInstalled(end)
        engine.commitLock.unlock()
        log.advance(to: end)
        engine.publish(through: end)
        setApplied(end)
        // Versions above the mark are kept: it follows before they fill their memory.
        if cache.versionCount > cache.versionSlots / 4 {
            _ = try raiseMinimum(to: end)
            cache.prune(published: engine.publishedLSN, mark: durableMark)
        }
    }

    // MARK: Where the log goes on

    /// The log ended for the reader: waits until it goes on.
    /// - Returns: `over` when the thread is to end; `idle` where there is none to wait.
    private func findMore(behind end: LogEnd) throws -> Turn {
        let position = end.position
        var looked = Int64.min / 2
        while true {
            meetAtEnd(position)
            let now = monotonicMicroseconds() / 1000
            let step = locked { state -> Step in
                if state.isStopping { return .stop }
                if let received = state.received, received.durableLSN > position { return .goOn(received) }
                if state.isStreaming { return .wait }
                // Replay that knew of the switch already, or took it from the archive, has passed it: there is nothing to adopt,
                // and a stream that waited for that would never begin again.
                if let ending = state.ending, LogLayout.canonical(ending.lsn) < position { state.ending = nil }
                // From here on no stream begins before this thread says so: what it drops is nobody's.
                if let ending = state.ending, LogLayout.canonical(ending.lsn) == position {
                    state.isLooking = true
                    return .adopt(ending.history)
                }
                guard state.looksNow || state.isPromoting || now - looked >= Self.archiveMilliseconds else {
                    return .wait
                }
                state.looksNow = false
                state.isLooking = true
                return .look(isLast: state.isPromoting)
            }
            switch step {
            case .stop: return .over
            case .goOn(let received):
                segments.received = received
                return .goesOn
            case .adopt(let history):
                defer { locked { $0.isLooking = false } }
                do {
                    try adopt(history, at: end)
                    return .goesOn
                } catch {
                    // The ending is still known: all of it is done again.
                    guard Self.mayPass(error) else { throw error }
                    report("the next timeline cannot be followed: \(error)")
                    pause(milliseconds: Self.retryMilliseconds)
                }
            case .look(let isLast):
                defer { locked { $0.isLooking = false } }
                looked = now
                if look(behind: end, isLast: isLast) { return .goesOn }
                if isLast { return .over }
                do {
                    if segments.received == nil { try beginReceiving(at: end) }
                } catch {
                    // Space may come, and the archive answer: nothing was begun.
                    guard Self.mayPass(error) else { throw error }
                    report("the log cannot be received: \(error)")
                    pause(milliseconds: Self.retryMilliseconds)
                }
            case .wait: break
            }
            guard options.runsFollowerThreads else { return .idle }
            locked { $0.received }?.wait(beyond: position, milliseconds: 200)
        }
    }

    /// Want of space, and whatever the archive says.
    private static func mayPass(_ error: any Error) -> Bool {
        switch error {
        case EngineError.writesRefused: true
        case EngineError.disk(let disk): disk.isNoSpace
        default: !(error is EngineError)
        }
    }

    private enum Step {
        case stop, wait
        case goOn(ReceivedLog<D>)
        case adopt(TimelineHistory)
        /// `isLast`: the node is promoted when there is no more.
        case look(isLast: Bool)
    }

    /// Looks into the archive for what goes on behind the log's end. No stream runs, and nothing was received behind it.
    private func look(behind end: LogEnd, isLast: Bool) -> Bool {
        do {
            // Timelines first: the archive may hold more of one than was followed.
            if !isLast, try adoptNewer(at: end) { return true }
            guard try segments.takeFromArchive(at: end.position, replay.reader.history) else { return false }
            dropReceived()
            locked { $0.phase = .archive }
            return true
        } catch {
            report("\(error)")
            return false
        }
    }

    /// The archive has no more: a stream may bring it.
    private func beginReceiving(at end: LogEnd) throws {
        segments.forgetArchive()
        source.replayEnded()
        let (onFatal, failure) = (options.onFatal, failure)
        // A switch that lies ahead is not crossed by a stream: its sender ends there.
        let history = replay.reader.history.truncated(at: end.position)
        try BranchSegment(disk: disk, system: file.current.system, source: source).make(history, at: end.position)
        // What is confirmed from here on lies behind log that may be in the archive alone.
        try raiseDurableEnd(to: end.position)
        let received = try onLog { () throws(WALError) in
            try ReceivedLog(
                disk: disk, system: file.current.system, history: history, position: end.position,
                chain: replay.reader.chain,
                onFatal: { error in if failure.set(error.description) { onFatal(error) } })
        }
        segments.received = received
        locked { state in
            state.received = received
            state.hasReadItsLog = true
            if state.phase == .archive { state.phase = .waiting }
            monitor.broadcast()
        }
    }

    /// No stream runs.
    private func dropReceived() {
        segments.received = nil
        let received = locked { state in
            defer { state.received = nil }
            return state.received
        }
        received?.close()
    }

    // MARK: Timelines

    /// Whether a claimed timeline goes on from here, or from a place ahead: then its history is followed from now on.
    private func adoptNewer(at end: LogEnd) throws -> Bool {
        let own = replay.reader.history
        var diverged: String?
        // A claim of this node's own, of a promotion that failed, is no way to go: its next promotion takes it up.
        let asked = try ClaimSignal.read(disk)
        for bytes in try source.histories(above: own.timeline) {
            let newer = try TimelineHistory(decoding: bytes)
            if let asked, newer.current.token == asked.token { continue }
            // The same way up to here, or another's that only shares a number.
            guard newer.entry(end.timeline)?.token == own.entry(end.timeline)?.token else { continue }
            guard newer.contains(end.timeline, end.position) || planted(.adoptsPastFork) else {
                diverged =
                    diverged
                    ?? "timeline \(newer.timeline) left timeline \(end.timeline) at \(newer.end(of: end.timeline) ?? .zero), "
                    + "and this node's log goes on to \(end.position): it must be rewound"
                continue
            }
            try adopt(newer, at: end)
            return true
        }
        if let diverged { report(diverged) }
        return false
    }

    /// Goes on along `history` from where the log ended. Its next timeline begins there, or further on.
    func adopt(_ history: TimelineHistory, at end: LogEnd) throws {
        dropReceived()
        segments.forgetArchive()
        try onDisk { () throws(DiskError) in
            try disk.replaceAtomically(TimelineHistory.walPath(history.timeline), with: history.encoded())
        }
        let next = history.end(of: end.timeline)
        if let next, LogLayout.canonical(next) == end.position {
            try onLog { () throws(WALError) in
                // While its bytes are here the new timeline's first segment can be made of them.
                let ending = EndOfLog(disk: disk, system: file.current.system)
                let parent = SegmentName(timeline: end.timeline, segment: SegmentNumber(containing: end.position))
                if LogLayout.offset(end.position) > 0, try ending.segments().contains(parent) {
                    try ending.branch(history.truncated(at: end.position))
                }
                try ending.removeBeyondSwitch(end.timeline, at: end.position)
            }
        }
        let reader = LogReader(
            source: segments, system: file.current.system, history: history, from: end.position, chain: end.chain)
        replay.go(on: reader)
        source.willReplay(history.entries.map { ($0.timeline, $0.switchLSN) })
        locked { state in
            state.history = history
            state.ending = nil
            state.problem = nil
            // What is archived beyond belongs to the branch that is left.
            state.archived = min(state.archived, next ?? .max)
        }
        // Whoever is sent the old timeline is told where it ends.
        log.wakeWaiters()
    }
}
