import HoldfastCore
import HoldfastEngine
import HoldfastWire
import NIOPosix

/// Running requests: at once on a snapshot, in the turn's transaction, or on another thread.
extension ClientConnection {
    /// Runs a read, and the reads behind it, on one snapshot.
    func readOnLoop(
        _ specification: CommandSpecification, _ arguments: RequestArguments, from start: Int,
        in bytes: UnsafeRawBufferPointer
    ) {
        var start = start
        // Held here, so that the loop need not keep them alive anew for each request.
        let (out, parser, services, database, role) = (out, parser, core.services, session.database, role)
        var mark = out.count
        do {
            try core.engine.read(onlyResident: true) { snapshot in
                try BurstReader.with(snapshot, database) { reader in
                    var command = specification.command
                    var arguments = arguments
                    while true {
                        try RecordCommands.read(command, arguments, database, services, from: reader, out)
                        guard out.count <= 1 << 20 else { return }
                        let rest = UnsafeRawBufferPointer(rebasing: bytes[parsed...])
                        guard case .request(let count) = parser.next(in: rest) else { return }
                        arguments = parser.arguments(in: rest)
                        // Anything else is read again, and taken in the usual way.
                        guard arguments.count > 0, arguments.count <= 256,
                            let next = CommandTable.shared.find(arguments[0]), next.kind == .read,
                            next.accepts(arguments.count), next.roles.intersects(role)
                        else { return }
                        command = next.command
                        start = parsed
                        parsed += count
                        mark = out.count
                        core.statistics.commands += 1
                    }
                }
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
    func runInTurn(
        _ specification: CommandSpecification, _ arguments: RequestArguments, from start: Int,
        in bytes: UnsafeRawBufferPointer
    ) {
        if phase == .ready {
            guard core.turn.join(self) else { return submit(from: start, in: bytes, to: .writer) }
            phase = .inTurn
            turnStart = start
            turnOutput = out.count
            turnHasWritten = false
        }
        do {
            try core.turn.run { transaction in
                try RecordCommands.run(specification, arguments, &session, core.services, in: transaction, out)
            }
            if session.changes > 0 {
                core.turn.changes += session.changes
                session.changes = 0
                turnHasWritten = true
            }
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
        turnOutput = out.count
        phase = .turnBlocked
        do {
            try core.turn.run { try run.run(in: $0, core.services) }
            core.turn.changes += run.session.changes
            run.hasWritten = run.session.changes > 0
        } catch {
            core.turn.abandon()
        }
    }

    func execCompleted(_ run: CommandRun) {
        session.database = run.session.database
        watchNothing()
        runCompleted(run)
    }

    enum Destination {
        case writer
        case readers
    }

    /// Hands the request at `start`, and those behind it that may go with it, to another thread.
    func submit(from start: Int, in bytes: UnsafeRawBufferPointer, to destination: Destination) {
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
                    return submit(Array(bytes[start..<parsed]), to: destination)
                }
                count += 1
                core.statistics.commands += 1
            }
            parsed += length
        }
        parser.reset()
        submit(Array(bytes[start..<parsed]), to: destination)
    }

    /// Runs whole requests, which nothing else refers to any more, on another thread.
    func submit(_ requests: [UInt8], to destination: Destination) {
        phase = .waiting
        let run = CommandRun(
            requests: requests, role: role, session: session, version: out.version, limits: core.configuration.limits,
            completed: { [self] run in
                if !run.rest.isEmpty { rest = (Array(run.rest), destination) }
                runCompleted(run)
            })
        switch destination {
        case .writer: core.writer.submit(run)
        case .readers: core.read(run)
        }
    }

    func runCompleted(_ run: CommandRun) {
        guard phase != .closing else { return }
        out.raw(run.out)
        if run.hasWritten { wrote(through: run.end) }
        phase = .ready
        resume()
    }

    /// What was left of a run goes on when its output has room. false: it has none yet.
    private func submitRest() -> Bool {
        guard let left = rest else { return true }
        flushOutput()
        if let context, !context.channel.isWritable {
            phase = .clogged
        } else {
            rest = nil
            submit(left.requests, to: left.destination)
        }
        return false
    }

    /// Goes on after something that ran elsewhere has been answered.
    func resume() {
        guard phase == .ready else { return }
        settle()
        guard submitRest() else { return }
        process()
        flushOutput()
        if readIsHeld {
            readIsHeld = false
            if let context { read(context: context) }
        }
        closeIfDone()
    }

    // MARK: The turn

    /// Everything that ran in the turn is durable, to `end`: its replies may go.
    func turnEnded(at end: LSN) {
        guard phase != .closing else { return }
        phase = .ready
        if let run = turnRun {
            turnRun = nil
            run.end = end
            return execCompleted(run)
        }
        if turnHasWritten { wrote(through: end) }
        settle()
        flushOutput()
        if input.readableBytes > 0 || readIsHeld || inputHasEnded || core.isDraining { resume() }
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
        let requests = input.withUnsafeReadableBytes { Array($0[turnStart..<parsed]) }
        if !isProcessing { settle() }
        submit(requests, to: .writer)
    }

    /// Nobody knows whether what ran in the turn is durable.
    func turnFailed() {
        phase = .closing
        out.clear()
        context?.close(promise: nil)
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
