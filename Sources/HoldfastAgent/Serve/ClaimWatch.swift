import HoldfastCore
import HoldfastEngine
import HoldfastRepository
import Logging
import ServiceLifecycle

/// Looks regularly whether another node has claimed a newer timeline, and ends the service when one has: a leader that
/// was left behind must not accept writes.
struct ClaimWatch: Service {
    let repository: Repository
    let engine: Engine
    let log: Logger
    private static let everyMilliseconds = 2000

    func run() async throws {
        var isAway = false
        while await Pause.milliseconds(Self.everyMilliseconds) {
            guard engine.status.role == .leader else { continue }
            let (repository, own) = (repository, engine.status.timeline)
            do {
                let claim = try await BlockingWork.run("claims") { try repository.claim(above: own) }
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
