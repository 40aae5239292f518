import HoldfastCore
import HoldfastWAL

/// Where a follower wants to go on, and what it says of the log that it has.
package struct FeedRequest: Equatable, Sendable {
    /// `nil`: it does without.
    package var slot: String?
    package var timeline: TimelineID
    /// Between records, or a segment's start.
    package var lsn: LSN
    // What is given of these is compared.
    package var system: SystemIdentifier?
    package var token: TimelineToken?
    /// The CRC of the record that ends at `lsn`.
    package var chain: UInt32?

    package init(timeline: TimelineID, lsn: LSN) {
        self.timeline = timeline
        self.lsn = lsn
    }
}

/// Why a follower gets no log from here.
package enum FeedRefusal: Error, Equatable {
    /// The asker's system identifier, and ours.
    case foreign(SystemIdentifier, own: SystemIdentifier)
    case diverged(at: LSN, TimelineID, why: String)
    case ahead(LSN, end: LSN)
    /// The timeline begins behind the position: who asks for bytes before it asks for its parent.
    case beforeTimeline(LSN, TimelineID, begins: LSN)
    case gone(LSN, TimelineID)
    case slotInvalid(String, why: String)
}

/// A request that was found to be in order, and what its log is read from.
///
/// Nothing here is more than a check: the log may go on, and segments that no slot keeps may go, from this moment on.
package struct FeedStart: Sendable {
    package let feed: LogFeed
    /// This node's own.
    package let history: TimelineHistory
    package let durable: LSN

    /// Compares what the follower has with this log; blocking, since it may read a segment. Throws `FeedRefusal`, or what
    /// the engine throws.
    package init(_ request: FeedRequest, _ engine: Engine) throws {
        let status = engine.status
        if let system = request.system, system != status.systemIdentifier {
            throw FeedRefusal.foreign(system, own: status.systemIdentifier)
        }
        // In this order: what is durable lies on the history, also while a follower goes over to another timeline.
        durable = engine.durableLSN
        history = try engine.timelineHistory()
        let (timeline, lsn) = (request.timeline, request.lsn)
        func diverged(_ why: String) -> FeedRefusal { .diverged(at: lsn, timeline, why: why) }
        guard let entry = history.entry(timeline) else {
            throw diverged("timeline \(history.timeline.rawValue) of this server did not come from it")
        }
        if let token = request.token, token != entry.token {
            throw diverged("timeline \(timeline.rawValue) has the token \(entry.token) here and not \(token)")
        }
        feed = try engine.makeLogFeed(history, timeline: timeline)
        if let end = feed.end, lsn > end { throw diverged("this server left that timeline at \(end)") }
        guard lsn <= durable else { throw FeedRefusal.ahead(lsn, end: durable) }
        // A timeline's first segment begins with a copy of its parent's bytes, and may be asked for from its start.
        guard lsn >= SegmentNumber(containing: entry.switchLSN).start else {
            throw FeedRefusal.beforeTimeline(lsn, timeline, begins: entry.switchLSN)
        }
        try requireLog(request, engine)
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
    private func requireLog(_ request: FeedRequest, _ engine: Engine) throws {
        let isThere = try feed.hasLog(from: request.lsn, limit: durable)
        if let name = request.slot {
            guard let slot = engine.slots[name] else { throw EngineError.unknownSlot(name) }
            // Whoever has caught up from the archive may use it again.
            if let why = slot.invalidReason, !isThere || durable - request.lsn > engine.slotLimit {
                throw FeedRefusal.slotInvalid(name, why: why)
            }
        }
        guard isThere else { throw FeedRefusal.gone(request.lsn, request.timeline) }
    }
}
