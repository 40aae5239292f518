import HoldfastWire
import Synchronization

/// The leaders that a follower tries in turn. Whoever watches who leads may change them while a stream runs: one whose
/// leader is no longer among them ends, and takes nothing more.
package final class LeaderList: Sendable {
    private let addresses: Mutex<[WireAddress]>
    /// Whether they are never changed: then an empty list means that there is nothing to stream.
    let isFixed: Bool

    package init(_ addresses: [WireAddress], isFixed: Bool) {
        self.addresses = Mutex(addresses)
        self.isFixed = isFixed
    }

    package var current: [WireAddress] { addresses.withLock { $0 } }
    package func set(_ new: [WireAddress]) { addresses.withLock { $0 = new } }
    func contains(_ address: WireAddress) -> Bool { addresses.withLock { $0.contains(address) } }
}
