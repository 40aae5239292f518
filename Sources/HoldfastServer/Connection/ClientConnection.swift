import HoldfastCore
import HoldfastEngine
import HoldfastWire
import NIOCore
import NIOPosix
import NIOTLS

/// One client's connection: takes requests in their order, runs what can be run at once, hands on the rest, and sends the
/// replies in the requests' order.
///
/// At any time a connection is in one phase, and only in `ready` and `inTurn` are further requests taken from its input:
/// so whatever ran elsewhere is answered before anything behind it begins, and reads see the connection's own writes.
///
/// Belongs to the event loop.
final class ClientConnection: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    enum Phase {
        /// Nothing is under way.
        case ready
        /// Requests have run in this turn's transaction; more may join them. Output is held.
        case inTurn
        /// As `inTurn`, and the next request must wait for the turn's end.
        case turnBlocked
        /// Requests run on another thread.
        case waiting
        /// The socket takes no more output for now.
        case clogged
        /// The connection is a follower's: it gets the log, and says what it has of it.
        case streaming
        case closing
    }

    let core: ServerCore
    let id: Int
    /// What it may do: at first, and since it has named a user.
    let firstRole: Roles
    var role: Roles
    var user: UserList.User?
    let peer: String
    /// The peer's address without its port: what failed logins are counted by.
    let address: String
    static let localAddress = "unix"
    var isHandshaking: Bool
    var isAtGate = false
    var loginLimit: Scheduled<Void>?
    let since: NIODeadline
    let backup: BackupSession
    let digests: DigestSession
    let out = ReplyWriter()
    var name = ""
    var library: (name: String, version: String) = ("", "")
    var lastCommand = "NULL"
    var session = CommandSession(watches: WatchToken())
    var queued: QueuedTransaction?
    var phase = Phase.ready
    private(set) var context: ChannelHandlerContext?

    /// Begins with the first request that is not settled; `parsed` bytes of it are requests that have been taken.
    var input = ByteBuffer()
    var parsed = 0
    let parser: RequestParser
    var isProcessing = false
    /// What `out` held, and where the requests began, when the connection joined the turn.
    var turnOutput = 0
    var turnStart = 0
    /// Whole requests that were left when the output of a run had grown, and where they go once it has gone out.
    var rest: (requests: [UInt8], destination: Destination)?
    /// The `EXEC` that runs in this turn.
    var turnRun: CommandRun?
    /// The end of the last write of this connection that is durable.
    var lastWrite = LSN.zero
    var tracksLSN = false
    /// Something was changed in this turn.
    var turnHasWritten = false
    /// Once it has become a stream: who sends.
    var stream: WALSender?
    var readIsHeld = false
    var inputHasEnded = false
    var countedInput = 0

    init(
        core: ServerCore, id: Int, role: Roles, peer: String, address: String = localAddress,
        isHandshaking: Bool = false
    ) {
        self.core = core
        self.id = id
        firstRole = role
        self.role = role
        self.peer = peer
        self.address = address
        self.isHandshaking = isHandshaking
        since = .now()
        parser = RequestParser(limits: core.configuration.limits)
        backup = BackupSession(engine: core.engine)
        digests = DigestSession(engine: core.engine)
    }

    // MARK: The channel

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        core.connected(self)
        if isHandshaking || role == .nobody { stand() }
    }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelInactive(context: ChannelHandlerContext) {
        phase = .closing
        leaveGate()
        core.turn.leave(self)
        core.waits.forget(id)
        endStream()
        core.disconnected(self, inputBytes: countedInput)
        core.services.watchTable.forget(session.watches)
        digests.close()
        core.abandon(backup)
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        if input.readableBytes == 0 {
            input = bytes
        } else {
            if parsed == 0, input.readerIndex > input.readableBytes { input.discardReadBytes() }
            input.writeBuffer(&bytes)
        }
        process()
        countInput()
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        // Long output goes out at once: what is held of all connections together stays small.
        if out.count > 16 << 10 { flushOutput() } else { core.flushAtTurnsEnd(self) }
    }

    /// Reading goes on unless more than enough waits already.
    func read(context: ChannelHandlerContext) {
        switch phase {
        case .ready, .inTurn, .streaming: context.read()
        default:
            if input.readableBytes - parsed > (isAtGate ? parser.limits.frameBytes : core.configuration.pipelineBytes) {
                readIsHeld = true
            } else {
                context.read()
            }
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if phase == .clogged, context.channel.isWritable {
            phase = .ready
            resume()
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .some(.inputClosed) = event as? ChannelEvent {
            inputHasEnded = true
            // Most probably nobody reads the answer; and whoever waits without a limit would stay for ever.
            core.waits.end(id)
            closeIfDone()
        } else {
            if case .handshakeCompleted? = event as? TLSUserEvent { handshakeCompleted() }
            context.fireUserInboundEventTriggered(event)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if isHandshaking, core.mayNoteStranger() {
            core.logger.info("no TLS connection", metadata: ["peer": "\(peer)", "error": "\(error)"])
        } else {
            core.logger.debug("connection failed", metadata: ["connection": "\(id)", "error": "\(error)"])
        }
        context.close(promise: nil)
    }

    // MARK: Input and output

    /// Lets go of the input that has been taken. During a turn what is behind its first request is kept.
    func settle() {
        switch phase {
        case .inTurn where turnRun == nil, .turnBlocked where turnRun == nil:
            input.moveReaderIndex(forwardBy: turnStart)
            parsed -= turnStart
            turnStart = 0
        default:
            input.moveReaderIndex(forwardBy: parsed)
            parsed = 0
            // Memory of a large request is given back.
            if input.readableBytes == 0 { input = ByteBuffer() }
        }
        countInput()
    }

    /// Counts what waits here, so that all connections together stay within their bound.
    func countInput() {
        let waits = input.readableBytes > 64 << 10 ? input.readableBytes : 0
        guard waits != countedInput else { return }
        core.inputBytes += waits - countedInput
        countedInput = waits
        if core.inputBytes > core.configuration.inputBytes, phase != .closing {
            core.logger.warning("too much input waits; connection closed", metadata: ["connection": "\(id)"])
            fail("ERR the requests that wait in this server exceed \(core.configuration.inputBytes) bytes")
        }
    }

    func flushOutput() {
        guard phase != .inTurn, phase != .turnBlocked, out.count > 0, let context else { return }
        var buffer = context.channel.allocator.buffer(capacity: out.count)
        buffer.writeBytes(out.bytes)
        out.clear()
        context.writeAndFlush(wrapOutboundOut(buffer), promise: nil)
    }

    func closeIfDone() {
        switch phase {
        case .ready where inputHasEnded || core.isDraining: close()
        // A server that stops ends its streams when the last writes are in them.
        case .streaming where inputHasEnded: close()
        default: break
        }
    }

    /// Says why, and closes: nobody knows where the next request would begin.
    func fail(_ text: String) {
        guard phase != .closing else { return }
        switch phase {
        case .ready, .clogged, .streaming: out.error(text)
        // What ran in a turn that is not durable must not be told; and an error would stand where the reply of a write
        // that is under way belongs, and may yet be durable.
        case .inTurn, .turnBlocked: out.truncate(to: turnOutput)
        default: break
        }
        phase = .ready
        close()
    }

    /// Closes behind the output.
    func close() {
        guard phase != .closing, let context else { return }
        phase = .closing
        var buffer = context.channel.allocator.buffer(capacity: out.count)
        buffer.writeBytes(out.bytes)
        out.clear()
        let channel = context.channel
        context.writeAndFlush(wrapOutboundOut(buffer)).whenComplete { _ in channel.close(promise: nil) }
    }

    /// The server stops: closes when what is under way has been answered.
    func drain() {
        // Nothing has been asked yet, and what is written now would wait for the handshake's end.
        guard !isHandshaking else { return closeAtOnce() }
        closeIfDone()
    }

    /// Closes without waiting for what has been written.
    func closeAtOnce() {
        phase = .closing
        context?.channel.close(promise: nil)
    }

    func watchNothing() {
        core.services.watchTable.forget(session.watches)
        session = CommandSession(database: session.database, watches: WatchToken())
    }
}
