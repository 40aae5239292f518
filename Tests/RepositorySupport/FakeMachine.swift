import HoldfastCore
import HoldfastRepository
import Synchronization

/// A machine of a test: its own clock since boot, its own wall clock, its own identity.
package final class FakeMachine: Sendable {
    private struct Clocks {
        var boottime: UInt64 = 1_000_000_000_000
        var wall = Timestamp("2026-11-23T02:15:00Z")!
    }
    private let clocks = Mutex(Clocks())
    package let name: String

    package init(_ name: String) { self.name = name }

    package func advance(seconds: Int64) {
        clocks.withLock {
            $0.boottime += UInt64(seconds) * 1_000_000_000
            $0.wall = $0.wall.advanced(bySeconds: seconds)
        }
    }

    /// The wall clock steps; the clock since boot does not.
    package func setWallClock(_ time: Timestamp) { clocks.withLock { $0.wall = time } }

    package var environment: RepositoryEnvironment {
        RepositoryEnvironment(
            boottimeNanoseconds: { self.clocks.withLock { $0.boottime } },
            wallClock: { self.clocks.withLock { $0.wall } },
            holder: Holder(
                host: name, process: 1, bootIdentifier: "boot of \(name)", processNamespace: "", processStarted: 1,
                nonce: TimelineToken.random().description))
    }
}
