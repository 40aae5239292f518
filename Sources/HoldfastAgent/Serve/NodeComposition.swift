import HoldfastCore
import HoldfastEngine
import HoldfastServer
import HoldfastWAL
import HoldfastWire
import Logging
import Synchronization

/// What the server needs of the process around it: promotion, the archive's state, settings at run time, shutdown.
final class NodeComposition: ServerComposition {
    private struct State {
        var settings: RuntimeSettings
        var isElected = false
        var electable: Set<String>?
        var content: ContentGate?
        var shutdown: (@Sendable () -> Void)?
        var isShuttingDown = false
        var report: ArchiveReport?
        var reportedAt: ContinuousClock.Instant?
        /// The segment that waits longest for the archive, and since when it was seen to be that.
        var oldest: (segment: String, since: ContinuousClock.Instant)?
    }

    private let engine: Engine
    private let disk: RealDisk
    private let isArchiving: Bool
    private let log: Logger
    private let state: Mutex<State>
    /// With so many segments waiting the archive is away or too slow, and somebody should know.
    private static let longQueue = 8
    private static let longWaitSeconds = 60.0

    init(_ engine: Engine, _ disk: RealDisk, settings: RuntimeSettings, isArchiving: Bool, log: Logger) {
        self.engine = engine
        self.disk = disk
        self.isArchiving = isArchiving
        self.log = log
        state = Mutex(State(settings: settings))
    }

    /// Whether failover says who leads.
    var isElected: Bool {
        get { state.withLock { $0.isElected } }
        set { state.withLock { $0.isElected = newValue } }
    }

    /// With failover the nodes that it knows, and so counts when it chooses: whoever else follows may have what was
    /// acknowledged, and nobody asks. Nobody until it knows them.
    var electable: Set<String>? {
        get { state.withLock { $0.isElected ? $0.electable ?? [] : nil } }
        set { state.withLock { $0.electable = newValue } }
    }

    /// Whether what the node holds may be served: a node that must not show it is not promoted.
    var content: ContentGate? {
        get { state.withLock { $0.content } }
        set { state.withLock { $0.content = newValue } }
    }

    var archiveTimeoutMilliseconds: Int? {
        state.withLock { $0.settings.archiveTimeoutSeconds.map { Int($0 * 1000) } }
    }

    /// How many followers have whatever is acknowledged, come what may.
    var certainFollowers: Int {
        let synchronous = state.withLock { $0.settings.synchronous }
        return synchronous.onTimeout == .refuse ? synchronous.minimumFollowers : 0
    }

    /// `PROMOTE`, an operator's.
    func promote(_ options: PromotionOptions) throws -> [(name: String, value: WireValue)] {
        guard !state.withLock({ $0.isElected }) else { throw PromotedByFailover() }
        return try open(options)
    }

    /// `promote` whoever asks: opens the next timeline.
    func open(_ options: PromotionOptions = PromotionOptions()) throws -> [(name: String, value: WireValue)] {
        if let content, content.isClosed { throw ContentUnverified(diagnosis: content.refusal) }
        try engine.promote(options)
        // What was reported of a follower's archive is not this leader's.
        state.withLock { $0.reportedAt = nil }
        let status = engine.status
        let isOwed = try OwedClaim.of(disk, status.timeline, status.timelineToken) != nil
        log.notice(
            "promoted", metadata: ["timeline": "\(status.timeline.rawValue)", "lsn": "\(status.durableLSN)"])
        if isOwed { log.critical("promoted without the repository", metadata: ["risk": "\(OwedClaim.risk)"]) }
        return [
            ("timeline", .integer(Int64(status.timeline.rawValue))), ("lsn", .simple(status.durableLSN.description)),
            ("claimed", .boolean(!isOwed)),
        ]
    }

    func apply(_ settings: RuntimeSettings) throws {
        guard LogOutput.setLevel(settings.logLevel) else {
            throw ServerError.badSetting("log level", "\"\(printable(settings.logLevel))\" is no level")
        }
        engine.setCheckpoints(walBytes: settings.checkpointBytes, seconds: Int(settings.checkpointSeconds))
        state.withLock { $0.settings = settings }
    }

    // MARK: Shutdown

    func onShutdown(_ body: @escaping @Sendable () -> Void) {
        let isLate = state.withLock { state in
            state.shutdown = body
            return state.isShuttingDown
        }
        if isLate { body() }
    }

    func shutdown() {
        let body = state.withLock { state in
            state.isShuttingDown = true
            return state.shutdown
        }
        body?()
    }

    // MARK: The archive

    /// Looked up at most once a second.
    func archiveReport() -> ArchiveReport? {
        guard isArchiving else { return nil }
        let now = ContinuousClock.now
        if let known = state.withLock({ state in
            state.reportedAt.map { now - $0 < .seconds(1) } == true ? state.report : nil
        }) {
            return known
        }
        var report = readQueue()
        state.withLock { state in
            if state.oldest?.segment != report.oldestSegment { state.oldest = report.oldestSegment.map { ($0, now) } }
            if let oldest = state.oldest, report.queuedSegments < Self.longQueue {
                let waited = (now - oldest.since) / .seconds(1)
                if waited >= Self.longWaitSeconds {
                    report.warnings.append(
                        "WAL segment \(oldest.segment) has waited for the archive for \(Int(waited)) s: "
                            + "check holdfast agent and the repository")
                }
            }
            state.report = report
            state.reportedAt = now
        }
        return report
    }

    private func readQueue() -> ArchiveReport {
        var ready: [SegmentName] = []
        var done: SegmentName?
        do {
            for entry in try disk.list("wal/archive_status") {
                if entry.hasSuffix(".ready"), let name = SegmentName(entry.dropLast(6)) { ready.append(name) }
                if entry.hasSuffix(".done"), let name = SegmentName(entry.dropLast(5)) {
                    done = Swift.max(done ?? name, name)
                }
            }
        } catch {
            return ArchiveReport(
                queuedSegments: 0, queuedBytes: 0, archivedLSN: nil,
                warnings: ["the archive's queue cannot be read: \(LogOutput.text(error))"])
        }
        let oldest = ready.min()
        // Everything below the oldest that waits is in the archive.
        let archived = oldest.map(\.segment.start) ?? done?.segment.end
        var warnings: [String] = []
        if ready.count >= Self.longQueue {
            warnings.append(
                "\(ready.count) WAL segments wait for the archive: check holdfast agent and the repository")
        }
        let status = engine.status
        if status.role == .leader,
            (try? OwedClaim.of(disk, status.timeline, status.timelineToken)).flatMap({ $0 }) != nil
        {
            warnings.append("timeline \(status.timeline.rawValue) was opened without the repository: \(OwedClaim.risk)")
        }
        var report = ArchiveReport(
            queuedSegments: ready.count, queuedBytes: ready.count * SegmentNumber.bytes,
            archivedLSN: archived?.description, lastArchivedSegment: done?.description, warnings: warnings)
        report.oldestSegment = oldest?.description
        return report
    }
}

/// What may not be shown may not become the truth.
struct ContentUnverified: DiagnosableError {
    var diagnosis: Diagnosis
}

/// Two that decide who leads would make two leaders.
struct PromotedByFailover: DiagnosableError {
    var diagnosis: Diagnosis {
        Diagnosis(
            "failover promotes nodes here", why: "its section stands in this node's configuration",
            next: "to change the leader, stop the present one: holdfast nodes shows which that is", status: .tryAgain)
    }
}
