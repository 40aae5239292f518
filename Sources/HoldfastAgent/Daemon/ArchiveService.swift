import Glibc
import HoldfastBackup
import HoldfastCore
import HoldfastRepository
import HoldfastWAL
import Logging
import ServiceLifecycle

/// Archives the WAL of the data directory on this host, whichever directory stands at its path: one that is replaced
/// (by a restore) is noticed.
struct ArchiveService: NamedService {
    let configuration: Configuration
    let facts: CatalogFacts?
    let log: Logger
    private static let lookMilliseconds = 1000

    func run() async throws {
        let path = WorkingDirectory.absolute(try configuration.requiredData())
        var running: (archiver: Archiver<RealDisk>, inode: UInt64)?
        repeat {
            let inode = Self.inode(path)
            if let current = running, current.inode != inode {
                await stop(current.archiver)
                running = nil
            }
            if running == nil, let inode {
                do {
                    running = (try start(path), inode)
                } catch {
                    log.warning("WAL cannot be archived yet", metadata: ["error": "\(LogOutput.text(error))"])
                }
            }
        } while await Pause.milliseconds(Self.lookMilliseconds)
        if let running { await stop(running.archiver) }
    }

    private func start(_ path: String) throws -> Archiver<RealDisk> {
        let disk = try RealDisk(root: path)
        let control = try DataDirectory.control(disk)
        var options = Archiver<RealDisk>.Options()
        options.workers = configuration.archive.workers
        let (configuration, facts, log) = (configuration, facts, log)
        let wasFailing = Shared(false)
        let lastTimeline = Shared<TimelineID?>(nil)
        let archiver = Archiver(disk, options: options) {
            let access = ClusterAccess(configuration)
            let control = try DataDirectory.control(disk)
            let repository = try access.repository(creatingFor: control.system)
            if control.timeline > .first, control.state != .recovering {
                // A newer claim is no reason to keep what this leader wrote before it from the archive.
                try NodeStart.requireKnownTimeline(repository, control)
            }
            return try access.archive(repository)
        } onRound: { state in
            if let error = state.lastError {
                if !wasFailing.current || state.failedRounds.isMultiple(of: 20) {
                    log.warning(
                        "WAL cannot be archived now: it waits in the data directory",
                        metadata: [
                            "waiting": "\(state.waiting)",
                            "error": "\(terminalSafe(error.description.replacing("\n", with: "; ")))",
                        ])
                }
                wasFailing.current = true
                return
            }
            if wasFailing.current { log.notice("WAL is archived again") }
            wasFailing.current = false
            guard let last = state.lastArchived else { return }
            log.debug("WAL archived", metadata: ["segment": "\(last)", "waiting": "\(state.waiting)"])
            // The old timeline's last segments are pushed beside the new one's first.
            let before = lastTimeline.current
            lastTimeline.current = last.timeline
            for timeline in Set([before, last.timeline].compactMap { $0 }) {
                facts?.complete(facts?.announce(timeline: timeline))
            }
        }
        // What was pushed just before a crash may be unknown to the catalog.
        facts?.complete(facts?.announce(timeline: control.timeline))
        archiver.start()
        log.info("archiving", metadata: ["data": "\(printable(path, limit: 300))"])
        return archiver
    }

    private func stop(_ archiver: Archiver<RealDisk>) async {
        // Never throws: the loop ends after the segments under way.
        try? await BlockingWork.run("archiver") { archiver.stop() }
    }

    private static func inode(_ path: String) -> UInt64? {
        var status = stat()
        return stat(path, &status) == 0 ? UInt64(status.st_ino) : nil
    }
}
