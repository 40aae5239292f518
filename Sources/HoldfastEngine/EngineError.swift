import HoldfastCore

/// What the engine refuses or fails at.
public enum EngineError: DiagnosableError {
    case disk(DiskError)
    /// A page that is damaged or not what its place says.
    case damagedPage(PageNumber, String)
    /// The structure of a tree contradicts itself at this page.
    case damagedTree(PageNumber, String)
    /// The page files do not reach so far.
    case noSuchPage(PageNumber, String)
    case keyTooLong(Int)
    case valueTooLong(Int)
    /// The page space is full: 2^32 pages.
    case pageSpaceFull
    /// Another thread's page is needed from disk, and this reader may not wait for one.
    case notResident
    /// The version that this snapshot sees is no longer in memory.
    case snapshotTooOld
    /// The transaction's private pages exceed its budget, in bytes.
    case transactionTooLarge(limit: Int)
    /// Every page of memory is in use by readers, versions and the transaction.
    case memoryExhausted
    /// No room for the log or for pages: writes are refused until there is. Nothing has happened.
    case writesRefused(DiskError)
    /// The log is damaged, cannot be read or may not be written: what, where, and the way out.
    case log(Diagnosis)
    /// A sync failed, or the log is unusable since: this engine acknowledges nothing any more.
    case stopped(String)
    /// `verifiesRedo`: redo of a commit that was to begin behind this LSN gives another page than the leader made.
    case redoDiffers(PageNumber, behind: LSN, String)
    case closed
    /// No `control` here.
    case notADataDirectory(String)
    /// Something is here already; its name.
    case notEmpty(String)
    /// No slot of the control file is sound.
    case damagedControl(String)
    /// The pages are not the whole state before recovery: why.
    case needsRecovery(String)
    /// The control file says that the log ended in order at the first LSN, and a commit follows that ends at the second.
    case staleControl(LSN, commit: LSN)
    /// A file of a later format: name and version.
    case newerFormat(String, UInt32)
    /// A restore was not finished; the command that does it.
    case restoreInProgress(String)
    /// Replay found that this directory cannot be made whole, and why.
    case recoveryFailed(LSN, String)
    /// A label or restore point that `ObjectName` does not allow.
    case invalidName(Diagnosis)
    case slotExists(String)
    case unknownSlot(String)
    /// No such backup runs here (any more).
    case unknownBackup
    /// A backup of a follower cannot begin or go on, and why.
    case backupOver(String)
    /// The configuration contradicts what the control file recorded.
    case archivingRecorded
    /// A recovery that needs an archive, and none was given.
    case needsArchive(String)
    /// The node waits at its recovery target: reads only.
    case waitsAtTarget(String)
    /// There is nothing to promote: the node does not wait at a target.
    case notPaused
    /// Writes go to the leader, where it is known.
    case follows(String?)
    /// The write deadline is over: this node does not hold the leader's key (any more). Nothing has happened.
    case leaseLost
    /// The commit that ends there is on this node's disk, and the write deadline passed meanwhile.
    case outcomeUnknown(LSN)
    /// Replay reached its target, and the action asked for is to end there.
    case stoppedAtTarget(String, LSN)

    public var diagnosis: Diagnosis {
        switch self {
        case .disk(let error): error.diagnosis
        case .damagedPage(let page, let why):
            Diagnosis(
                "page \(page) is damaged", at: "\(PageNumber.filePath(page.fileIndex)) at \(page.fileOffset)", why: why,
                next: "restore this data directory from a backup", status: .dataError)
        case .damagedTree(let page, let why):
            Diagnosis(
                "a tree is damaged at page \(page)", at: "\(PageNumber.filePath(page.fileIndex)) at \(page.fileOffset)",
                why: why, next: "run holdfast check, then restore from a backup", status: .dataError)
        case .noSuchPage(let page, let why):
            Diagnosis(
                "there is no page \(page)", at: "\(PageNumber.filePath(page.fileIndex)) at \(page.fileOffset)",
                why: why,
                next: "page 0 says how many there are: holdfast page dump --data DIR 0", status: .dataError)
        case .keyTooLong(let bytes):
            Diagnosis(
                "the key is too long", why: "\(bytes) bytes where at most \(Limits.keyBytes) are allowed",
                next: "shorten the key", status: .dataError)
        case .valueTooLong(let bytes):
            Diagnosis(
                "the value is too long", why: "\(bytes) bytes where at most \(Limits.valueBytes) are allowed",
                next: "split the value over several keys", status: .dataError)
        case .pageSpaceFull:
            Diagnosis(
                "the page space is full", why: "it holds 2^32 pages", next: "delete records", status: .inputOutput)
        case .notResident:
            Diagnosis("a page is not in memory", status: .internalError)
        case .snapshotTooOld:
            Diagnosis(
                "the snapshot is too old", why: "versions it needs exceeded the memory for old versions",
                next: "read again from a new snapshot, or raise server.versions", status: .tryAgain)
        case .transactionTooLarge(let limit):
            Diagnosis(
                "the transaction is too large", why: "its changed pages exceed \(limit) bytes",
                next: "split it, or raise server.transaction", status: .dataError)
        case .memoryExhausted:
            Diagnosis(
                "no page of memory is free", why: "readers, versions and a transaction use all of it",
                next: "try again, or raise server.cache", status: .tryAgain)
        case .writesRefused(let error):
            Diagnosis(
                "writes are refused", at: printable(error.path, limit: 400), why: "\(error.operation): no space left",
                next: "make room on this file system: writes resume by themselves", status: .inputOutput)
        case .log(let diagnosis): diagnosis
        case .leaseLost:
            Diagnosis(
                "this node may not accept writes now", why: "it does not hold the leader's key, or could not renew it",
                next: "write to the leader: holdfast nodes shows which node that is", status: .unavailable)
        case .outcomeUnknown(let lsn):
            Diagnosis(
                "whether the write survives is unknown", at: "the commit that ends at \(lsn)",
                why: "it is on this node's disk, and the node lost the leader's key meanwhile",
                next: "read it back from the leader before you repeat it", status: .unavailable)
        case .stopped(let why):
            Diagnosis(
                "the engine has stopped", why: why,
                next: "start it again: recovery finds everything that was acknowledged", status: .inputOutput)
        case .redoDiffers(let page, let lsn, let why):
            Diagnosis(
                "redo of page \(page) gives another page than this leader made",
                at: "the commit behind LSN \(lsn), which was not logged", why: why,
                next:
                    "nothing of that commit was acknowledged; report this, and check what was logged before: holdfast "
                    + "check, holdfast wal dump --page \(page)",
                status: .internalError)
        case .closed: Diagnosis("the engine is closed", status: .unavailable)
        case .notADataDirectory(let path):
            Diagnosis(
                "this is no Holdfast data directory", at: printable(path, limit: 400), why: "it has no file `control`",
                next: "run holdfast init, or correct the path", status: .dataError)
        case .notEmpty(let name):
            Diagnosis(
                "the directory is not empty", at: printable(name, limit: 400),
                why: "it is not what an unfinished init left",
                next: "choose an empty directory", status: .cannotCreate)
        case .damagedControl(let why):
            Diagnosis(
                "the control file is damaged", at: ControlData.path, why: why,
                next: "restore the cluster from a backup (holdfast restore)", status: .dataError)
        case .needsRecovery(let why):
            Diagnosis(
                "this directory needs recovery before its pages can be checked", why: why,
                next:
                    "start it (holdfast serve), and check it as it runs (holdfast check --connect) or when it has stopped",
                status: .tryAgain)
        case .staleControl(let redo, let commit):
            Diagnosis(
                "the control file is older than the log", at: ControlData.path,
                why: "it says that the log was closed in order at \(redo), and a commit follows that ends at \(commit)",
                next:
                    "put back the right control file if an old copy took its place; else holdfast serve replays the log "
                    + "from there",
                status: .dataError)
        case .newerFormat(let place, let version):
            Diagnosis(
                "a file is of a newer format", at: place, why: "its version is \(version)",
                next: "use the version of holdfast that wrote it, or a later one", status: .dataError)
        case .restoreInProgress(let command):
            Diagnosis(
                "a restore into this directory was not finished",
                next: "finish it: \(printable(command, limit: 2048))", status: .dataError)
        case .recoveryFailed(let lsn, let why):
            Diagnosis(
                "recovery cannot make this directory whole", at: "LSN \(lsn)", why: why,
                next: "restore the cluster from a backup (holdfast restore)", status: .dataError)
        case .invalidName(let diagnosis): diagnosis
        case .slotExists(let name):
            Diagnosis(
                "there is a slot of this name already", at: printable(name),
                next: "use it, drop it with SLOT DROP, or choose another name", status: .dataError)
        case .unknownSlot(let name):
            Diagnosis(
                "there is no such slot", at: printable(name), next: "see SLOT LIST, or make it with SLOT CREATE",
                status: .dataError)
        case .unknownBackup:
            Diagnosis("no such backup is running", next: "start the backup again", status: .tryAgain)
        case .backupOver(let why):
            Diagnosis(
                "this follower's backup cannot go on", why: why, next: "start the backup again", status: .tryAgain)
        case .archivingRecorded:
            Diagnosis(
                "this cluster archives its log, and no repository is configured",
                why: "segments would be lost that its backups need",
                next: "configure repository:, or give --no-archive",
                status: .configuration)
        case .needsArchive(let why):
            Diagnosis(
                "recovery needs an archive", why: why, next: "configure repository: as it was for the restore",
                status: .configuration)
        case .waitsAtTarget(let target):
            Diagnosis(
                "this node accepts no writes", why: "it waits at its recovery target, \(target)",
                next: "open it with holdfast promote", status: .tryAgain)
        case .follows(let leader):
            Diagnosis(
                "this node is a follower and accepts no writes", at: leader,
                next: leader == nil
                    ? "write to its leader" : "write to that leader, or open this node with holdfast promote",
                status: .unavailable)
        case .notPaused:
            Diagnosis(
                "this node cannot be promoted", why: "it neither follows nor waits at a recovery target",
                next: "see holdfast status for its role", status: .tryAgain)
        case .stoppedAtTarget(let target, let lsn):
            Diagnosis(
                "replay has reached its target and ends, as was asked", at: "\(target), at \(lsn)",
                next: "restore with --target-action promote or pause to use it", status: .done)
        }
    }
}

/// What a record may measure.
public enum Limits {
    public static let keyBytes = 2048
    public static let valueBytes = 64 << 20
}
