import HoldfastEngine
import NIOCore

/// How many bytes of a sender are under way in its channel: the sender's thread takes, the event loop gives back.
final class SenderRoom: Sendable {
    private let monitor = Monitor()
    // Guarded by `monitor`.
    nonisolated(unsafe) private var underWay = 0

    func take(_ bytes: Int) {
        monitor.lock()
        underWay += bytes
        monitor.unlock()
    }

    func give(_ bytes: Int) {
        monitor.lock()
        underWay -= bytes
        monitor.broadcast()
        monitor.unlock()
    }

    func wake() {
        monitor.lock()
        monitor.broadcast()
        monitor.unlock()
    }

    /// Whether less than `limit` is under way; waits for that, for so long at most, unless `isNeedless`.
    func hasRoom(below limit: Int, milliseconds: Int, unless isNeedless: () -> Bool) -> Bool {
        monitor.lock()
        defer { monitor.unlock() }
        if underWay >= limit, !isNeedless() { monitor.wait(milliseconds: milliseconds) }
        return underWay < limit
    }

    /// For whoever must not wait long, and must not spin either.
    func waitBriefly() {
        monitor.lock()
        monitor.wait(milliseconds: 20)
        monitor.unlock()
    }

    /// Waits until the socket has taken everything.
    func waitUntilEmpty(seconds: Int, unless isNeedless: () -> Bool) {
        monitor.lock()
        defer { monitor.unlock() }
        let end = NIODeadline.now() + .seconds(Int64(seconds))
        while underWay > 0, !isNeedless(), NIODeadline.now() < end { monitor.wait(milliseconds: 20) }
    }
}
