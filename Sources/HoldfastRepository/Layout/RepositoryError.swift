import HoldfastCore

/// What is wrong with a repository or with what was asked of it. `StoreError` says that the store itself failed.
package enum RepositoryError: DiagnosableError, Equatable {
    case invalidName(String, of: String)
    case noCluster(String, place: String)
    /// A part that is to be made for a cluster which has one already.
    case knownByOtherName(String, as: String, place: String)
    case otherCluster(String, place: String, expected: SystemIdentifier, found: SystemIdentifier)
    case newerFormat(String, version: Int)
    case damaged(String, why: String)
    case unknownBackup(String)
    case backupNotUsable(BackupID, why: String)
    case sweptMeanwhile(BackupID)
    case alreadyThere(String)
    case leaseTaken(String, by: String)
    case leaseLost(String)
    case belowCut(LSN, cut: LSN)
    case foreignClaim(TimelineID)
    case claimLost(TimelineID)
    case noHistory(TimelineID)
    case segmentConflict(SegmentName, why: String)
    case segmentMissing(SegmentName)
    case segmentDamaged(SegmentName, object: String, why: String)

    package var diagnosis: Diagnosis {
        switch self {
        case .invalidName(let name, let thing): ObjectName.refusal(name, of: thing)
        case .noCluster(let name, let place):
            Diagnosis(
                "the repository holds no cluster \"\(printable(name))\"", at: place,
                next: "check `cluster` and the repository's path; the first backup or agent creates it",
                status: .dataError)
        case .knownByOtherName(let name, let other, let place):
            Diagnosis(
                "the repository knows this cluster as \"\(printable(other))\", not \"\(printable(name))\"", at: place,
                why: "the leader's system identifier is that one's", next: "correct `cluster` or `leader`",
                status: .dataError)
        case .otherCluster(let name, let place, let expected, let found):
            Diagnosis(
                "\"\(printable(name))\" in the repository is another cluster", at: place,
                why: "its system identifier is \(found), this cluster's is \(expected)",
                next: "give this cluster another name, or another repository", status: .dataError)
        case .newerFormat(let object, let version):
            Diagnosis(
                "cannot read an object of a newer format", at: object,
                why: "it has version \(version); this program knows \(RepositoryLayout.formatVersion)",
                next: "use a newer holdfast", status: .dataError)
        case .damaged(let object, let why):
            Diagnosis(
                "an object of the repository is damaged", at: object, why: why,
                next: "put the object back from a copy of the repository; a backup without its record cannot be used",
                status: .dataError)
        case .unknownBackup(let id):
            Diagnosis(
                "there is no backup \"\(printable(id))\"", next: "`holdfast info` lists the backups",
                status: .dataError)
        case .backupNotUsable(let id, let why):
            Diagnosis(
                "backup \(id) cannot be used", why: why, next: "choose another; `holdfast info` lists them",
                status: .dataError)
        case .sweptMeanwhile(let id):
            Diagnosis(
                "backup \(id) was given up by another job", why: "its lease lapsed before it was complete",
                next: "run the backup again", status: .tryAgain)
        case .alreadyThere(let object):
            Diagnosis(
                "cannot create an object of the repository", at: object, why: "it exists with other content",
                next: "look who else writes to this repository", status: .cannotCreate)
        case .leaseTaken(let name, let holder):
            Diagnosis(
                "\"\(printable(name))\" is held by another job", why: "by \(holder)", next: "wait until it has ended",
                status: .tryAgain)
        case .leaseLost(let name):
            Diagnosis(
                "the hold on \"\(printable(name))\" was lost", why: "it could not be renewed in time",
                next: "look at the repository's speed and at suspended processes, then try again", status: .tryAgain)
        case .belowCut(let lsn, let cut):
            Diagnosis(
                "the WAL from \(lsn) on is not kept any more", why: "WAL below \(cut) has been given up",
                next: "choose a newer backup or target", status: .dataError)
        case .foreignClaim(let timeline):
            Diagnosis(
                "timeline \(timeline.rawValue) has been claimed by another node",
                why: "its history is in the repository and is not part of this node's",
                next: "follow that node, or restore from the archive; force only if it is lost for good",
                status: .tryAgain)
        case .claimLost(let timeline):
            Diagnosis(
                "timeline \(timeline.rawValue) was claimed by another node at the same moment",
                next: "follow that node, or promote again to take the next timeline", status: .tryAgain)
        case .noHistory(let timeline):
            Diagnosis(
                "timeline \(timeline.rawValue) is not in the repository", at: "\(timeline).history",
                next: "`holdfast info` lists the timelines", status: .dataError)
        case .segmentConflict(let name, let why):
            Diagnosis(
                "WAL segment \(name) is refused by the archive", why: why,
                next: "two nodes write the same timeline, or the node is not this cluster's: "
                    + "find out which one is right before you remove anything", status: .dataError)
        case .segmentMissing(let name):
            Diagnosis(
                "WAL segment \(name) is not in the archive",
                next:
                    "push it with `holdfast wal push` from a node that still has it, or restore to a target before it",
                status: .dataError)
        case .segmentDamaged(let name, let object, let why):
            Diagnosis(
                "WAL segment \(name) in the archive is damaged", at: object, why: why,
                next: "remove the object and push the segment again from a node that still has it, "
                    + "or restore to a target before it", status: .dataError)
        }
    }
}
