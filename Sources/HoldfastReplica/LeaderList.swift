import HoldfastWire
import Synchronization

/// The leaders that a follower tries in turn. Whoever watches who leads may change them while a stream runs: one whose
/// leader is no longer among them ends, and takes nothing more.
package final class LeaderList: Sendable {
    private let servers: Mutex<[WireServer]>
    /// Whether they are never changed: then an empty list means that there is nothing to stream.
    let isFixed: Bool
    /// The one that is followed though it follows another itself. Of the others each must lead: of a number of followers
    /// which take each other for what they look for none would find the leader again.
    let upstream: WireServer?

    package init(_ servers: [WireServer], isFixed: Bool, upstream: WireServer? = nil) {
        self.servers = Mutex(servers)
        self.isFixed = isFixed
        self.upstream = upstream
    }

    package var current: [WireServer] { servers.withLock { $0 } }
    package func set(_ new: [WireServer]) { servers.withLock { $0 = new } }
    func contains(_ server: WireServer) -> Bool { servers.withLock { $0.contains(server) } }
}
