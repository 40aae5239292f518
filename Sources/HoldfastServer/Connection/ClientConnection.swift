import HoldfastEngine
import HoldfastWire
import NIOCore
import NIOPosix

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
        case closing
    }

    let core: ServerCore
    let id: Int
    let role: ConnectionRole
    let peer: String
    let since: NIODeadline
    let backup: BackupSession
    let out = ReplyWriter()
    var name = ""
    var library: (name: String, version: String) = ("", "")
    var lastCommand = "NULL"
    var session = CommandSession(watches: WatchToken())
    var queued: QueuedTransaction?
    private(set) var phase = Phase.ready
    private(set) var context: ChannelHandlerContext?

    /// Begins with the first request that is not settled; `parsed` bytes of it are requests that have been taken.
    private var input = ByteBuffer()
    private var parsed = 0
    private let parser: RequestParser
    private var isProcessing = false
    /// What `out` held, and where the requests began, when the connection joined the turn.
    private var turnOutput = 0
    private var turnStart = 0
    /// The `EXEC` that runs in this turn.
    private var turnRun: CommandRun?
    private var readIsHeld = false
    private var inputHasEnded = false
    private var countedInput = 0

    init(core: ServerCore, id: Int, role: ConnectionRole, peer: String) {
        self.core = core
        self.id = id
        self.role = role
        self.peer = peer
        since = .now()
        parser = RequestParser(limits: core.configuration.limits)
        backup = BackupSession(engine: core.engine)
    }

    // MARK: The channel

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        core.connected(self)
    }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelInactive(context: ChannelHandlerContext) {
        phase = .closing
        core.turn.leave(self)
        core.disconnected(self, inputBytes: countedInput)
        core.services.watchTable.forget(session.watches)
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

    func channelReadComplete(context: ChannelHandlerContext) { flushOutput() }

    /// Reading goes on unless more than enough waits already.
    func read(context: ChannelHandlerContext) {
        switch phase {
        case .ready, .inTurn: context.read()
        default:
            if input.readableBytes - parsed > core.configuration.pipelineBytes {
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
            closeIfDone()
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        core.logger.debug("connection failed", metadata: ["connection": "\(id)", "error": "\(error)"])
        context.close(promise: nil)
    }

    // MARK: Taking requests

    /// Takes requests as long as the phase allows.
    private func process() {
        guard !isProcessing else { return }
        isProcessing = true
        defer { isProcessing = false }
        while phase == .ready || phase == .inTurn {
            let isMore = input.withUnsafeReadableBytes { takeRequests($0) }
            settle()
            if !isMore { break }
            // Much output: it goes out before more is made.
            if phase == .inTurn {
                phase = .turnBlocked
            } else if phase == .ready {
                flushOutput()
                if let context, !context.channel.isWritable { phase = .clogged }
            }
        }
    }

    /// Takes requests until none is whole, the phase changes, or output has grown; true in the last case.
    private func takeRequests(_ bytes: UnsafeRawBufferPointer) -> Bool {
        while phase == .ready || phase == .inTurn {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[parsed...])
            switch parser.next(in: rest) {
            case .needMore: return false
            case .failed(let fault):
                if phase == .inTurn { phase = .turnBlocked } else { fail("ERR " + fault.reason) }
                return false
            case .request(let count):
                let start = parsed
                parsed += count
                let arguments = parser.arguments(in: rest)
                guard arguments.count > 0 else { continue }
                if !take(arguments, from: start, in: bytes) {
                    // It waits for the turn's end, and is read again then.
                    parsed = start
                    phase = .turnBlocked
                    return false
                }
                core.statistics.commands += 1
            }
            if out.count > 1 << 20 { return true }
        }
        return false
    }

    /// Runs the request in `bytes[start..<parsed]` or hands it on. false: not now, because of the turn that is under way.
    private func take(_ arguments: RequestArguments, from start: Int, in bytes: UnsafeRawBufferPointer) -> Bool {
        // A browser that was talked into sending HTTP here must not get a command through in its body.
        if Self.isHTTP(arguments[0]) {
            guard phase == .ready else { return false }
            close()
            return true
        }
        let mark = out.count
        guard let specification = CommandTable.shared.check(arguments, role, out) else {
            queued?.isBroken = true
            if CommandTable.shared.find(arguments[0])?.command == .exec {
                // An EXEC that is itself wrong ends the transaction, if there is one.
                guard phase == .ready else {
                    out.truncate(to: mark)
                    return false
                }
                queued = nil
                watchNothing()
                out.truncate(to: mark)
                out.error("EXECABORT Transaction discarded because of: " + Replies.arity("exec").dropFirst(4))
            }
            return true
        }
        if queued != nil, !Self.endsQueue(specification.command) {
            enqueue(specification, UnsafeRawBufferPointer(rebasing: bytes[start..<parsed]))
            return true
        }
        if queued != nil, specification.command == .watch {
            out.error("ERR WATCH inside MULTI is not allowed")
            return true
        }
        // Large requests and those of many keys would hold up the loop.
        let isShort = arguments.count <= 256 && parsed - start <= 64 << 10 && specification.command != .flushdb
        switch (specification.kind, phase) {
        case (.read, .ready) where isShort: readOnLoop(specification, arguments, from: start, in: bytes)
        case (.read, .ready), (.scan, .ready): submit(from: start, in: bytes, to: .readers)
        case (.read, _) where isShort, (.write, _) where isShort:
            runInTurn(specification, arguments, from: start, in: bytes)
        case (.write, .ready): submit(from: start, in: bytes, to: .writer)
        case (.connection, _) where specification.command == .ping || specification.command == .echo:
            ConnectionCommands.run(specification.command, arguments, &session, out)
        case (.connection, .ready): runOnConnection(specification.command, arguments)
        case (.server, .ready), (.physical, .ready): offload(specification, arguments)
        default: return false
        }
        return true
    }

    private static func isHTTP(_ name: UnsafeRawBufferPointer) -> Bool {
        guard name.count == 4 || name.count == 5 else { return false }
        let text = String(decoding: name, as: UTF8.self).lowercased()
        return text == "post" || text == "host:"
    }

    private static func endsQueue(_ command: Command) -> Bool {
        switch command {
        case .exec, .discard, .multi, .quit, .reset, .watch: true
        default: false
        }
    }

    private func enqueue(_ specification: CommandSpecification, _ request: UnsafeRawBufferPointer) {
        guard specification.isQueueable else {
            queued?.isBroken = true
            return out.error("ERR Command not allowed inside a transaction")
        }
        guard queued!.requests.count + request.count <= core.configuration.limits.frameBytes else {
            queued?.isBroken = true
            return out.error("ERR the transaction is longer than \(core.configuration.limits.frameBytes) bytes")
        }
        queued!.add(request, specification)
        out.simple("QUEUED")
    }

    // MARK: Running

    private func readOnLoop(
        _ specification: CommandSpecification, _ arguments: RequestArguments, from start: Int,
        in bytes: UnsafeRawBufferPointer
    ) {
        let mark = out.count
        do {
            try core.engine.read(onlyResident: true) { snapshot in
                try RecordCommands.read(
                    specification.command, arguments, session, core.services, from: snapshot, out)
            }
        } catch EngineError.notResident {
            out.truncate(to: mark)
            submit(from: start, in: bytes, to: .readers)
        } catch {
            out.truncate(to: mark)
            out.error(ErrorReplies.text(error))
        }
    }

    /// Runs a request in the turn's transaction, which the connection joins if it has not.
    private func runInTurn(
        _ specification: CommandSpecification, _ arguments: RequestArguments, from start: Int,
        in bytes: UnsafeRawBufferPointer
    ) {
        if phase == .ready {
            guard core.turn.join(self) else { return submit(from: start, in: bytes, to: .writer) }
            phase = .inTurn
            turnStart = start
            turnOutput = out.count
        }
        do {
            try core.turn.run { transaction in
                try RecordCommands.run(specification, arguments, &session, core.services, in: transaction, out)
            }
            core.turn.changes += session.changes
            session.changes = 0
        } catch {
            core.turn.abandon()
        }
    }

    /// `EXEC` of a queue that is in order.
    func exec(_ queued: QueuedTransaction) {
        let run = CommandRun(
            requests: queued.requests, execCount: queued.count, role: role, session: session, version: out.version,
            limits: core.configuration.limits, completed: { [self] in execCompleted($0) })
        guard queued.isShort, core.turn.join(self) else {
            phase = .waiting
            return core.writer.submit(run)
        }
        turnRun = run
        phase = .turnBlocked
        do {
            try core.turn.run { try run.run(in: $0, core.services) }
            core.turn.changes += run.session.changes
        } catch {
            core.turn.abandon()
        }
    }

    private func execCompleted(_ run: CommandRun) {
        session.database = run.session.database
        watchNothing()
        runCompleted(run)
    }

    enum Destination {
        case writer
        case readers
    }

    /// Hands the request at `start`, and those behind it that may go with it, to another thread.
    private func submit(from start: Int, in bytes: UnsafeRawBufferPointer, to destination: Destination) {
        var count = 1
        while count < 1024, parsed - start < 1 << 20 {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[parsed...])
            guard case .request(let length) = parser.next(in: rest) else { break }
            let arguments = parser.arguments(in: rest)
            if arguments.count > 0 {
                guard let specification = CommandTable.shared.find(arguments[0]) else { break }
                switch (specification.kind, destination) {
                case (.read, _), (.write, .writer): break
                default:
                    parser.reset()
                    return submit(bytes[start..<parsed], to: destination, count)
                }
                count += 1
                core.statistics.commands += 1
            }
            parsed += length
        }
        parser.reset()
        submit(bytes[start..<parsed], to: destination, count)
    }

    private func submit(_ requests: Slice<UnsafeRawBufferPointer>, to destination: Destination, _ count: Int) {
        phase = .waiting
        let run = CommandRun(
            requests: Array(requests), role: role, session: session, version: out.version,
            limits: core.configuration.limits, completed: { [self] in runCompleted($0) })
        switch destination {
        case .writer: core.writer.submit(run)
        case .readers: core.read(run)
        }
    }

    private func runCompleted(_ run: CommandRun) {
        guard phase != .closing else { return }
        out.raw(run.out)
        phase = .ready
        resume()
    }

    /// Goes on after something that ran elsewhere has been answered.
    func resume() {
        guard phase == .ready else { return }
        settle()
        process()
        flushOutput()
        if readIsHeld {
            readIsHeld = false
            if let context { read(context: context) }
        }
        closeIfDone()
    }

    // MARK: The turn

    /// Everything that ran in the turn is durable: its replies may go.
    func turnEnded() {
        guard phase != .closing else { return }
        phase = .ready
        if let run = turnRun {
            turnRun = nil
            return execCompleted(run)
        }
        settle()
        flushOutput()
        if input.readableBytes > 0 || readIsHeld || inputHasEnded { resume() }
    }

    /// Nothing that ran in the turn has happened: it is run again by the writer thread.
    func turnAbandoned() {
        guard phase != .closing else { return }
        phase = .waiting
        if let run = turnRun {
            turnRun = nil
            run.restart(session)
            return core.writer.submit(run)
        }
        out.truncate(to: turnOutput)
        session.changes = 0
        let run = input.withUnsafeReadableBytes { bytes in
            CommandRun(
                requests: Array(bytes[turnStart..<parsed]), role: role, session: session, version: out.version,
                limits: core.configuration.limits, completed: { [self] in runCompleted($0) })
        }
        if !isProcessing { settle() }
        core.writer.submit(run)
    }

    /// Nobody knows whether what ran in the turn is durable.
    func turnFailed() {
        phase = .closing
        out.clear()
        context?.close(promise: nil)
    }

    // MARK: Input and output

    /// Lets go of the input that has been taken. During a turn what is behind its first request is kept.
    private func settle() {
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
    private func countInput() {
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

    private func closeIfDone() {
        guard inputHasEnded || core.isDraining, phase == .ready else { return }
        close()
    }

    /// Says why, and closes: nobody knows where the next request would begin.
    private func fail(_ text: String) {
        guard phase != .closing else { return }
        // What ran in a turn that is not durable must not be told.
        if phase == .inTurn || phase == .turnBlocked { out.truncate(to: turnOutput) }
        out.error(text)
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
    func drain() { closeIfDone() }

    func watchNothing() {
        core.services.watchTable.forget(session.watches)
        session = CommandSession(database: session.database, watches: WatchToken())
    }

    /// Runs `work` on another thread; its output is the reply. `done` runs on the loop before anything else does.
    func wait(
        on pool: NIOThreadPool, _ work: @escaping @Sendable (ReplyWriter) -> Void,
        done: @escaping (ClientConnection) -> Void = { _ in }
    ) {
        phase = .waiting
        let run = CommandRun(
            requests: [], role: role, session: session, version: out.version, limits: core.configuration.limits,
            completed: { [self] run in
                done(self)
                runCompleted(run)
            })
        let loop = core.loop
        pool.submit { _ in
            work(run.out)
            loop.execute { run.completed(run) }
        }
    }
}
