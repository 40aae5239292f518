/// Deliberate faults of the engine, which the simulator `holdfast-crash` must catch, every one: what proves the prover.
///
/// They are compiled only with the package trait `PlantedFaults`; without it `planted` is the constant `false`, and the
/// code that ships is the same as if its lines were not there. Some faults do harm only beside a second one, which the
/// engine's other protections make up for otherwise: such a plant brings its companion, as its comment says.
public enum PlantedFault: String, CaseIterable, Sendable {
    // The log on its way to the disk.
    /// A commit is acknowledged without the sync of its segment.
    case skipLogSync
    /// A segment that is complete is not synced before its successor is written.
    case skipCompletedSegmentSync
    /// A failed sync of the log is taken for a good one.
    case swallowFailedSync
    /// A short write of the log is taken for a whole one.
    case swallowShortWrite
    /// Readers see a commit as soon as it is installed.
    case publishBeforeDurable
    /// A record's mark claims what its own batch is still to make durable.
    case markTooFar
    /// A segment is marked for the archive before it is durable.
    case readyBeforeDurable

    // Segments.
    /// The new name of a recycled segment is not synced.
    case unsyncedRecycledName
    /// The name of a new segment is not synced.
    case unsyncedCreatedName
    /// Segments are recycled that replay needs.
    case recycleTooEarly
    /// Segments are recycled that the archive does not have.
    case recycleUnarchived
    /// The log is kept from the newer control slot's redo point only (shows when that slot rots).
    case walFromNewerSlot

    // What a commit logs.
    /// Every page is logged as a difference, also when no image was logged since the redo point.
    case noImages
    /// The same, and redo applies a difference to whatever page it finds in the file, torn or not.
    case differenceOnTornPage
    /// Images are decided by the last completed checkpoint, not by the one that runs.
    case imagesByCompletedCheckpoint
    /// What earlier runs knew of redo points is forgotten at a start.
    case redoPointForgotten
    /// A commit's pages are installed although the log had no room for it.
    case installRefusedCommit

    // Checkpoints and pages.
    /// The redo point is taken before the commit lock is held.
    case redoPointOutsideLock
    /// The redo point lies between two parts of a commit.
    case redoPointInsideCommit
    /// A checkpoint does not make the log durable through its redo point.
    case noFlushThroughRedo
    /// To make room, pages are written before their log is durable.
    case pageBeforeLog
    /// A checkpoint writes versions whose log is not durable (and names its redo point before its record is durable).
    case checkpointWritesUndurable
    /// Pages are written once their log is durable, without a durable mark that says so (shows when the tail rots).
    case pageBeforeMark
    /// A page is clean as soon as any version of it was written.
    case cleanTooEarly
    /// A checkpoint does not sync the page files.
    case skipPageSync
    /// A failed sync of a page file is taken for a good one.
    case swallowFailedPageSync
    /// The control file is not synced.
    case skipControlSync
    /// Dirty pages are evicted.
    case evictDirty
    /// A freed page is used again while a snapshot still needs what it held.
    case reuseFreedPage
    /// Old versions are dropped while a snapshot needs them.
    case pruneUnderReader
    /// A page's checksum is not looked at when it is read.
    case pageChecksumIgnored
    /// A page that bears another page's number is taken for the one that was asked for.
    case misplacedPageServed

    // Crash recovery.
    /// Nothing is synced before it is read.
    case noSyncAtRecovery
    /// The page cache is believed after a failed sync.
    case trustCachedPages
    /// A record's checksum is not looked at.
    case ignoreTailCRC
    /// What lies behind the end is not zeroed.
    case noZeroing
    /// The removal of segments behind the end is not synced.
    case unsyncedSegmentRemoval
    /// A record need not follow the one before it (and what lies behind the end is not zeroed, which shows by itself too).
    case chainIgnored
    /// The parts of a commit are applied though the last has not arrived.
    case partsEarly
    /// A beginning does not drop the parts of the commit before, whose writer crashed.
    case orphanPartsKept
    /// Damage in the middle of the log is taken for its end.
    case damageTakenForEnd
    /// A read error is taken for a missing segment.
    case readErrorTakenForEnd

    // Restore and promotion.
    /// A restored backup is called consistent before its stop.
    case consistentTooEarly
    /// A promotion does not sync the pages.
    case promotionWithoutSync
    /// The removal of the signals is not synced (and a resumed promotion writes its first segment again).
    case unsyncedSignalRemoval
    /// Record checksums are not seeded with cluster and timeline (and a branch keeps its parent's log behind the switch).
    case seedlessRecordCRC
    /// Replay writes pages before the control file says how far it must come at least (shows when the archive shrinks).
    case noMinimumRecoveryPoint

    // Followers, their promotion and their return.
    /// A follower confirms as flushed what it has only received.
    case acknowledgeReceived
    /// A follower does not sync what it has received.
    case receivedWithoutSync
    /// A follower writes pages without a minimum recovery point that says so.
    case minimumNotRaised
    /// A restartpoint takes over a checkpoint before readers are shown what lies below it.
    case restartpointBeforeShown
    /// A restartpoint does not sync the page files.
    case restartpointWithoutSync
    /// A follower recycles segments that it would replay, or that the archive does not have.
    case followerRecyclesTooEarly
    /// A checkpoint of the leader recycles segments that a slot keeps.
    case slotIgnored
    /// A follower whose log lies past a fork follows the timeline that begins there.
    case adoptsPastFork
    /// A follower takes its pages for whole before the minimum recovery point, and before its backup's stop.
    case followerConsistentTooEarly
    /// A follower's backup begins at its last commit, though its pages lack some below it.
    case backupAbovePages
    /// A promotion does not replay what was received (nor asks what was known to be durable).
    case promoteUnfinished
    /// A promotion goes on though another has claimed its timeline.
    case lostClaimIgnored
    /// A rewind leaves the last pages that the node's own log changed as they are.
    case rewindForgetsPages

    /// Those that only a cluster with followers can show.
    public var isOfFollowers: Bool { Self.ofFollowers.contains(self) }
    private static let ofFollowers: Set<Self> = [
        .acknowledgeReceived, .receivedWithoutSync, .minimumNotRaised, .restartpointBeforeShown,
        .restartpointWithoutSync, .followerRecyclesTooEarly, .slotIgnored, .adoptsPastFork,
        .followerConsistentTooEarly, .backupAbovePages, .promoteUnfinished, .lostClaimIgnored,
        .rewindForgetsPages,
    ]
}

#if PlantedFaults
    /// The fault of this process. Set before an engine runs, and not changed while one does.
    public enum Planting {
        // Unsafe: see above; whoever sets it is alone.
        nonisolated(unsafe) public static var fault: PlantedFault?
    }

    /// Whether this fault is planted in this process.
    @inline(__always) public func planted(_ fault: PlantedFault) -> Bool { Planting.fault == fault }
#else
    /// Whether this fault is planted in this process: never, in this build.
    @inlinable @inline(__always) public func planted(_ fault: PlantedFault) -> Bool { false }
#endif
