import HoldfastCore
import HoldfastEngine
import HoldfastWire
import Logging
import NIOCore
import Synchronization

/// Sends the log to one follower, on a thread of its own: durable bytes as soon as there are any, keepalives else.
///
/// What was handed to the channel and not yet taken by the socket is bounded: a follower that does not read makes the
/// sender wait, and nothing else. The thread ends when the connection does (`stop`), when all that is durable was sent
/// (`finish`), or when the follower says nothing for too long.
///
/// `room` guards the bytes under way; the rest is atomic, or the thread's own.
final class WALSender: Sendable {
    struct Settings: Sendable {
        /// Bytes handed to the channel at once; what the loop writes in one piece.
        var messageBytes = 256 << 10
        var inFlightBytes: Int
        var timeoutSeconds: Double
        var keepaliveMilliseconds = 1000
    }

    private let engine: Engine
    private let feed: LogFeed
    private let start: LSN
    let follower: Follower
    private let channel: any Channel
    private let settings: Settings
    private let archived: @Sendable () -> LSN?
    private let logger: Logger
    private let isStopped = Atomic(false)
    private let isFinishing = Atomic(false)
    private let room = SenderRoom()

    /// - Parameter archived: what is known to be in the archive; asked once a second.
    init(
        _ start: ReplicationStart, engine: Engine, follower: Follower, channel: any Channel, settings: Settings,
        archived: @escaping @Sendable () -> LSN?, logger: Logger
    ) {
        self.engine = engine
        feed = start.feed
        self.start = start.request.lsn
        self.follower = follower
        self.channel = channel
        self.settings = settings
        self.archived = archived
        var logger = logger
        logger[metadataKey: "node"] = "\(follower.node)"
        logger[metadataKey: "slot"] = "\(follower.slot ?? "-")"
        logger[metadataKey: "address"] = "\(follower.address)"
        self.logger = logger
    }

    /// Begins; `ended` is called on the sender's thread when nothing of it is left. false: there is no thread to be had.
    func begin(ended: @escaping @Sendable () -> Void) -> Bool {
        DetachedThread.start { [self] in
            logger.info("a follower is connected", metadata: ["lsn": "\(start)"])
            let why = run()
            persist()
            logger.info(
                "a follower is gone",
                metadata: ["sent": "\(LSN(follower.sent.load(ordering: .relaxed)))", "why": "\(why)"])
            channel.close(promise: nil)
            ended()
        }
    }

    /// The connection is gone.
    func stop() {
        isStopped.store(true, ordering: .sequentiallyConsistent)
        wake()
    }

    /// Sends what is durable by now, then closes.
    func finish() {
        isFinishing.store(true, ordering: .sequentiallyConsistent)
        wake()
    }

    private func wake() {
        room.wake()
        engine.wakeLogWaiters()
    }

    private var mustLook: Bool {
        isStopped.load(ordering: .sequentiallyConsistent) || isFinishing.load(ordering: .sequentiallyConsistent)
    }

    // MARK: The thread

    /// Returns why it ended.
    private func run() -> String {
        var state = State(
            position: start, savedSegment: SegmentNumber(containing: start), archived: archived() ?? .zero)
        while !isStopped.load(ordering: .sequentiallyConsistent) {
            if follower.silence.nanoseconds > Int64(settings.timeoutSeconds * 1e9) {
                logger.warning(
                    "a follower says nothing and is disconnected", metadata: ["seconds": "\(settings.timeoutSeconds)"])
                return "silence"
            }
            keepHouse(&state)
            guard room.hasRoom(below: settings.inFlightBytes, milliseconds: 250, unless: { [self] in mustLook }) else {
                if isFinishing.load(ordering: .sequentiallyConsistent) { room.waitBriefly() }
                continue
            }
            // In this order: what is durable lies on the history, also while this node goes over to another timeline.
            let durable = engine.durableLSN
            if let history = engine.followedHistory {
                guard feed.follow(history, from: state.position) else { return "this node went another way" }
                follower.end.store((feed.end ?? .max).rawValue, ordering: .relaxed)
            }
            do {
                if state.position < min(durable, feed.end ?? .max) {
                    guard try send(&state, durable) else {
                        logger.warning("a follower needs log that is gone", metadata: ["lsn": "\(state.position)"])
                        return "its log is gone"
                    }
                    continue
                }
                if feed.end == state.position, !state.isOver {
                    try sendEnd(&state, durable)
                    continue
                }
            } catch {
                logger.error("the log cannot be read for a follower", metadata: ["error": "\(error)"])
                return "an error"
            }
            if isFinishing.load(ordering: .sequentiallyConsistent) {
                room.waitUntilEmpty(seconds: 2) { [self] in isStopped.load(ordering: .sequentiallyConsistent) }
                return "this server stops"
            }
            let pause = settings.keepaliveMilliseconds - state.sentAt.millisecondsAgo
            if pause <= 0 {
                sendKeepalive(&state, durable)
            } else {
                // Behind the end of its timeline nothing comes.
                let beyond = state.isOver ? LSN.max : durable
                engine.waitForDurable(beyond: beyond, milliseconds: min(pause, 250)) { [self] in mustLook }
            }
        }
        return "the connection ended"
    }

    private struct State {
        var position: LSN
        /// The segment with the slot's position as it was persisted last.
        var savedSegment: SegmentNumber
        var archived: LSN
        /// The end of the timeline was told.
        var isOver = false
        var sentAt = NIODeadline.now()
        var keptHouseAt = NIODeadline.now()
    }

    /// Once a second: the slot's position goes to the disk when it has left a segment, which is what lets log go; and a slot
    /// that was given up is looked at.
    private func keepHouse(_ state: inout State) {
        guard state.keptHouseAt.millisecondsAgo >= 1000 else { return }
        state.keptHouseAt = .now()
        state.archived = archived() ?? state.archived
        let segment = SegmentNumber(containing: follower.positions.flushed)
        if segment > state.savedSegment {
            state.savedSegment = segment
            persist()
        }
        renewSlot()
    }

    /// A slot that was given up while its follower was behind keeps log again once that has come near: else it would keep
    /// none when the follower is away the next time, though it was in use all the while.
    private func renewSlot() {
        let flushed = follower.positions.flushed
        guard let slot = follower.slot, engine.slots[slot]?.invalidReason != nil, flushed > .zero,
            engine.durableLSN <= flushed + engine.slotLimit / 2
        else { return }
        do {
            try engine.beginSlot(slot, node: follower.node, timeline: follower.timeline, at: flushed)
            logger.notice("a slot keeps log again: its follower has caught up", metadata: ["lsn": "\(flushed)"])
        } catch {
            logger.warning("a slot cannot be written", metadata: ["error": "\(error)"])
        }
    }

    private func persist() {
        guard let slot = follower.slot else { return }
        do {
            try engine.persistSlot(slot)
        } catch {
            logger.warning("the position of a slot cannot be written", metadata: ["error": "\(error)"])
        }
    }

    /// The next bytes of the log. false: they are not there any more.
    private func send(_ state: inout State, _ durable: LSN) throws -> Bool {
        let position = state.position
        let wanted = min(
            min(durable, feed.end ?? .max) - position, settings.messageBytes,
            SegmentNumber(containing: position).end - position)
        var isThere = true
        let header = header(.wal, position, state, durable)
        let buffer = try message(bodyBytes: wanted) { (body) throws in
            isThere = try feed.read(from: position, limit: position + body.count, into: body) != nil
        } stamped: {
            header.write(to: $0, bodyBytes: wanted)
        }
        guard isThere else { return false }
        hand(over: buffer)
        state.position = position + wanted
        state.sentAt = .now()
        follower.sent.store(state.position.rawValue, ordering: .relaxed)
        return true
    }

    /// The place where the timeline was left, and the history that goes on there.
    private func sendEnd(_ state: inout State, _ durable: LSN) throws {
        let next = try engine.timelineHistory()
        let body = next.encoded()
        var header = header(.end, state.position, state, durable)
        header.timeline = next.entries.first { $0.timeline > feed.timeline }?.timeline ?? next.timeline
        state.isOver = true
        state.sentAt = .now()
        let buffer = message(bodyBytes: body.count) {
            $0.copyBytes(from: body)
        } stamped: {
            header.write(to: $0, bodyBytes: body.count)
        }
        hand(over: buffer)
    }

    private func sendKeepalive(_ state: inout State, _ durable: LSN) {
        state.sentAt = .now()
        // A stream that has ended says nothing more.
        guard !state.isOver else { return }
        var header = header(.keepalive, state.position, state, durable)
        header.flags = ReplicationMessage.acknowledgeAtOnce
        let bytes = header.encoded()
        hand(
            over: message(bodyBytes: 0) { _ in
            } stamped: {
                $0.copyMemory(from: bytes, byteCount: bytes.count)
            })
    }

    private func header(
        _ kind: ReplicationMessage.Kind, _ lsn: LSN, _ state: borrowing State, _ durable: LSN
    ) -> ReplicationMessage {
        ReplicationMessage(
            kind, lsn: lsn, durable: durable, clock: systemClockMicroseconds(), archived: state.archived,
            timeline: feed.timeline)
    }

    /// A bulk string: a header, stamped when the body is in place.
    private func message(
        bodyBytes: Int, _ body: (UnsafeMutableRawBufferPointer) throws -> Void,
        stamped: (UnsafeMutableRawPointer) -> Void
    ) rethrows -> ByteBuffer {
        let bytes = ReplicationMessage.headerBytes + bodyBytes
        var buffer = channel.allocator.buffer(capacity: bytes + 24)
        buffer.writeString("$\(bytes)\r\n")
        try buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: bytes) { memory in
            try body(UnsafeMutableRawBufferPointer(rebasing: memory[ReplicationMessage.headerBytes..<bytes]))
            stamped(memory.baseAddress!)
            return bytes
        }
        buffer.writeString("\r\n")
        return buffer
    }

    private func hand(over buffer: ByteBuffer) {
        let bytes = buffer.readableBytes
        room.take(bytes)
        let promise = channel.eventLoop.makePromise(of: Void.self)
        promise.futureResult.whenComplete { [room] _ in room.give(bytes) }
        channel.writeAndFlush(buffer, promise: promise)
    }
}

extension NIODeadline {
    var millisecondsAgo: Int { Int((NIODeadline.now() - self).nanoseconds / 1_000_000) }
}
