import HoldfastCore
import HoldfastWAL

/// The work of the background threads, one step at a time: for an engine that runs without them (`runsBackgroundWork`)
/// because its caller must decide what happens when, as a simulator does from its seed.
extension Engine {
    /// Makes segments ahead of the log, as the keeper does at each turn.
    package func prepareSegments() throws(EngineError) {
        try onLog { () throws(WALError) in try log.prepareAhead() }
    }

    /// Makes everything appended durable, and witnesses it: what the keeper does with a log that is idle.
    package func witness() throws(EngineError) { try raiseMark() }

    /// Writes some dirty pages, as the checkpointer does when the cache is crowded.
    /// - Returns: pages written.
    package func writePagesOut(atMost limit: Int) throws(EngineError) -> Int {
        try cache.writeOutSome(atMost: limit)
    }

    /// Drops versions that no snapshot needs, and pages above the budget, as the keeper does.
    package func tidy() {
        cache.prune(published: publishedLSN, mark: log.durableMark)
        cache.trim()
    }

    /// Every byte of the log below is durable, and a record that is durable itself says so.
    package var witnessedLSN: LSN { log.durableMark }

    /// The control file as it was written last.
    package var controlData: ControlData { storage.control }

    /// What is wrong with the structure of the newest published state; empty when nothing is.
    package func structureProblems() throws -> [StructureProblem] {
        try read { snapshot in try snapshot.inSteps(while: { true }) { try StructureCheck.run($0) } }
    }

    /// What the replaying thread of a node that follows does until it would wait for more log: at most `turns` readings of the
    /// log to its end. Nothing on another node.
    package func replayStep(turns: Int) {
        precondition(!options.runsFollowerThreads, "the follower's own thread replays")
        if isFollower { follower?.replayStep(turns: turns) }
    }

    /// What the keeper of a node that follows does at one turn.
    package func keeperStep() {
        precondition(!options.runsFollowerThreads, "the follower's own thread keeps house")
        if isFollower { follower?.keeperStep() }
    }

    // MARK: Looking on, without a call to the disk

    /// The token of the timeline that this node leads or follows.
    package var timelineToken: TimelineToken {
        (isFollower ? follower?.history.current.token : nil) ?? storage.control.token
    }
    /// `nil` for a leader.
    package var followerStatus: FollowerStatus? { isFollower ? follower?.status : nil }
    /// Microseconds since 1970 of the last commit.
    package var lastCommitTimeNow: Int64 {
        commitLock.lock()
        defer { commitLock.unlock() }
        return lastCommitTime
    }
}
