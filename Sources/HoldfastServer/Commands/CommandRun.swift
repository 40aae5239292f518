import HoldfastCore
import HoldfastWire

/// Requests of one connection, in their order, that run elsewhere than on the event loop: in the writer's transaction
/// or on the pool for reads.
///
/// Handed from the loop to one thread and back through queues; only one of them touches it at a time, which is why it
/// may be unchecked.
final class CommandRun: @unchecked Sendable {
    /// Whole requests, as they came. In an `EXEC`: those that were queued.
    let requests: [UInt8]
    /// The requests are one transaction, and their replies one array of so many.
    let execCount: Int?
    let role: Roles
    var session: CommandSession
    let out: ReplyWriter
    /// Called on the event loop when it is done.
    let completed: (CommandRun) -> Void
    private let parser: RequestParser
    /// Whether one of the requests changed something, and where the commit ends that has it.
    var hasWritten = false
    var end = LSN.zero
    /// Bytes of the requests that have been run.
    private var taken = 0

    /// Output beyond which no further request is run: one client's pipeline must not fill the memory.
    static var outputBytes: Int { 16 << 20 }

    /// The requests that were left for another run, since their replies would have been too much at once.
    var rest: ArraySlice<UInt8> { requests[taken...] }

    init(
        requests: [UInt8], execCount: Int? = nil, role: Roles, session: CommandSession, version: WireVersion,
        limits: WireLimits, completed: @escaping (CommandRun) -> Void
    ) {
        self.requests = requests
        self.execCount = execCount
        self.role = role
        self.session = session
        self.completed = completed
        out = ReplyWriter(version: version)
        parser = RequestParser(limits: limits)
    }

    /// Calls `body` with each request in turn, as long as there is room for output; of a transaction with all. They were
    /// whole when they were copied.
    func forEachRequest(_ body: (RequestArguments) throws -> Void) rethrows {
        parser.reset()
        var next = 0
        defer { taken = next }
        try requests.withUnsafeBytes { all in
            while next < all.count, execCount != nil || out.count <= Self.outputBytes {
                let rest = UnsafeRawBufferPointer(rebasing: all[next...])
                guard case .request(let bytes) = parser.next(in: rest) else {
                    preconditionFailure("a run holds whole requests")
                }
                let arguments = parser.arguments(in: rest)
                if arguments.count > 0 { try body(arguments) }
                next += bytes
            }
        }
    }

    /// Begins anew: what was written was never sent, and the transaction it was written in is gone.
    func restart(_ session: CommandSession) {
        self.session = session
        hasWritten = false
        out.truncate(to: 0)
    }

    /// Answers everything with the same error.
    func refuse(_ text: String) {
        out.truncate(to: 0)
        if execCount != nil { return out.error(text) }
        forEachRequest { _ in out.error(text) }
    }

    /// Runs everything in a transaction that may hold the commands of others too.
    func run<Editor: RecordEditor & ~Copyable>(in editor: borrowing Editor, _ services: CommandServices) throws {
        if let execCount { return try exec(execCount, in: editor, services) }
        try forEachRequest { try run($0, in: editor, services) }
    }

    /// Runs one request.
    func run<Editor: RecordEditor & ~Copyable>(
        _ arguments: RequestArguments, in editor: borrowing Editor, _ services: CommandServices
    ) throws {
        guard let specification = CommandTable.shared.check(arguments, role, out) else { return }
        let mark = out.count
        do {
            try RecordCommands.run(specification, arguments, &session, services, in: editor, out)
        } catch let error as ReplyTooLong {
            out.truncate(to: mark)
            out.error(ErrorReplies.text(error))
        }
    }

    /// One transaction: an error of one command does not undo the others.
    private func exec<Editor: RecordEditor & ~Copyable>(
        _ count: Int, in editor: borrowing Editor, _ services: CommandServices
    ) throws {
        guard !session.watches.isDirty else { return out.nullArray() }
        let mark = out.count
        session.executing = session.watches
        defer { session.executing = nil }
        out.array(count)
        try forEachRequest {
            try run($0, in: editor, services)
            // It is one reply. Nothing of it is done then, and that is all that is answered.
            try services.checkReply(out, from: mark)
        }
        session.changes = min(session.changes, 1)
    }

    /// Runs everything on a snapshot; what would write is refused with `refusal`.
    func run<Reader: RecordReader & ~Copyable>(
        reading reader: borrowing Reader, _ services: CommandServices, refusal: String?
    ) {
        if let execCount {
            guard !session.watches.isDirty else { return out.nullArray() }
            out.array(execCount)
        }
        forEachRequest { arguments in
            guard let specification = CommandTable.shared.check(arguments, role, out) else { return }
            let mark = out.count
            do {
                if execCount != nil { try services.checkReply(out, from: 0) }
                switch specification.kind {
                case .read, .scan:
                    try RecordCommands.read(
                        specification.command, arguments, session.database, services, from: reader, out)
                case .connection: ConnectionCommands.run(specification.command, arguments, &session, out)
                default:
                    // Nothing watches while nothing can be written, and that may change before EXEC: it is to fail then.
                    if specification.command == .watch {
                        session.watches.markDirty()
                        out.ok()
                    } else {
                        out.error(refusal ?? Replies.syntax)
                    }
                }
            } catch {
                out.truncate(to: mark)
                out.error(ErrorReplies.text(error))
            }
        }
    }
}
