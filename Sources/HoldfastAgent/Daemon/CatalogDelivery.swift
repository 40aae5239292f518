import Logging
import ServiceLifecycle

/// Brings what waits in the outbox to the catalog; while the catalog is away it tries less and less often.
struct CatalogDelivery: NamedService {
    let facts: CatalogFacts
    private static let everyMilliseconds = 2000
    private static let longestMilliseconds = 60_000

    func run() async throws {
        var pause = Self.everyMilliseconds
        repeat {
            let facts = facts
            let isDelivered = (try? await BlockingWork.run("catalog") { facts.deliver() }) ?? false
            pause = isDelivered ? Self.everyMilliseconds : Swift.min(pause * 2, Self.longestMilliseconds)
        } while await Pause.milliseconds(pause)
        // What the stop itself brought about, if the catalog is there.
        let facts = facts
        _ = try? await BlockingWork.run("catalog") { facts.deliver() }
    }
}
