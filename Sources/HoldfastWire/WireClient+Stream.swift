/// Streams: messages that come without being asked for, one bulk string each.
extension WireClient {
    /// What came of waiting for a message.
    package enum Arrival<Result> {
        /// A bulk string, and what was made of it.
        case message(Result)
        /// Any other reply.
        case other(WireValue)
        case woken
        /// Nothing came for so long as the caller wanted to wait.
        case quiet
    }

    /// The next message, without a copy: `body` is given the bytes where they were received, for as long as it runs. Returns
    /// `.woken` when `wake` was called and no message is here as a whole, `.quiet` when none came for `quietMilliseconds`.
    /// Sends nothing: `flush` does. Throws what `body` throws, as if the message had been taken, and what `receive` does;
    /// `.timedOut` when nothing came for `Options.replySeconds`.
    package func receive<Result>(
        orAt wake: WireWake, quietMilliseconds: Int?, _ body: (UnsafeRawBufferPointer) throws -> Result
    ) throws -> Arrival<Result> {
        while true {
            switch nextMessage() {
            case .bulk(let bytes, let consumed):
                silence = nil
                defer { consume(consumed) }
                return .message(try body(bytes))
            case .other(.reply(.push, let bytes)): consume(bytes)
            case .other(.reply(let value, let bytes)):
                silence = nil
                consume(bytes)
                return .other(value)
            case .other(.failed(let why)):
                close()
                throw WireError.notRESP(address, why)
            case .other(.needMore):
                // It is over only when nothing came, whatever others wake this thread for meanwhile.
                let deadline = silence ?? Deadline(seconds: options.replySeconds)
                silence = deadline
                switch try waitForBytes(orAt: wake, deadline, quietMilliseconds: quietMilliseconds) {
                case .bytes: silence = nil
                case .woken: return .woken
                case .quiet: return .quiet
                }
            }
        }
    }
}
