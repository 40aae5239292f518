import HoldfastCore
import HoldfastEngine
import HoldfastRepository
import Logging
import ServiceLifecycle

/// Looks regularly whether another node has claimed a newer timeline, and ends the service when one has: a leader that
/// was left behind must not accept writes. A timeline that was opened without the repository is claimed here first.
struct ClaimWatch: NamedService {
    /// Opened at the first look that succeeds: at the start the repository may be away.
    let configuration: Configuration
    let system: SystemIdentifier
    let disk: RealDisk
    let engine: Engine
    let log: Logger
    private static let everyMilliseconds = 2000

    func run() async throws {
        var isAway = false
        var opened: Repository?
        while await Pause.milliseconds(Self.everyMilliseconds) {
            guard engine.status.role == .leader else { continue }
            let (known, configuration, system) = (opened, configuration, system)
            let (own, token) = (engine.status.timeline, engine.status.timelineToken)
            let (disk, log) = (disk, log)
            do {
                let (repository, claim) = try await BlockingWork.run("claims") {
                    let repository = try known ?? ClusterAccess(configuration).repository(expecting: system)
                    if try OwedClaim.settle(disk, own, token, repository) {
                        log.notice("the repository has this timeline now", metadata: ["timeline": "\(own.rawValue)"])
                    }
                    return (repository, try repository.claim(above: own))
                }
                opened = repository
                isAway = false
                if let claim { throw ServeError.fenced(own: own, claimed: claim) }
            } catch let error as ServeError {
                log.critical("stopping", metadata: ["error": "\(LogOutput.text(error))"])
                throw error
            } catch {
                if !isAway {
                    log.warning(
                        "claims of other nodes cannot be read now", metadata: ["error": "\(LogOutput.text(error))"])
                }
                isAway = true
            }
        }
    }
}
