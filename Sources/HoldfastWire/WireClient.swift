import Glibc
import HoldfastCore

/// A blocking connection to a server.
///
///     let client = try WireClient(to: WireAddress("unix:/run/holdfast/main.sock"))
///     let start = try client.call("BACKUP", "START", "nightly", patience: .unlimited)
///     print(start["start_lsn"]?.text ?? "")
///
/// One owner, one thread at a time. After any thrown error but `.refused` and `.unexpectedReply` the connection is closed:
/// nobody knows which reply would come next.
package final class WireClient {
    package struct Options: Sendable {
        package var connectSeconds = 5.0
        /// How long one reply may take; nil: for ever.
        package var replySeconds: Double? = 60
        package var version = WireVersion.resp3
        package var limits = WireLimits.replies
        package init() {}
    }

    /// How long one reply may take.
    package enum Patience: Sendable {
        /// As the connection's options say.
        case standard
        case seconds(Double)
        /// For what takes as long as it takes: a checkpoint, the start of a backup.
        case unlimited
    }

    package var address: WireAddress { server.address }
    package let server: WireServer
    package let options: Options
    private var socket: WireSocket?
    private let output = ReplyWriter()
    private var parser: ReplyParser
    private var input = InputBuffer()
    /// When a stream that brings nothing is taken for dead.
    var silence: Deadline?

    /// A plain connection as nobody.
    package convenience init(to address: WireAddress, options: Options = Options()) throws(WireError) {
        try self.init(to: WireServer(address), options: options)
    }

    /// Connects, logs in if there is a login and, for RESP 3, greets.
    ///
    /// Throws `.cannotConnect`, `.unknownHost`, `.timedOut`, `.disconnected`; with TLS `.badTLS`, `.notTrusted`,
    /// `.tlsFailed`; `.refused` when the server does not know the user or its password, and `.plainPassword` before a
    /// password is sent that others could read on its way.
    package init(to server: WireServer, options: Options = Options()) throws(WireError) {
        self.server = server
        self.options = options
        parser = ReplyParser(limits: options.limits)
        guard server.login == nil || server.tls != nil || server.address.isLoopback else {
            throw .plainPassword(server.address)
        }
        socket = try WireSocket(connecting: server, seconds: options.connectSeconds)
        let login = server.login.map { ["AUTH", $0.user, $0.password] } ?? []
        if options.version == .resp3 {
            _ = try call((["HELLO", "3"] + login).map { Array($0.utf8) })
        } else if !login.isEmpty {
            _ = try call(login.map { Array($0.utf8) })
        }
    }

    /// Closes the connection; a backup that belongs to it is over.
    package func close() { socket = nil }

    package var isOpen: Bool { socket != nil }

    /// One request and its reply; an error reply is thrown as `.refused`.
    @discardableResult
    package func call(_ words: String..., patience: Patience = .standard) throws(WireError) -> WireValue {
        try call(words.map { Array($0.utf8) }, patience: patience)
    }

    /// As above, with arguments of any bytes.
    @discardableResult
    package func call(_ arguments: [[UInt8]], patience: Patience = .standard) throws(WireError) -> WireValue {
        send(arguments)
        let reply = try receive(patience: patience)
        guard case .error(let error) = reply else { return reply }
        throw .refused(command: commandName(arguments), error: error)
    }

    /// Puts a request behind those not yet sent. `receive` and `flush` send.
    package func send(_ arguments: [[UInt8]]) { output.request(arguments) }

    package func send(_ words: String...) { output.request(words) }

    /// The reply to the oldest request not yet answered. Error replies are values here.
    package func receive(patience: Patience = .standard) throws(WireError) -> WireValue {
        let seconds: Double? =
            switch patience {
            case .standard: options.replySeconds
            case .seconds(let seconds): seconds
            case .unlimited: nil
            }
        let deadline = Deadline(seconds: seconds)
        try flush(deadline)
        while true {
            switch parser.next(in: input.bytes) {
            case .reply(.push, let bytes): input.consume(bytes)
            case .reply(let value, let bytes):
                input.consume(bytes)
                return value
            case .needMore: try exchange(deadline, sending: false)
            case .failed(let why):
                close()
                throw .notRESP(address, why)
            }
        }
    }

    /// Bytes that have come and were not yet returned as a reply: more follows at once.
    package var bufferedBytes: Int { input.bytes.count }

    // MARK: For streams

    func nextMessage() -> ReplyParser.MessageStep { parser.nextMessage(in: input.bytes) }
    func consume(_ count: Int) { input.consume(count) }

    /// Waits for bytes, reads what is there.
    func waitForBytes(
        orAt wake: WireWake, _ deadline: Deadline, quietMilliseconds: Int?
    ) throws(WireError) -> WireSocket.Waited {
        guard let socket else { throw .disconnected(address, 0) }
        do throws(WireError) {
            let waited = try socket.wait(orAt: wake, deadline, quietMilliseconds: quietMilliseconds, address)
            if waited == .bytes, try socket.read(&input, address) == 0 { throw .disconnected(address, 0) }
            return waited
        } catch {
            close()
            output.clear()
            throw error
        }
    }

    /// All requests at once, then all replies in order; error replies are values.
    package func pipeline(_ requests: [[[UInt8]]]) throws(WireError) -> [WireValue] {
        for request in requests { send(request) }
        var replies: [WireValue] = []
        replies.reserveCapacity(requests.count)
        for _ in requests { replies.append(try receive()) }
        return replies
    }

    /// Hands everything to the system. Replies that come meanwhile are kept, so that two full sockets cannot block each other.
    package func flush() throws(WireError) { try flush(Deadline(seconds: options.replySeconds)) }

    private func flush(_ deadline: Deadline) throws(WireError) {
        var sent = 0
        while sent < output.count {
            sent += try exchange(deadline, sending: true, from: sent)
        }
        if output.count > 0 { output.clear() }
    }

    /// Waits until the socket can do something, does it, and returns how many bytes were sent.
    @discardableResult
    private func exchange(_ deadline: Deadline, sending: Bool, from: Int = 0) throws(WireError) -> Int {
        guard let socket else { throw .disconnected(address, 0) }
        do throws(WireError) {
            let ready = try socket.wait(writing: sending, deadline, address)
            if ready.readable {
                let count = try socket.read(&input, address)
                if count == 0 { throw .disconnected(address, 0) }
            }
            guard sending, ready.writable else { return 0 }
            return try socket.write(UnsafeRawBufferPointer(rebasing: output.bytes[from...]), address)
        } catch {
            close()
            output.clear()
            throw error
        }
    }

    private func commandName(_ arguments: [[UInt8]]) -> String {
        let words = arguments.prefix(2).map { printable(bytes: $0, limit: 24) }
        guard let first = words.first else { return "" }
        // The second word names a subcommand for those that have them, and may be a key or a secret for others.
        let hasSubcommands = ["BACKUP", "WAL", "CONFIG", "CLIENT", "SLOT"].contains(first.uppercased())
        return hasSubcommands ? words.joined(separator: " ").uppercased() : first.uppercased()
    }
}
