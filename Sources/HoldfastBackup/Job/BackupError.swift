import HoldfastCore

/// Why a backup cannot be taken.
package enum BackupError: DiagnosableError {
    case otherCluster(String, expected: SystemIdentifier, found: SystemIdentifier)
    /// A node that waits at its recovery target, say.
    case notCopyable(String, String)
    case notArchiving(String)
    case notArchived(SegmentName, seconds: Int, isFollowers: Bool)
    /// The segment that the backup waits for lies behind a promotion, or around it.
    case timelineLeft(SegmentName, by: TimelineID, at: LSN)
    /// The archive holds a segment of another node's timeline under a name that the backup needs.
    case otherTimeline(SegmentName, expected: TimelineToken, found: TimelineToken)
    /// The archived last segment does not hold the record, or the place, that ended the backup.
    case endMissing(SegmentName, stop: LSN)

    package var diagnosis: Diagnosis {
        switch self {
        case .otherCluster(let address, let expected, let found):
            Diagnosis(
                "the leader belongs to another cluster", at: address,
                why: "its system identifier is \(found), the repository's is \(expected)",
                next: "correct leader or cluster in the configuration", status: .dataError)
        case .notCopyable(let address, let role):
            Diagnosis(
                "the server neither leads nor follows", at: address, why: "its role is \(printable(role))",
                next: "promote it, or name another node's address", status: .unavailable)
        case .notArchiving(let address):
            Diagnosis(
                "the server does not archive its WAL", at: address,
                why: "a backup is whole only with the WAL written while it was copied",
                next: "start it with a repository in its configuration", status: .configuration)
        case .notArchived(let segment, let seconds, let isFollowers):
            Diagnosis(
                "the backup's WAL does not arrive in the archive", at: segment.description,
                why: "nothing arrived for \(seconds) s"
                    + (isFollowers ? ", and the leader completes a segment in its own time" : ""),
                next: isFollowers
                    ? "check that holdfast agent runs beside the leader, and that the leader's archive.timeout is shorter"
                    : "check that holdfast agent runs; see holdfast status",
                status: .unavailable)
        case .timelineLeft(let segment, let timeline, let end):
            Diagnosis(
                "the backup's WAL will not arrive in the archive", at: segment.description,
                why: "a node was promoted to timeline \(timeline.rawValue) at \(end)",
                next: "start the backup again", status: .tryAgain)
        case .otherTimeline(let segment, let expected, let found):
            Diagnosis(
                "the archive holds another node's WAL", at: segment.description,
                why: "its timeline's token is \(found), the server's \(expected): two nodes were promoted apart",
                next: "stop the one whose data is not wanted; restore or promote the other onto a timeline of its own",
                status: .dataError)
        case .endMissing(let segment, let stop):
            Diagnosis(
                "the archived WAL is not the server's", at: segment.description,
                why: "the backup's end at \(stop) is not in it, as when the leader's directory was put back",
                next: "if it was, restore the leader from the archive, which opens a new timeline",
                status: .dataError)
        }
    }
}
