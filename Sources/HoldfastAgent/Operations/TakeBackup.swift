import HoldfastArchive
import HoldfastBackup
import HoldfastCatalog
import HoldfastCore
import HoldfastRepository
import HoldfastWire
import Logging

/// `holdfast backup`, and the agent's scheduled ones: takes a full backup of a leader or a follower through the repository,
/// and tells the catalog.
package struct TakeBackup: Sendable {
    package var configuration: Configuration
    package var label = "backup"
    /// Do not pace the checkpoint at the start.
    package var isFast = true
    /// Give way to the leader: lowest priority for processor and disk. Costs nothing where nobody else wants them.
    package var isPolite = true
    package var maxRateBytesPerSecond: UInt64?
    /// Bytes done and in all.
    package var progress: (@Sendable (Int, Int) -> Void)?
    package var cancellation: CancellationFlag?
    private let log: Logger

    package init(_ configuration: Configuration, log: Logger) {
        self.configuration = configuration
        self.log = log
    }

    /// When it returns the backup is durable in the repository and can be restored.
    package func run() throws -> BackupRecord {
        let access = ClusterAccess(configuration)
        let leader = try configuration.leaderServer()
        let settings = try configuration.requiredRepository()
        // Everything that can be refused is refused before the repository is touched.
        let connection = try LeaderConnection(to: leader)
        let identity = try connection.identity()
        connection.close()
        let repository = try access.repository(creatingFor: identity.systemIdentifier)
        var archive = ArchiveOptions(compression: try access.compression(), workers: settings.workers)
        archive.maxRateBytesPerSecond = maxRateBytesPerSecond
        archive.isPolite = isPolite
        archive.cancellation = cancellation
        if let progress {
            archive.progress = { progress(Int(clamping: $0.bytes), Int(clamping: $0.totalBytes)) }
        }
        var request = BackupJob.Request(leader: leader, label: label, archive: archive)
        request.isFast = isFast
        // The leader's own timeout is most often this one; without one a segment is complete when it is full.
        request.followerPatienceSeconds = configuration.archive.timeout.map { 60 + 2 * $0 / 1000 } ?? 600
        let facts = CatalogFacts.ifUsable(configuration, log: log)
        let announcement = Shared<Outbox.Announcement?>(nil)
        defer {
            // Also after a failure: delivery then finds what is there.
            facts?.complete(announcement.current)
        }
        let log = log
        let job = BackupJob(repository, request) { (event: BackupJob.Event) in
            if case .announced(let id) = event { announcement.current = facts?.announce(backup: id) }
            if case .swept(let ids) = event { for id in ids { facts?.complete(facts?.announce(backup: id)) } }
            Self.note(event, log)
        }
        let record = try job.run()
        log.info(
            "backup complete",
            metadata: [
                "backup": "\(record.id)", "stop_lsn": "\(record.stopLSN)", "bytes": "\(record.bytes)",
                "archive_bytes": "\(record.archiveBytes)",
            ])
        return record
    }

    private static func note(_ event: BackupJob.Event, _ log: Logger) {
        switch event {
        case .swept(let ids):
            let names = ids.map(\.description).joined(separator: " ")
            log.notice("unfinished backups cleared up", metadata: ["backups": "\(names)"])
        case .announced(let id): log.info("backup begun", metadata: ["backup": "\(id)"])
        case .started(let id, let start, let bytes):
            log.info("copying", metadata: ["backup": "\(id)", "start_lsn": "\(start)", "bytes": "\(bytes)"])
        case .copied(let id, let stop): log.info("copied", metadata: ["backup": "\(id)", "stop_lsn": "\(stop)"])
        case .waitingForArchive(let segment, let isLeaders):
            log.notice(
                isLeaders
                    ? "waiting for WAL to be archived: the leader completes the segment at its archive.timeout"
                    : "waiting for WAL to be archived", metadata: ["segment": "\(segment)"])
        case .committing: break
        }
    }

    package static func report(_ record: BackupRecord) -> Report {
        let seconds = Double(record.finishedAt.microseconds - record.startedAt.microseconds) / 1e6
        let text = """
            backup \(record.id) complete
              start LSN  \(record.startLSN), timeline \(record.timeline.rawValue)
              stop LSN   \(record.stopLSN)
              size       \(Quantity.bytes(Int(clamping: record.bytes))), stored as \
            \(Quantity.bytes(Int(clamping: record.archiveBytes))) (\(record.codec))
              took       \(Quantity.seconds(seconds))

            """
        return Report(text: text, json: ClusterInfo.json(record))
    }
}
