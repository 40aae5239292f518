import HoldfastCore
import HoldfastEngine
import HoldfastRepository
import HoldfastWAL
import Synchronization

/// The archive of a repository as a recovering engine sees it: segments fetched and checked ahead of replay,
/// histories, and claims. Keeps the restore's hold alive until replay has ended, so that no expiry removes
/// what is still to be read.
package final class ArchiveRecoverySource: FollowerSource {
    private let repository: Repository
    private let archive: WALArchive
    private let takesOver: Bool
    private let hold: Mutex<LeaseKeeper?>
    private struct Reading {
        var timelines: [(timeline: TimelineID, from: LSN)] = []
        var prefetcher: SegmentPrefetcher?
    }
    private let reading = Mutex(Reading())

    /// - Parameter hold: the name of the restore's hold, from `recovery.signal`; `nil` for none.
    /// - Throws: `RepositoryError.leaseLost` when the hold is gone: what it protected may be given up by now.
    /// - Parameter takesOver: a new timeline is claimed although the cluster's leader is alive, which stops it.
    package init(_ repository: Repository, hold: String?, takesOver: Bool = false) throws {
        self.repository = repository
        self.takesOver = takesOver
        archive = WALArchive(repository, tokenOfHistory: TimelineHistory.ownToken)
        let lease = try hold.map { try repository.continueHold($0) }
        self.hold = Mutex(lease.map { LeaseKeeper($0, everySeconds: Double(LockName.holdSeconds) / 10) })
    }

    deinit { reading.withLock { $0.prefetcher?.stop() } }

    package func willReplay(_ timelines: [(timeline: TimelineID, from: LSN)]) {
        reading.withLock { reading in
            reading.timelines = timelines
            // It reads ahead along the timelines that it was made with.
            reading.prefetcher?.stop()
            reading.prefetcher = nil
        }
    }

    package func segment(_ name: SegmentName, reusing spent: SegmentBuffer?) throws -> SegmentBuffer? {
        let prefetcher = reading.withLock { reading -> SegmentPrefetcher in
            if let running = reading.prefetcher { return running }
            let timelines = reading.timelines
            // A segment that a fork cuts is asked for under its newest timeline's name, as replay asks for it.
            let made = SegmentPrefetcher(archive, ahead: 4, workers: 2) { name in
                let next = name.segment.next
                let timeline = timelines.last { $0.from < next.end }?.timeline ?? name.timeline
                return SegmentName(timeline: timeline, segment: next)
            }
            reading.prefetcher = made
            return made
        }
        return try prefetcher.segment(name, reusing: spent)
    }

    package func holdsLater(than name: SegmentName) throws -> Bool {
        let timelines = reading.withLock { $0.timelines.map(\.timeline) }
        return try timelines.contains { timeline in
            guard timeline >= name.timeline else { return false }
            return try archive.inventory(of: timeline).ranges.contains { $0.upperBound > name.segment }
        }
    }

    package func history(_ timeline: TimelineID) throws -> [UInt8]? { try repository.history(timeline) }

    package func timelineToClaim(own: [TimelineID], isForced: Bool) throws -> TimelineID {
        // Looked at when it matters: between the restore and now a leader may have come back.
        if !takesOver, case .fresh(let holder) = try repository.standing(ofLease: LockName.leader) {
            throw ReplicaError.leaderLives(cluster: repository.cluster, holder: holder.display)
        }
        do {
            return try repository.timelineToClaim(own: own, forced: isForced)
        } catch RepositoryError.foreignClaim(let timeline) {
            throw ReplicaError.claimed(timeline, by: Self.claimer(of: timeline, repository))
        }
    }

    package func claim(_ timeline: TimelineID, history: [UInt8]) throws {
        do {
            try repository.claim(timeline, history: history)
        } catch RepositoryError.claimLost(let timeline) {
            throw ReplicaError.claimed(timeline, by: Self.claimer(of: timeline, repository))
        }
    }

    /// Who claimed a timeline and when, as far as the repository tells: `promoted by b, at 2026-11-24T02:00:00Z`.
    package static func claimer(of timeline: TimelineID, _ repository: Repository) -> String {
        let reason = (try? repository.history(timeline)).flatMap { $0 }.flatMap {
            try? TimelineHistory(decoding: $0).current.reason
        }
        let time = (try? repository.store.describe(repository.layout.history(timeline))).flatMap { $0 }?.modified
        return "\(reason ?? "nobody says who")\(time.map { ", at \($0)" } ?? "")"
    }

    package func isRefusal(_ error: any Error) -> Bool { !(error is StoreError) }

    /// A node that leads has an agent that renews `locks/leader`, or has log in the archive, or both.
    package func requireUnused(_ timeline: TimelineID) throws {
        if case .fresh(let holder) = try repository.standing(ofLease: LockName.leader) {
            throw ReplicaError.leaderLives(cluster: repository.cluster, holder: holder.display)
        }
        guard try archive.inventory(of: timeline).ranges.isEmpty else {
            throw ReplicaError.claimUsed(timeline, by: Self.claimer(of: timeline, repository))
        }
    }

    package func histories(above timeline: TimelineID) throws -> [[UInt8]] {
        try repository.claimedTimelines().reversed().filter { $0 > timeline }.compactMap { try repository.history($0) }
    }

    /// The archive is not read for now: memory and threads for it are given back. It may be asked again.
    package func rest() {
        reading.withLock { reading in
            reading.prefetcher?.stop()
            reading.prefetcher = nil
        }
    }

    package func replayEnded() {
        rest()
        hold.withLock { keeper in
            // A hold that cannot be given back now lapses by itself; replay has ended all the same.
            try? keeper?.stop()
            keeper = nil
        }
    }
}
