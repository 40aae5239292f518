import HoldfastCore
import HoldfastEngine
import HoldfastRepository

/// Why a restore is refused. Until a directory error is thrown nothing was touched.
package enum RestoreError: DiagnosableError {
    case noBackup(cluster: String)
    /// No backup is consistent at or before the target.
    case beforeFirstBackup(RecoveryTarget, earliest: BackupID, consistent: String)
    /// The backup that was asked for is consistent only behind the target.
    case backupTooNew(BackupID, RecoveryTarget, consistent: String)
    case unknownTarget(RecoveryTarget, why: String)
    case pastArchive(RecoveryTarget, end: LSN, timeline: TimelineID)
    case noTimeline(TimelineID)
    /// The backup does not lie on the history of the timeline asked for.
    case notOnHistory(BackupID, timeline: TimelineID)
    case missingSegment(SegmentName, neededFor: String)
    case leaderLives(cluster: String, holder: String)
    case notEmpty(path: String, example: String)
    case foreign(path: String, found: SystemIdentifier, expected: SystemIdentifier)
    case existingCluster(path: String)
    case newerFormat(path: String, why: String)
    case damagedBackup(BackupID, object: String, why: String)

    package var diagnosis: Diagnosis {
        switch self {
        case .noBackup(let cluster):
            Diagnosis(
                "there is no backup to restore", at: "cluster \(cluster)",
                why: "the repository holds none that is usable",
                next: "see holdfast info, and take one with holdfast backup", status: .dataError)
        case .beforeFirstBackup(let target, let earliest, let consistent):
            Diagnosis(
                "the target lies before the first backup", at: target.description,
                why: "the earliest one, \(earliest), is consistent from \(consistent) on",
                next: "choose a later target", status: .dataError)
        case .backupTooNew(let id, let target, let consistent):
            Diagnosis(
                "backup \(id) cannot reach the target", at: target.description,
                why: "it is consistent from \(consistent) on", next: "leave --backup out, or choose an earlier one",
                status: .dataError)
        case .unknownTarget(let target, let why):
            Diagnosis(
                "the recovery target is not in the archive", at: target.description, why: why,
                next: "see holdfast info for the recovery window", status: .dataError)
        case .pastArchive(let target, let end, let timeline):
            Diagnosis(
                "the recovery target lies past the end of the archive", at: target.description,
                why: "the archive ends at \(end) on timeline \(timeline)",
                next: "choose an earlier target or the latest one, or another branch with --target-timeline: "
                    + "holdfast info lists them", status: .dataError)
        case .noTimeline(let timeline):
            Diagnosis(
                "timeline \(timeline) is not in the repository", next: "see holdfast info for the timelines there are",
                status: .dataError)
        case .notOnHistory(let id, let timeline):
            Diagnosis(
                "backup \(id) is not on the history of timeline \(timeline)",
                why: "that timeline branched off before the backup was consistent, or elsewhere",
                next: "choose an earlier backup, or --target-timeline current", status: .dataError)
        case .missingSegment(let segment, let need):
            Diagnosis(
                "WAL segment \(segment) is missing from the archive", why: "it is needed for \(need)",
                next:
                    "push it with holdfast wal push if the old leader still has it, or choose an earlier target or a later backup",
                status: .dataError)
        case .leaderLives(let cluster, let holder):
            Diagnosis(
                "the leader of cluster \(cluster) is alive", at: holder, why: "its agent renews locks/leader",
                next: "stop it first; or --no-archive for a copy; or --take-over to stop it by this restore",
                status: .tryAgain)
        case .notEmpty(let path, let example):
            Diagnosis(
                "the directory is not empty", at: printable(path, limit: 400), why: "it holds \(printable(example))",
                next: "choose another directory, or move its content away", status: .cannotCreate)
        case .foreign(let path, let found, let expected):
            Diagnosis(
                "the directory belongs to another cluster", at: printable(path, limit: 400),
                why: "its system identifier is \(found), the repository's is \(expected)",
                next: "choose another directory", status: .cannotCreate)
        case .existingCluster(let path):
            Diagnosis(
                "the directory already holds this cluster's data", at: printable(path, limit: 400),
                why: "a restore would replace it", next: "move it away, or choose another directory",
                status: .cannotCreate)
        case .newerFormat(let path, let why):
            Diagnosis(
                "the directory was made by a newer holdfast", at: printable(path, limit: 400), why: why,
                next: "use that holdfast, or choose another directory", status: .dataError)
        case .damagedBackup(let id, let object, let why):
            Diagnosis(
                "backup \(id) is damaged", at: object, why: why, next: "restore from another backup", status: .dataError
            )
        }
    }
}
