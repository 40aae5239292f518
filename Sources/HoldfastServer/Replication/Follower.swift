import HoldfastCore
import HoldfastWire
import NIOCore
import Synchronization

/// One follower that is connected, as everybody else sees it.
final class Follower: Sendable {
    struct Positions: Sendable, Equatable {
        var written = LSN.zero
        var flushed = LSN.zero
        var applied = LSN.zero
    }

    /// Of the connection.
    let id: Int
    let node: String
    let slot: String?
    let instance: String?
    let address: String
    let timeline: TimelineID
    /// Everything below was handed to the connection.
    let sent: Atomic<UInt64>
    /// Where its timeline was left, as far as is known.
    let end: Atomic<UInt64>
    private let confirmed: Mutex<(positions: Positions, at: NIODeadline)>

    init(id: Int, address: String, request: ReplicateRequest, end: LSN?) {
        self.id = id
        self.address = address
        node = request.node
        slot = request.slot
        instance = request.instance
        timeline = request.timeline
        sent = Atomic(request.lsn.rawValue)
        self.end = Atomic((end ?? .max).rawValue)
        confirmed = Mutex((Positions(), .now()))
    }

    var positions: Positions { confirmed.withLock { $0.positions } }

    /// Since it said something.
    var silence: TimeAmount { .now() - confirmed.withLock { $0.at } }

    /// What it says it has; never less than before.
    func confirm(_ new: Positions) {
        confirmed.withLock { known in
            known.positions.written = max(known.positions.written, new.written)
            known.positions.flushed = max(known.positions.flushed, new.flushed)
            known.positions.applied = max(known.positions.applied, new.applied)
            known.at = .now()
        }
    }

    func report(durable: LSN) -> FollowerReport {
        let (positions, silence) = (positions, silence)
        let sent = LSN(sent.load(ordering: .relaxed))
        return FollowerReport(
            node: node, slot: slot ?? "", address: address, state: durable > sent + (1 << 20) ? "catchup" : "streaming",
            sent: sent, positions: positions,
            lagBytes: durable > positions.applied ? durable - positions.applied : 0,
            silenceSeconds: Int(silence.nanoseconds / 1_000_000_000))
    }
}

/// A follower's figures at one moment.
struct FollowerReport: Sendable {
    var node: String
    var slot: String
    var address: String
    /// `streaming`, or `catchup` for one that has not been sent all but the last MiB.
    var state: String
    var sent: LSN
    var positions: Follower.Positions
    /// From what it has applied to what is durable here.
    var lagBytes: Int
    var silenceSeconds: Int

    /// As `STATUS` shows it.
    var value: WireValue {
        let fields: [(name: String, value: WireValue)] = [
            ("node", .simple(node)), ("slot", .simple(slot)), ("state", .simple(state)),
            ("sent_lsn", .simple(sent.description)), ("written_lsn", .simple(positions.written.description)),
            ("flushed_lsn", .simple(positions.flushed.description)),
            ("applied_lsn", .simple(positions.applied.description)), ("lag_bytes", .integer(Int64(lagBytes))),
            ("address", .simple(address)),
        ]
        return .map(fields.map { WirePair(key: .simple($0.name), value: $0.value) })
    }

    /// Host and port as `INFO` and `ROLE` of Redis show them; a unix socket has none.
    var host: (ip: String, port: Int) {
        guard !address.hasPrefix("unix:"), let colon = address.lastIndex(of: ":") else { return ("unix", 0) }
        // `[IPv4]127.0.0.1/127.0.0.1:40000` is what NIO calls an address.
        let start = address[..<colon].lastIndex(where: { $0 == "/" || $0 == "]" }).map { address.index(after: $0) }
        return (
            String(address[(start ?? address.startIndex)..<colon]), Int(address[address.index(after: colon)...]) ?? 0
        )
    }
}
