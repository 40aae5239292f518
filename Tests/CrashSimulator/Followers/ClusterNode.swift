import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL

/// A node of a simulated cluster: its disk, and its engine while it runs.
final class ClusterNode: @unchecked Sendable {
    // Sendable: a seed runs on one thread.
    let index: Int
    var name: String { "node-\(index)" }
    var disk: SimulatedDisk
    var engine: Engine?
    /// Directories beside its own, by name: what its rewinds have saved.
    var saved: [String: SimulatedDisk] = [:]
    /// Its engine may acknowledge nothing any more.
    var isStopped = false
    /// Of its clock, in microseconds.
    var skew: Int64 = 0
    /// The most that it ever confirmed to be on its disk, and of which timeline.
    var confirmed: (token: TimelineToken, lsn: LSN)?
    var pinned: [(handle: SnapshotHandle, digest: UInt64)] = []
    /// Its directory is no node's now: a rewind of it was cut off.
    var isRewinding = false
    /// What it is at, for messages.
    var activity = "start"
    /// Where a rewind has said that its pages are whole: until the archive has the log up to there the node cannot start.
    var awaited: (token: TimelineToken, lsn: LSN)?
    /// Its control file as the last engine left it.
    var lastControl: ControlData?
    /// What others do during some of its calls.
    var meanwhile: ((SimulatedDisk.Call) -> Void)?

    init(_ index: Int, _ disk: SimulatedDisk) {
        self.index = index
        self.disk = disk
    }

    var isUp: Bool { engine != nil && !isStopped && !disk.isPowerLost }
    var leader: Engine? { isUp && engine?.isFollower == false ? engine : nil }
    var follower: Engine? { isUp && engine?.isFollower == true ? engine : nil }
    var token: TimelineToken? { engine?.timelineToken }

    /// Lets go of the engine as the end of its process would.
    func abandon() {
        for entry in pinned { entry.handle.close() }
        pinned = []
        engine?.abandon()
        engine = nil
        isStopped = false
        meanwhile = nil
    }
}

/// What all engines of a cluster's seed have in common.
struct ClusterSettings {
    var cachePages: Int
    /// Followers have so little room for versions that replay must write pages to go on.
    var isTight: Bool
    var slotSegments: Int
    let clock = Settings.Clock()

    func options(
        follower: Bool, skew: Int64, archive: SharedArchive, onStop: @escaping () -> Void
    ) -> EngineOptions {
        var options = EngineOptions(
            cacheBytes: cachePages * Page.bytes, versionBytes: (follower && isTight ? 16 : 1024) * Page.bytes,
            transactionBytes: 512 * Page.bytes, archiving: true, runsBackgroundWork: false,
            slotWALBytes: slotSegments * SegmentNumber.bytes)
        options.runsFollowerThreads = false
        options.recovery = archive
        let clock = clock
        options.now = { clock.tick() + skew }
        nonisolated(unsafe) let onStop = onStop
        options.onFatal = { _ in onStop() }
        return options
    }
}
