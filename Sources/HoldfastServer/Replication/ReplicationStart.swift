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

    /// Compares what the follower has with this log; blocking, since it may read a segment. Throws `ReplicateError`, or
    /// what the engine throws.
    init(_ request: ReplicateRequest, _ engine: Engine) throws {
        self.request = request
        let status = engine.status
        if let system = request.system, system != status.systemIdentifier {
            throw ReplicateError.foreign(system, own: status.systemIdentifier)
        }
        // In this order: what is durable lies on the history, also while a follower goes over to another timeline.
        durable = engine.durableLSN
        history = try engine.timelineHistory()
        let (timeline, lsn) = (request.timeline, request.lsn)
        func diverged(_ why: String) -> ReplicateError { .diverged(at: lsn, timeline, why: why) }
        guard let entry = history.entry(timeline) else {
            throw diverged("timeline \(history.timeline.rawValue) of this server did not come from it")
        }
        if let token = request.token, token != entry.token {
            throw diverged("timeline \(timeline.rawValue) has the token \(entry.token) here and not \(token)")
        }
        feed = try engine.makeLogFeed(history, timeline: timeline)
        if let end = feed.end, lsn > end { throw diverged("this server left that timeline at \(end)") }
        guard lsn <= durable else { throw ReplicateError.ahead(lsn, end: durable) }
        // A timeline's first segment begins with a copy of its parent's bytes, and may be asked for from its start.
        guard lsn >= SegmentNumber(containing: entry.switchLSN).start else {
            throw ReplicateError.beforeTimeline(lsn, timeline, begins: entry.switchLSN)
        }
        try requireLog(engine)
        if let chain = request.chain {
            switch try engine.position(at: lsn, along: history) {
            case .chain(chain), .unknown: break
            case .chain(let own):
                throw diverged(
                    "the record that ends there has the CRC \(hexadecimal(UInt64(own), digits: 8)) and not "
                        + hexadecimal(UInt64(chain), digits: 8))
            case .betweenNothing: throw diverged("no record ends there")
            }
        }
    }

    /// The slot keeps the log, or may keep it again, and the segment is there.
    private func requireLog(_ engine: Engine) throws {
        let isThere = try feed.hasLog(from: request.lsn, limit: durable)
        if let name = request.slot {
            guard let slot = engine.slots[name] else { throw EngineError.unknownSlot(name) }
            // Whoever has caught up from the archive may use it again.
            if let why = slot.invalidReason, !isThere || durable - request.lsn > engine.slotLimit {
                throw ReplicateError.slotInvalid(name, why: why)
            }
        }
        guard isThere else { throw ReplicateError.gone(request.lsn, request.timeline) }
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
