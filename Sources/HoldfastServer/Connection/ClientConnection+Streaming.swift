import HoldfastCore
import HoldfastEngine
import HoldfastWAL
import HoldfastWire
import Logging
import NIOCore

/// A connection that has become a stream of the log: from here on its client sends acknowledgements and nothing else.
extension ClientConnection {
    /// `REPLICATE`: checked on the pool for physical commands, since a segment may have to be read; then the stream begins.
    func replicate(_ arguments: RequestArguments) {
        let request: ReplicateRequest
        do throws(ReplicateError) {
            request = try ReplicateRequest((0..<arguments.count).map { arguments.text($0) })
        } catch { return out.error(error.reply) }
        phase = .waiting
        let (engine, slots, composition) = (core.engine, core.slotsInUse, core.composition)
        let this = NIOLoopBound(self, eventLoop: core.loop)
        core.physical.submit { _ in
            let result = Result { try Self.check(request, engine, slots) }
            let archived = engine.archivedUpstream ?? composition.archivedLSN
            this.eventLoop.execute { this.value.replicationChecked(request, result, archived) }
        }
    }

    /// Takes the slot, checks, and makes the slot ready; gives it back when something is wrong.
    private static func check(
        _ request: ReplicateRequest, _ engine: Engine, _ slots: SlotsInUse
    ) throws -> ReplicationStart {
        guard request.cascades || !engine.isFollower else { throw ReplicateError.isFollower }
        guard let slot = request.slot else { return try ReplicationStart(request, engine) }
        guard slots.take(slot) else { throw ReplicateError.slotInUse(slot) }
        do {
            let start = try ReplicationStart(request, engine)
            try engine.beginSlot(slot, node: request.node, timeline: request.timeline, at: request.lsn)
            return start
        } catch {
            slots.give(slot)
            throw error
        }
    }

    private func replicationChecked(
        _ request: ReplicateRequest, _ result: Result<ReplicationStart, any Error>, _ archived: LSN?
    ) {
        do {
            let start = try result.get()
            guard phase != .closing, let context, !core.isDraining else {
                if let slot = start.request.slot { core.slotsInUse.give(slot) }
                return close()
            }
            begin(start, archived, context.channel)
        } catch {
            guard phase != .closing else { return }
            if case ReplicateError.slotInUse(let slot) = error, let instance = request.instance,
                let earlier = core.followers.abandoned(slot, by: instance)
            {
                // It has the slot when it asks again.
                core.logger.notice(
                    "a follower has come anew; its earlier connection is closed",
                    metadata: ["node": "\(earlier.node)", "address": "\(earlier.address)"])
                core.connections[earlier.id]?.closeAtOnce()
            }
            out.error((error as? ReplicateError)?.reply ?? ErrorReplies.text(error))
            phase = .ready
            resume()
        }
    }

    private func begin(_ start: ReplicationStart, _ archived: LSN?, _ channel: any Channel) {
        out.fields(
            start.reply(archived: archived, node: core.identity.node, system: core.engine.status.systemIdentifier))
        phase = .streaming
        settle()
        flushOutput()
        let follower = Follower(id: id, address: peer, request: start.request, end: start.feed.end)
        let (composition, engine) = (core.composition, core.engine)
        let sender = WALSender(
            start, engine: core.engine, follower: follower, channel: channel,
            settings: .init(
                inFlightBytes: core.configuration.followerBufferBytes,
                timeoutSeconds: core.configuration.followerTimeoutSeconds),
            archived: { engine.archivedUpstream ?? composition.archivedLSN }, logger: core.logger)
        core.followers.add(follower)
        core.followers.senders += 1
        let (loop, core) = (core.loop, core)
        let ended: @Sendable () -> Void = {
            if let slot = follower.slot { core.slotsInUse.give(slot) }
            loop.execute { core.senderEnded() }
        }
        stream = sender
        guard sender.begin(ended: ended) else {
            ended()
            return fail("UNAVAILABLE the system has no thread for another follower")
        }
        process()
        if readIsHeld {
            readIsHeld = false
            read(context: context!)
        }
        core.gates.followersMoved()
    }

    /// The connection is gone.
    func endStream() {
        guard let sender = stream else { return }
        stream = nil
        core.followers.remove(sender.follower)
        sender.stop()
    }

    // MARK: Acknowledgements

    /// Takes what the follower says. Anything but an acknowledgement ends the connection.
    func takeAcknowledgements() {
        guard let sender = stream else { return }
        var isNew = false
        let wrong = input.withUnsafeReadableBytes { bytes -> String? in
            while true {
                let rest = UnsafeRawBufferPointer(rebasing: bytes[parsed...])
                switch parser.next(in: rest) {
                case .needMore: return nil
                case .failed(let fault): return fault.reason
                case .request(let count):
                    parsed += count
                    let arguments = parser.arguments(in: rest)
                    let limit = min(core.engine.durableLSN, LSN(sender.follower.end.load(ordering: .relaxed)))
                    guard let positions = Self.acknowledgement(arguments, limit) else {
                        return
                            "a follower sends ACK written flushed applied clock, of what it was sent, and nothing else"
                    }
                    sender.follower.confirm(positions)
                    isNew = true
                }
            }
        }
        settle()
        if isNew {
            let follower = sender.follower
            if let slot = follower.slot {
                core.engine.slots.advance(slot, timeline: follower.timeline, to: follower.positions.flushed)
            }
            core.gates.followersMoved()
            core.waits.look()
        }
        if let wrong {
            core.logger.warning(
                "a follower broke the protocol and is disconnected",
                metadata: ["node": "\(sender.follower.node)", "address": "\(peer)"])
            fail("ERR " + wrong)
        }
    }

    /// nil: it is none, or speaks of log that does not exist.
    private static func acknowledgement(_ arguments: RequestArguments, _ limit: LSN) -> Follower.Positions? {
        guard arguments.count == 5, arguments[0].elementsEqual("ACK".utf8),
            let written = LSN(arguments.text(1)), let flushed = LSN(arguments.text(2)),
            let applied = LSN(arguments.text(3)), parseInteger(arguments[4]) != nil,
            max(written, flushed, applied) <= limit
        else { return nil }
        return Follower.Positions(written: written, flushed: flushed, applied: applied)
    }
}

extension ServerComposition {
    /// Every whole segment below it is in the archive, as far as is known. Cheap.
    var archivedLSN: LSN? { archiveReport()?.archivedLSN.flatMap { LSN($0) } }
}
