import Glibc
import HoldfastCore
import HoldfastEngine
import HoldfastReplica
import HoldfastRepository
import HoldfastRestore
import HoldfastWAL
import HoldfastWire
import Logging

/// `holdfast rewind`: brings a node whose timeline was left back as a follower.
package struct RewindNode: Sendable {
    private let configuration: Configuration
    private let data: String
    /// `nil`: from the repository.
    private let leader: WireServer?
    private let node: String
    private let slot: String?
    private let command: String
    private let log: Logger
    /// How long the archive is given to get the log that the node needs at its start.
    private static let archiveSeconds = 30.0

    /// - Parameter from: an address, or `repository`.
    package init(
        _ configuration: Configuration, from: String, node: String?, slot: String?, command: String, log: Logger
    ) throws {
        self.configuration = configuration
        data = WorkingDirectory.absolute(try configuration.requiredData())
        leader = from == "repository" ? nil : try configuration.server(at: WireAddress(from))
        self.node = node ?? RestoreCluster.nodeName
        self.slot = slot
        self.command = command
        self.log = log
        for (text, thing) in [(self.node, "node"), (slot ?? self.node, "slot")] where !ObjectName.isValid(text) {
            throw RestoreCluster.FollowError.badName(ObjectName.refusal(text, of: thing))
        }
    }

    /// When it returns the directory is a follower's, and `serve` may start on it.
    package func run() throws -> Report {
        let clock = ContinuousClock()
        let begun = clock.now
        let disk = try RealDisk(root: data)
        let repository = try ClusterAccess(configuration).repository()
        let ofLeader = leader.map { LeaderRewindSource($0) }
        let source: any RewindSource = ofLeader ?? RepositoryRewindSource(repository)
        let followed = leader.map { [$0.address.description] } ?? configuration.follow.map(\.description)
        let signal = StandbySignal(
            cluster: repository.cluster, backup: "rewound", hold: LockName.holdPrefix + "none", follow: followed,
            node: node, slot: slot)
        let data = data
        let order = RewindOrder<RealDisk>(command: command, signal: signal) { name, isMade in
            try Self.beside(data, name, isMade)
        }
        let archive = try ArchiveRecoverySource(repository, hold: nil)
        defer { archive.rest() }
        let result = try Rewind(disk, order, from: source, archive: archive).run()
        log.info(
            "rewound",
            metadata: [
                "data": "\(printable(data, limit: 300))", "fork": "\(result.fork.lsn)",
                "lost": "\(result.lost.count)", "pages": "\(result.pages)",
            ])
        let seconds = (clock.now - begun) / .seconds(1)
        let isArchived = try ofLeader?.lastSegment.map { try waitArchived($0, repository) } ?? true
        return report(result, seconds: seconds, isArchived: isArchived)
    }

    /// A start replays the archive to where the directory is consistent: there it must be.
    private func waitArchived(_ segment: SegmentName, _ repository: Repository) throws -> Bool {
        let archive = WALArchive(repository, tokenOfHistory: TimelineHistory.ownToken)
        let deadline = ContinuousClock.now + .seconds(Self.archiveSeconds)
        while try !archive.inventory(of: segment.timeline).contains(segment.segment) {
            guard ContinuousClock.now < deadline else {
                log.warning(
                    "the archive lacks log that this node needs at its start: see to the leader's holdfast agent",
                    metadata: ["segment": "\(segment)"])
                return false
            }
            usleep(50_000)
        }
        return true
    }

    private static func beside(_ data: String, _ name: String, _ isMade: Bool) throws -> RealDisk? {
        let path = data + ".rewound-" + name
        guard isMade else { return DataDirectory.isDirectory(path) ? try RealDisk(root: path) : nil }
        if mkdir(path, 0o700) != 0, errno != EEXIST { throw DiskError.cannotCreate(path, errno: errno) }
        let parent = directoryPart(path)
        try RealDisk(root: parent.isEmpty ? "/" : parent).syncDirectory("")
        return try RealDisk(root: path)
    }

    private func report(_ result: RewindResult, seconds: Double, isArchived: Bool) -> Report {
        let bytes = result.pages * Page.bytes
        let lost = result.lost
        let range = lost.first.map { ", from \($0) to \(lost.last ?? $0)" } ?? ""
        let thrownAway = result.saved.map { saved in
            """
              thrown away  \(lost.count) transactions\(range)
              saved in     \(printable(saved, limit: 300))
              pages        \(result.pages) (\(Quantity.bytes(bytes)))

            """
        }
        let title = result.saved == nil ? "nothing to rewind in" : "rewound"
        let text = """
            \(title) \(printable(data, limit: 300))
              fork         \(result.fork.lsn), timeline \(result.fork.timeline.rawValue); this node's log ended at \
            \(result.ownEnd), timeline \(result.ownTimeline.rawValue)
            \(thrownAway ?? "")  took         \(Quantity.seconds(seconds))
              next         holdfast serve --data \(printable(data, limit: 300))   (follows timeline \
            \(result.newTimeline.rawValue), replays from \(result.redo.lsn))

            """
        return Report(
            text: text,
            json: [
                "data": .string(data), "diverged": .boolean(result.saved != nil), "fork_lsn": .init(result.fork.lsn),
                "fork_timeline": .integer(Int64(result.fork.timeline.rawValue)),
                "timeline": .integer(Int64(result.newTimeline.rawValue)),
                "old_timeline": .integer(Int64(result.ownTimeline.rawValue)), "old_end_lsn": .init(result.ownEnd),
                "transactions": .init(lost.count), "first_lsn": .init(lost.first), "last_lsn": .init(lost.last),
                "pages": .init(result.pages), "bytes": .init(bytes), "redo_lsn": .init(result.redo.lsn),
                "consistent_lsn": .init(result.consistent.lsn), "seconds": .number(seconds),
                "saved": .init(result.saved), "repeated": .boolean(result.isRepeated),
                "archived": .boolean(isArchived),
            ])
    }
}
