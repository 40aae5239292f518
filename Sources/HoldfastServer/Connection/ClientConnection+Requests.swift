import HoldfastEngine
import HoldfastWire

/// Taking requests from the input, one after the other.
extension ClientConnection {
    /// Takes requests as long as the phase allows.
    func process() {
        guard !isProcessing else { return }
        isProcessing = true
        defer { isProcessing = false }
        if phase == .streaming { return takeAcknowledgements() }
        while phase == .ready || phase == .inTurn {
            // Whatever made the output, no more is made for a client that does not read it.
            if phase == .ready {
                if out.count > 1 << 20 { flushOutput() }
                if let context, !context.channel.isWritable {
                    phase = .clogged
                    break
                }
            }
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
    func takeRequests(_ bytes: UnsafeRawBufferPointer) -> Bool {
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
    func take(_ arguments: RequestArguments, from start: Int, in bytes: UnsafeRawBufferPointer) -> Bool {
        // A browser that was talked into sending HTTP here must not get a command through in its body.
        if Self.isHTTP(arguments[0]) {
            guard phase == .ready else { return false }
            close()
            return true
        }
        let mark = out.count
        guard let specification = CommandTable.shared.check(arguments, role, out) else {
            queued?.isBroken = true
            if let known = CommandTable.shared.find(arguments[0]), known.command == .exec, known.roles.intersects(role)
            {
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
        if core.content.isClosed, ContentGate.guards(specification, argumentCount: arguments.count) {
            queued?.isBroken = true
            out.error(core.content.reply)
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

    static func isHTTP(_ name: UnsafeRawBufferPointer) -> Bool {
        guard name.count == 4 || name.count == 5 else { return false }
        let text = String(decoding: name, as: UTF8.self).lowercased()
        return text == "post" || text == "host:"
    }

    static func endsQueue(_ command: Command) -> Bool {
        switch command {
        case .exec, .discard, .multi, .quit, .reset, .watch: true
        default: false
        }
    }

    func enqueue(_ specification: CommandSpecification, _ request: UnsafeRawBufferPointer) {
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
}
