import HoldfastBackup
import HoldfastCore
import HoldfastRepository
import HoldfastWire
import Logging
import ServiceLifecycle

/// Renews `locks/leader` while the leader answers, so that nobody restores over a living one. It is given back on an
/// orderly stop, and as soon as the leader does not answer.
struct LeaderLease: Service {
    let configuration: Configuration
    let log: Logger
    private static let everyMilliseconds = 10_000
    /// While it is not held: a leader that came up is protected soon.
    private static let retryMilliseconds = 1000

    func run() async throws {
        var lease: Lease?
        var lastProblem: String?
        repeat {
            let (held, configuration) = (lease, configuration)
            do {
                lease = try await BlockingWork.run("lease") { try Self.step(held, configuration) }
                if lease != nil && held == nil { log.info("the leader's lease is held") }
                if lease == nil && held != nil { log.notice("the leader does not answer: its lease is given back") }
                lastProblem = nil
            } catch {
                lease = nil
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

    private static func step(_ held: Lease?, _ configuration: Configuration) throws -> Lease? {
        guard let identity = try leader(configuration) else {
            try held?.release()
            return nil
        }
        if let held, held.isHeld {
            try held.renew()
            return held
        }
        let repository = try ClusterAccess(configuration).repository(creatingFor: identity.systemIdentifier)
        return try repository.takeLease(
            LockName.leader, leaseSeconds: LockName.leaderSeconds,
            purpose: "leader at \(printable(configuration.requiredLeader().description, limit: 200))")
    }

    /// `nil`: nobody answers, or not as a leader.
    private static func leader(_ configuration: Configuration) throws -> LeaderConnection.Identity? {
        do {
            let connection = try LeaderConnection(to: configuration.requiredLeader())
            defer { connection.close() }
            let identity = try connection.identity()
            return identity.role == "leader" ? identity : nil
        } catch let error as WireError where error.diagnosis.status == .unavailable {
            return nil
        }
    }
}
