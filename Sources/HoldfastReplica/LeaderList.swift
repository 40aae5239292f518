import HoldfastWire
import Synchronization

/// The leaders that a follower tries in turn. Whoever watches who leads may change them while a stream runs: one whose
/// leader is no longer among them ends, and takes nothing more.
package final class LeaderList: Sendable {
    private let servers: Mutex<[WireServer]>
    /// Whether they are never changed: then an empty list means that there is nothing to stream.
    let isFixed: Bool

    package init(_ servers: [WireServer], isFixed: Bool) {
        self.servers = Mutex(servers)
        self.isFixed = isFixed
    }

    package var current: [WireServer] { servers.withLock { $0 } }
    package func set(_ new: [WireServer]) { servers.withLock { $0 = new } }
    func contains(_ server: WireServer) -> Bool { servers.withLock { $0.contains(server) } }
}
