import HoldfastCore
import HoldfastEngine
import HoldfastWire

/// Commands that wait, without anybody else waiting for them.
extension ClientConnection {
    /// `WAIT followers milliseconds`: how many followers have this connection's last write on their disks, as soon as so
    /// many have, or when the time is over (0: never).
    func waitForFollowers(_ arguments: RequestArguments) {
        guard let wanted = parseInteger(arguments[1]) else { return out.error(Replies.notInteger) }
        guard let milliseconds = Self.milliseconds(arguments[2], out) else { return }
        let (lsn, followers) = (lastWrite, core.followers)
        wait(milliseconds, isPolled: false) {
            Int64(followers.count(flushed: lsn)) >= wanted
        } answer: { out in
            out.integer(followers.count(flushed: lsn))
        }
    }

    /// `WAITLSN lsn milliseconds`: 1 once reads see everything below `lsn`, 0 when the time is over before (0: never).
    func waitForLSN(_ arguments: RequestArguments) {
        guard let lsn = LSN(arguments.text(1)) else {
            return out.error("ERR \"\(printable(arguments.text(1)))\" is no LSN")
        }
        guard let milliseconds = Self.milliseconds(arguments[2], out) else { return }
        let engine = core.engine
        wait(milliseconds, isPolled: true) {
            engine.publishedLSN >= lsn
        } answer: { out in
            out.integer(engine.publishedLSN >= lsn ? 1 : 0)
        }
    }

    private static func milliseconds(_ argument: UnsafeRawBufferPointer, _ out: ReplyWriter) -> Int64? {
        guard let milliseconds = parseInteger(argument) else {
            out.error("ERR timeout is not an integer or out of range")
            return nil
        }
        guard milliseconds >= 0 else {
            out.error("ERR timeout is negative")
            return nil
        }
        // NIO counts in nanoseconds.
        return min(milliseconds, 1 << 40)
    }

    private func wait(
        _ milliseconds: Int64, isPolled: Bool, isMet: @escaping () -> Bool, answer: @escaping (ReplyWriter) -> Void
    ) {
        if isMet() || core.isDraining { return answer(out) }
        phase = .waiting
        core.waits.add(id, milliseconds: milliseconds, isPolled: isPolled, isMet: isMet) { [self] in
            guard phase != .closing else { return }
            answer(out)
            phase = .ready
            resume()
        }
    }

    // MARK: Where the last write ended

    /// `CLIENT TRACKLSN on|off`.
    func trackLSN(_ word: String) {
        switch word.uppercased() {
        case "ON": tracksLSN = true
        case "OFF": tracksLSN = false
        default: return out.error(Replies.syntax)
        }
        out.ok()
    }

    /// `CLIENT SYNCHRONOUS default | n [flushed|applied]`.
    func chooseFollowers(_ arguments: RequestArguments) {
        if arguments.count == 3, arguments.text(2).lowercased() == "default" {
            session.synchronous = nil
            return out.ok()
        }
        guard let count = parseInteger(arguments[2]).map(Int.init), SynchronousSettings.followers.contains(count) else {
            return out.error("ERR CLIENT SYNCHRONOUS takes 'default' or 0 to 100 followers, and flushed or applied")
        }
        var choice = SynchronousChoice(minimumFollowers: count, level: .flushed)
        if arguments.count == 4 {
            guard let level = SynchronousSettings.Level(rawValue: arguments.text(3).lowercased()) else {
                return out.error(Replies.syntax)
            }
            choice.level = level
        }
        core.gates.prepare(choice)
        session.synchronous = choice
        out.ok()
    }

    /// Writes of this connection are durable to `end`, and their replies stand in the output.
    func wrote(through end: LSN) {
        lastWrite = max(lastWrite, end)
        guard tracksLSN, out.version == .resp3 else { return }
        out.push(2)
        out.bulk("lsn")
        out.bulk(end.description)
    }

    // MARK: Held replies

    /// What ran in the turn is durable here, and followers must confirm it: replies stay, and nothing more is taken.
    func turnHeld() {
        if phase == .inTurn { phase = .turnBlocked }
    }

    /// As `turnEnded`, but followers did not confirm in time: every command of the turn gets `text` for a reply.
    func turnUnknown(_ end: LSN, _ text: String) {
        guard phase != .closing else { return }
        if let run = turnRun {
            run.refuse(text)
        } else {
            out.truncate(to: turnOutput)
            // It may have begun with a request that is not whole yet.
            parser.reset()
            input.withUnsafeReadableBytes { bytes in
                var next = turnStart
                while next < parsed {
                    let rest = UnsafeRawBufferPointer(rebasing: bytes[next..<parsed])
                    guard case .request(let count) = parser.next(in: rest) else { break }
                    if parser.arguments(in: rest).count > 0 { out.error(text) }
                    next += count
                }
            }
            parser.reset()
        }
        turnEnded(at: end)
    }
}
