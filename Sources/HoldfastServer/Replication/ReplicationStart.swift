import HoldfastCore
import HoldfastEngine
import HoldfastWAL
import HoldfastWire

/// A request that was found to be in order, and what its stream is read from.
///
/// Nothing here is more than a check: the log may go on, and segments that no slot keeps may go, from this moment on.
struct ReplicationStart: Sendable {
    let request: ReplicateRequest
    let feed: LogFeed
    /// This node's own.
    let history: TimelineHistory
    let durable: LSN

    /// Compares what the follower has with this log (`FeedStart`); blocking, since it may read a segment. Throws
    /// `ReplicateError`, or what the engine throws.
    init(_ request: ReplicateRequest, _ engine: Engine) throws {
        self.request = request
        do {
            let start = try FeedStart(request.ofFeed, engine)
            (feed, history, durable) = (start.feed, start.history, start.durable)
        } catch let refusal as FeedRefusal {
            throw ReplicateError(refusal)
        }
    }

    /// What the follower is told before the stream begins.
    func reply(archived: LSN?, node: String, system: SystemIdentifier) -> [(name: String, value: WireValue)] {
        [
            ("version", .integer(Int64(ReplicateRequest.version))), ("system_identifier", .simple(system.description)),
            ("timeline", .integer(Int64(history.timeline.rawValue))),
            ("token", .simple(history.entry(request.timeline)?.token.description ?? "")),
            ("lsn", .simple(request.lsn.description)), ("durable_lsn", .simple(durable.description)),
            ("archived_lsn", .simple(archived?.description ?? "")), ("node", .simple(node)),
            ("history", .bulk(history.encoded())),
        ]
    }
}
