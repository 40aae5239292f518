import HoldfastCore
import HoldfastEngine
import HoldfastReplica
import HoldfastRepository
import HoldfastWAL

/// A timeline that this node opened while the repository was away (`promote --without-repository`), and has to claim when it
/// is back. `claim.signal` says so until then.
enum OwedClaim {
    static let risk =
        "another node may claim the same timeline meanwhile, and then this one has to yield; until the repository is back "
        + "nobody finds this timeline in the archive"

    /// `nil`: the timeline is claimed, or was never to be.
    static func of(_ disk: RealDisk, _ timeline: TimelineID, _ token: TimelineToken) throws -> ClaimSignal? {
        guard let signal = try ClaimSignal.read(disk), signal.timeline == timeline, signal.token == token else {
            return nil
        }
        return signal
    }

    /// Claims what is owed, if anything is. May be repeated, and by two at once.
    /// - Returns: whether something was.
    /// - Throws: `ServeError.claimTaken` and `fenced` when another node was first; what the repository throws while it is away.
    static func settle(
        _ disk: RealDisk, _ timeline: TimelineID, _ token: TimelineToken, _ repository: Repository
    ) throws -> Bool {
        guard let signal = try of(disk, timeline, token) else { return false }
        func requireOwn(_ bytes: [UInt8]) throws {
            guard try TimelineHistory(decoding: bytes).current.token == token else {
                throw ServeError.claimTaken(
                    timeline, by: ArchiveRecoverySource.claimer(of: timeline, repository), since: signal.switchLSN)
            }
        }
        if let bytes = try repository.history(timeline) {
            try requireOwn(bytes)
        } else {
            // Before anything of this node's gets there: whoever claimed more has taken over.
            if let claimed = try repository.claim(above: timeline) {
                throw ServeError.fenced(own: timeline, claimed: claimed)
            }
            do {
                try repository.claim(timeline, history: disk.readAll(TimelineHistory.walPath(timeline)))
            } catch RepositoryError.claimLost {
                try requireOwn(repository.history(timeline) ?? [])
            }
        }
        try ClaimSignal.remove(disk)
        return true
    }
}
