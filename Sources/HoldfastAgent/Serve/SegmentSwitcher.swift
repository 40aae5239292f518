import HoldfastCore
import HoldfastEngine
import Logging
import ServiceLifecycle

/// Switches a part-filled segment once `archive.timeout` has passed, if something was committed in it: what a lost
/// machine takes with it is bounded by that.
struct SegmentSwitcher: NamedService {
    let engine: Engine
    let composition: NodeComposition
    let log: Logger

    func run() async throws {
        while await Pause.milliseconds(composition.archiveTimeoutMilliseconds ?? 1000) {
            guard composition.archiveTimeoutMilliseconds != nil, !engine.isFollower else { continue }
            let engine = engine
            do {
                if let end = try await BlockingWork.run("switch", { try engine.switchWALIfCommitted() }) {
                    log.debug("segment switched by archive.timeout", metadata: ["lsn": "\(end)"])
                }
            } catch {
                // No room, for instance: the engine says so to writers; the next turn tries again.
                log.warning("the WAL segment cannot be switched", metadata: ["error": "\(LogOutput.text(error))"])
            }
        }
    }
}
