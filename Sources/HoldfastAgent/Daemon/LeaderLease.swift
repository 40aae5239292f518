import HoldfastBackup
import HoldfastCatalog
import HoldfastCore
import HoldfastRepository
import HoldfastWire
import Logging
import ServiceLifecycle

/// Renews `locks/leader` while the leader answers, so that nobody restores over a living one. It is given back on an
/// orderly stop, and as soon as the leader does not answer.
struct LeaderLease: NamedService {
    let configuration: Configuration
    let facts: CatalogFacts?
    let log: Logger
    private static let everyMilliseconds = 10_000
    /// While it is not held: a leader that came up is protected soon.
    private static let retryMilliseconds = 1000

    func run() async throws {
        var lease: Lease?
        var lastProblem: String?
        var reported: NodeReport?
        repeat {
            let (held, configuration) = (lease, configuration)
            do {
                let identity: LeaderConnection.Identity?
                (lease, identity) = try await BlockingWork.run("lease") { try Self.step(held, configuration) }
                report(identity, &reported)
                if lease != nil && held == nil { log.info("the leader's lease is held") }
                if lease == nil && held != nil { log.notice("the leader does not answer: its lease is given back") }
                lastProblem = nil
            } catch {
                // Still ours until its own time is over: the next turn renews it.
                if lease?.isHeld != true { lease = nil }
                let problem = LogOutput.text(error)
                if problem != lastProblem {
                    log.warning("the leader's lease cannot be renewed", metadata: ["error": "\(problem)"])
                }
                lastProblem = problem
            }
        } while await Pause.milliseconds(lease == nil ? Self.retryMilliseconds : Self.everyMilliseconds)
        if let held = lease {
            try? await BlockingWork.run("lease") { try held.release() }
        }
    }

    private static func step(
        _ held: Lease?, _ configuration: Configuration
    ) throws -> (Lease?, LeaderConnection.Identity?) {
        let identity: LeaderConnection.Identity?
        do {
            identity = try leader(configuration)
        } catch WireError.timedOut {
            // Somebody accepted and is busy: that is no reason to let others take its place.
            try held?.renew()
            return (held, nil)
        }
        guard let identity else {
            try held?.release()
            return (nil, nil)
        }
        if let held, held.isHeld {
            try held.renew()
            return (held, identity)
        }
        let repository = try ClusterAccess(configuration).repository(creatingFor: identity.systemIdentifier)
        let lease = try repository.takeLease(
            LockName.leader, leaseSeconds: LockName.leaderSeconds,
            purpose: "leader at \(printable(configuration.requiredLeader().description, limit: 200))")
        return (lease, identity)
    }

    /// Tells the catalog what changed: a leader that came, moved to another timeline, or went.
    private func report(_ identity: LeaderConnection.Identity?, _ reported: inout NodeReport?) {
        guard let facts else { return }
        guard let identity else {
            guard var last = reported, last.role != .stopped else { return }
            last.role = .stopped
            reported = last
            facts.add(node: RestoreCluster.nodeName, last)
            return
        }
        if reported?.role == .leader, reported?.timeline == identity.timeline.rawValue { return }
        let report = NodeReport(
            role: .leader, address: configuration.leader?.description, dataDirectory: identity.data,
            timeline: identity.timeline, lsn: identity.durableLSN)
        reported = report
        facts.add(node: RestoreCluster.nodeName, report)
    }

    /// `nil`: nobody answers, or not as a leader.
    private static func leader(_ configuration: Configuration) throws -> LeaderConnection.Identity? {
        do {
            let connection = try LeaderConnection(to: configuration.leaderServer(), replySeconds: 5)
            defer { connection.close() }
            let identity = try connection.identity()
            return identity.role == "leader" ? identity : nil
        } catch let error as WireError {
            if case .timedOut = error { throw error }
            guard error.diagnosis.status == .unavailable else { throw error }
            return nil
        }
    }
}
