import HoldfastCore

/// Why a recovering node must not go on.
package enum ReplicaError: DiagnosableError, Equatable {
    /// Claiming a timeline would stop it.
    case leaderLives(cluster: String, holder: String)

    package var diagnosis: Diagnosis {
        switch self {
        case .leaderLives(let cluster, let holder):
            Diagnosis(
                "the leader of cluster \(cluster) is alive", at: holder,
                why: "its agent renews locks/leader, and a new timeline would stop it",
                next: "stop it first; or restore with --no-archive for a copy, or with --take-over to stop it by that",
                status: .tryAgain)
        }
    }
}
