import Collections
import Synchronization

/// Where the steps of `SCAN` stopped. A cursor on the wire is a 64-bit number, as clients expect, and keys are longer:
/// so the places are kept here, the latest 16,384 of them. One that was pushed out is refused by name: a scan never
/// skips anything silently.
final class ScanCursors: Sendable {
    static let capacity = 16_384

    private struct Place {
        var database: Int
        var key: [UInt8]
    }

    private struct State {
        var places: [UInt64: Place] = [:]
        var order: Deque<UInt64> = []
        /// Random, so that a cursor of an earlier run of the server is not taken for one of this.
        var next = UInt64.random(in: 1...(1 << 62))
    }

    private let state = Mutex(State())

    /// A cursor whose step begins at `key`.
    func cursor(at key: [UInt8], _ database: Int) -> UInt64 {
        state.withLock { state in
            if state.order.count == Self.capacity, let oldest = state.order.popFirst() { state.places[oldest] = nil }
            let cursor = state.next
            state.next += 1
            state.places[cursor] = Place(database: database, key: key)
            state.order.append(cursor)
            return cursor
        }
    }

    /// nil: not known any more, or of another database.
    func place(of cursor: UInt64, _ database: Int) -> [UInt8]? {
        state.withLock { state in
            guard let place = state.places[cursor], place.database == database else { return nil }
            return place.key
        }
    }
}
