import HoldfastCore
import HoldfastEngine
import HoldfastReplica
import HoldfastRepository
import HoldfastWAL
import Logging

/// What is decided before a node's engine is opened: whether it archives, from where it replays, and whether its
/// timeline is its own.
struct NodeStart: Sendable {
    /// `nil`: there is none, or it is not to be used.
    let repository: Repository?
    let isArchiving: Bool
    private let signal: RecoverySignal?
    /// Set for a node that is to follow.
    private let standby: StandbySignal?
    private let log: Logger

    init(_ configuration: Configuration, _ disk: RealDisk, isWithoutArchive: Bool, log: Logger) throws {
        self.log = log
        let control = try DataDirectory.control(disk)
        if control.state == .restoring { throw EngineError.restoreInProgress(control.command) }
        // Once the control file has left recovery, a signal that a crash left behind asks for nothing.
        let left =
            try disk.exists(RecoverySignal.fileName)
            ? RecoverySignal(decoding: disk.readAll(RecoverySignal.fileName)) : nil
        standby =
            try control.state == .recovering && disk.exists(StandbySignal.fileName)
            ? StandbySignal(decoding: disk.readAll(StandbySignal.fileName)) : nil
        signal = control.state == .recovering && standby == nil ? left : nil
        let isConfigured = !configuration.repositories.isEmpty && configuration.cluster != nil
        let isCopy = left.map { !$0.usesArchive } ?? false
        guard isConfigured else {
            guard !control.isArchiving || isWithoutArchive else { throw ServeError.archivingRecorded(disk.root) }
            if let backup = signal?.backup ?? standby?.backup {
                throw ServeError.recoveryNeedsRepository(disk.root, backup: backup)
            }
            repository = nil
            isArchiving = false
            return
        }
        if let standby {
            guard !isWithoutArchive else {
                throw ServeError.recoveryNeedsRepository(disk.root, backup: standby.backup)
            }
            repository = try Self.repository(ClusterAccess(configuration), control, isNeeded: true, log)
            isArchiving = true
            return
        }
        if isWithoutArchive && signal == nil {
            repository = nil
            isArchiving = false
            return
        }
        let access = ClusterAccess(configuration)
        repository = try Self.repository(access, control, isNeeded: signal != nil, log)
        // A copy reads the archive for its replay, and is nothing to it afterwards.
        isArchiving = !isCopy && !isWithoutArchive
        if isArchiving, signal == nil, let repository { try Self.settle(disk, control, repository, log) }
    }

    /// Claims what is owed, and refuses a timeline that is not this node's to write.
    private static func settle(
        _ disk: RealDisk, _ control: ControlData, _ repository: Repository, _ log: Logger
    ) throws {
        if try OwedClaim.settle(disk, control.timeline, control.token, repository) {
            log.notice("the repository has this timeline now", metadata: ["timeline": "\(control.timeline.rawValue)"])
        }
        try requireOwnTimeline(repository, control)
    }

    /// A repository that is away is no reason not to serve: segments wait in `wal/`. One that is another cluster's is.
    private static func repository(
        _ access: ClusterAccess, _ control: ControlData, isNeeded: Bool, _ log: Logger
    ) throws -> Repository? {
        do {
            guard isNeeded else { return try access.repository(creatingFor: control.system) }
            let repository = try access.repository(expecting: control.system)
            do {
                // A node restored on a new host must not take an empty mount point for a repository of its own later.
                try access.note(repository)
            } catch {
                log.warning(
                    "the repository cannot be noted in the state directory",
                    metadata: ["error": "\(LogOutput.text(error))"])
            }
            return repository
        } catch let error as any DiagnosableError where !isNeeded && (error is StoreError || error is RepositoryGone) {
            log.warning(
                "the repository cannot be used now: WAL waits in the data directory",
                metadata: ["error": "\(LogOutput.text(error))"])
            return nil
        }
    }

    /// A timeline that was opened without a claim in this repository (a copy's) must not be archived into it, and a
    /// timeline claimed by another node must not be written.
    static func requireOwnTimeline(_ repository: Repository, _ control: ControlData) throws {
        // First whether it ever was this cluster's leader: a copy that starts again was not, and is not told that it was.
        try requireKnownTimeline(repository, control)
        if let claim = try repository.claim(above: control.timeline) {
            throw ServeError.fenced(own: control.timeline, claimed: claim)
        }
    }

    /// The repository knows this timeline under its token.
    static func requireKnownTimeline(_ repository: Repository, _ control: ControlData) throws {
        guard control.timeline > .first else { return }
        guard let bytes = try repository.history(control.timeline),
            try TimelineHistory(decoding: bytes).entry(control.timeline)?.token == control.token
        else { throw ServeError.privateTimeline(control.timeline) }
    }

    /// Opens the engine; after a restore that means to replay the archive to the target first.
    func open(_ disk: RealDisk, _ options: EngineOptions) async throws -> Engine {
        var options = options
        if let standby, let repository {
            log.info("following", metadata: ["backup": "\(printable(standby.backup))"])
            options.recovery = try source(hold: standby.hold, repository)
        }
        if let signal, let repository {
            log.info(
                "recovering from the archive",
                metadata: ["backup": "\(printable(signal.backup))", "target": "\(signal.target)"])
            options.recovery = try source(signal, repository)
            let log = log
            options.onReplayed = { from, to, seconds in
                log.info(
                    "redo done",
                    metadata: [
                        "from": "\(from)", "to": "\(to)", "bytes": "\(to - from)",
                        "milliseconds": "\(Int(seconds * 1000))",
                    ])
            }
        }
        let chosen = options
        let engine = try await BlockingWork.run("open") { try Engine(opening: disk, options: chosen) }
        do {
            try await requireStillOwn(engine, disk)
        } catch {
            try await BlockingWork.run("close") { try engine.close() }
            throw error
        }
        return engine
    }

    /// A node that was to follow and leads has finished a promotion that was cut off, perhaps long ago: others may have gone
    /// past its claim since. That is known before anything is written.
    private func requireStillOwn(_ engine: Engine, _ disk: RealDisk) async throws {
        guard standby != nil, !engine.isFollower, let repository else { return }
        let log = log
        do {
            try await BlockingWork.run("claims") {
                try Self.settle(disk, DataDirectory.control(disk), repository, log)
            }
        } catch let error as StoreError {
            log.warning(
                "claims of other nodes cannot be read now", metadata: ["error": "\(LogOutput.text(error))"])
        }
    }

    /// The hold is there until the archive's end was reached once; from then on retention keeps what a follower needs, and a
    /// promotion is an operator's word against a living leader.
    private func source(hold: String, _ repository: Repository) throws -> ArchiveRecoverySource {
        do {
            return try ArchiveRecoverySource(repository, hold: hold, takesOver: true)
        } catch RepositoryError.leaseLost {
            return try ArchiveRecoverySource(repository, hold: nil, takesOver: true)
        }
    }

    private func source(_ signal: RecoverySignal, _ repository: Repository) throws -> ArchiveRecoverySource {
        do {
            return try ArchiveRecoverySource(repository, hold: signal.hold, takesOver: signal.isForced)
        } catch RepositoryError.leaseLost {
            // It lapsed, or an earlier start gave it back at a target where it paused. A new one says whether what it
            // protected is still there.
            let hold = try repository.takeHold(
                on: BackupID(signal.backup), walFrom: nil, purpose: "replay of \(printable(signal.backup))")
            return try ArchiveRecoverySource(repository, hold: hold.name, takesOver: signal.isForced)
        }
    }
}

/// Why a node must not serve.
package enum ServeError: DiagnosableError, Equatable {
    case archivingRecorded(String)
    case recoveryNeedsRepository(String, backup: String)
    case fenced(own: TimelineID, claimed: TimelineID)
    /// Another node claimed the timeline that this one opened without the repository.
    case claimTaken(TimelineID, by: String, since: LSN)
    case privateTimeline(TimelineID)

    package var diagnosis: Diagnosis {
        switch self {
        case .archivingRecorded(let path):
            Diagnosis(
                "this node archives its WAL, and no repository is configured", at: printable(path, limit: 300),
                why: "segments would be kept for ever, or be missing from the archive",
                next: "give cluster and repository in the configuration, or --no-archive to give archiving up",
                status: .configuration)
        case .recoveryNeedsRepository(let path, let backup):
            Diagnosis(
                "this directory must replay the archive first, and no repository is configured",
                at: printable(path, limit: 300), why: "it was restored from backup \(printable(backup))",
                next: "give the configuration that it was restored with", status: .configuration)
        case .fenced(let own, let claimed):
            Diagnosis(
                "this leader must not accept writes any more", at: "timeline \(own.rawValue)",
                why: "another node has claimed timeline \(claimed.rawValue) in the repository",
                next: "bring it back as that node's follower: holdfast rewind --from its address", status: .dataError)
        case .claimTaken(let timeline, let claimer, let lsn):
            Diagnosis(
                "this leader must not accept writes any more", at: "timeline \(timeline.rawValue)",
                why: "it was opened without the repository, and another node has claimed that timeline there: "
                    + printable(claimer, limit: 300),
                next: "what was written here since \(lsn) is in this directory alone: take what you need from it "
                    + "(holdfast dump --data), keep it, and restore this node anew with --follow",
                status: .dataError)
        case .privateTimeline(let timeline):
            Diagnosis(
                "this node is a copy that must not use the repository", at: "timeline \(timeline.rawValue)",
                why: "its timeline is not the one that the repository knows under this number",
                next: "start it with --no-archive, or with another configuration", status: .dataError)
        }
    }
}
