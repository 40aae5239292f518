import HoldfastCore
import Logging
import ServiceLifecycle

/// `holdfast agent`: what keeps a cluster safe while nobody looks. For each cluster it archives WAL, renews the leader's
/// lease, takes scheduled backups, and brings the catalog up to date. It holds no data: it may be stopped, killed and
/// started at any time.
package struct AgentDaemon: Sendable {
    private let configurations: [Configuration]
    private let clock: AgentClock
    private let log: Logger

    package init(_ configurations: [Configuration], clock: AgentClock, log: Logger) {
        self.configurations = configurations
        self.clock = clock
        self.log = log
    }

    /// Returns after an orderly stop (SIGTERM, SIGINT): a running backup has ended cleanly, the lease is given back.
    package func run() async throws {
        var services: [any Service] = []
        // Only one agent at a time uses a state directory: two would run one schedule twice.
        let locks = try configurations.map { try Self.lock($0) }
        defer { for lock in locks { lock.unlock() } }
        for (configuration, lock) in zip(configurations, locks) {
            services += try self.services(of: configuration, state: lock)
        }
        log.info(
            "agent started", metadata: ["clusters": "\(configurations.compactMap(\.cluster).joined(separator: " "))"])
        let group = ServiceGroup(
            configuration: .init(
                services: services.map { .init(service: $0) }, gracefulShutdownSignals: [.sigterm, .sigint], logger: log
            ))
        try await group.run()
        log.info("agent stopped")
    }

    private static func lock(_ configuration: Configuration) throws -> RealDisk {
        let state = try RealDisk(root: AgentState.directory(configuration))
        do throws(DiskError) {
            try state.lock()
        } catch {
            throw error.code == .wouldBlock ? AgentError.alreadyRunning(state.root) : error
        }
        return state
    }

    private func services(of configuration: Configuration, state: RealDisk) throws -> [any Service] {
        let cluster = try configuration.requiredCluster()
        _ = try configuration.requiredRepository()
        var log = log
        log[metadataKey: "cluster"] = "\(cluster)"
        let facts = CatalogFacts.ifUsable(configuration, log: log)
        var services: [any Service] = [LeaderLease(configuration: configuration, facts: facts, log: log)]
        if configuration.data != nil {
            services.append(ArchiveService(configuration: configuration, facts: facts, log: log))
        }
        if let expression = configuration.schedule.full {
            services.append(
                try ScheduleService(configuration, expression, disk: state, clock: clock, log: log))
        }
        if let facts { services.append(CatalogDelivery(facts: facts)) }
        return services
    }
}

package enum AgentError: DiagnosableError, Equatable {
    case alreadyRunning(String)

    package var diagnosis: Diagnosis {
        switch self {
        case .alreadyRunning(let path):
            Diagnosis(
                "another agent serves this cluster", at: printable(path, limit: 300),
                why: "it holds the state directory",
                next: "stop it, or give this one another `state`", status: .tryAgain)
        }
    }
}
