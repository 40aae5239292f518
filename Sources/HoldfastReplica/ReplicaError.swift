import HoldfastCore

/// Why a recovering node must not go on.
package enum ReplicaError: DiagnosableError, Equatable {
    /// Claiming a timeline would stop it.
    case leaderLives(cluster: String, holder: String)
    /// Another node's claim stands in the way.
    case claimed(TimelineID, by: String)
    /// Somebody led on that timeline: its log is in the archive.
    case claimUsed(TimelineID, by: String)

    package var diagnosis: Diagnosis {
        switch self {
        case .leaderLives(let cluster, let holder):
            Diagnosis(
                "the leader of cluster \(cluster) is alive", at: holder,
                why: "its agent renews locks/leader, and a new timeline would stop it",
                next: "stop it first; or restore with --no-archive for a copy, or with --take-over to stop it by that",
                status: .tryAgain)
        case .claimed(let timeline, let claimer):
            Diagnosis(
                "timeline \(timeline.rawValue) has been claimed by another node", at: printable(claimer, limit: 300),
                why: "its history is in the repository and is not part of this node's",
                next:
                    "if that node leads, follow it; if its promotion failed, promote it again: it takes its claim up. "
                    + "If it is gone for good and never led, holdfast promote --force passes its claim over; "
                    + "if it led, restore --take-over",
                status: .tryAgain)
        case .claimUsed(let timeline, let claimer):
            Diagnosis(
                "timeline \(timeline.rawValue) has been written on", at: printable(claimer, limit: 300),
                why: "its log is in the archive: passing it over would lose what was acknowledged there",
                next: "follow that node, or restore from the archive with --take-over", status: .dataError)
        }
    }
}
