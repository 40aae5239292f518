import HoldfastCore
import HoldfastWire
import NIOCore

/// The commands that change the connection itself, and how those that ask the engine are handed on.
extension ClientConnection {
    /// Runs a command of kind `connection`; the phase is `ready`.
    func runOnConnection(_ command: Command, _ arguments: RequestArguments) {
        switch command {
        case .multi:
            guard queued == nil else { return out.error("ERR MULTI calls can not be nested") }
            queued = QueuedTransaction()
            out.ok()
        case .exec:
            guard let queued else { return out.error("ERR EXEC without MULTI") }
            self.queued = nil
            if queued.isBroken {
                watchNothing()
                out.error("EXECABORT Transaction discarded because of previous errors.")
            } else if session.watches.isDirty {
                watchNothing()
                out.nullArray()
            } else if queued.count == 0 {
                watchNothing()
                out.array(0)
            } else {
                exec(queued)
            }
        case .discard:
            guard queued != nil else { return out.error("ERR DISCARD without MULTI") }
            queued = nil
            watchNothing()
            out.ok()
        case .unwatch:
            watchNothing()
            out.ok()
        case .select: ConnectionCommands.run(.select, arguments, &session, out)
        case .hello: hello(arguments)
        case .auth: auth(arguments)
        case .client: client(arguments)
        case .wait: waitForFollowers(arguments)
        case .waitlsn: waitForLSN(arguments)
        case .command: CommandTable.shared.describe(arguments, out)
        case .quit:
            out.ok()
            close()
        case .reset:
            queued = nil
            watchNothing()
            session.database = 0
            session.synchronous = nil
            tracksLSN = false
            out.version = .resp2
            name = ""
            logOut()
            out.simple("RESET")
        default: preconditionFailure("\(command) is no command of a connection")
        }
    }

    static func isName(_ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.count <= 256 && bytes.allSatisfy { (0x21...0x7E).contains($0) }
    }

    private func client(_ arguments: RequestArguments) {
        let word = arguments.text(1).uppercased()
        switch (word, arguments.count) {
        case ("ID", 2): out.integer(id)
        case ("GETNAME", 2): if name.isEmpty { out.null() } else { out.bulk(name) }
        case ("SETNAME", 3):
            guard Self.isName(arguments[2]) else { return out.error(Self.badName) }
            name = arguments.text(2)
            out.ok()
        case ("SETINFO", 4):
            guard Self.isName(arguments[3]) else {
                return out.error(
                    "ERR \(printable(arguments.text(2))) cannot contain spaces, newlines or special characters.")
            }
            switch arguments.text(2).uppercased() {
            case "LIB-NAME": library.name = arguments.text(3)
            case "LIB-VER": library.version = arguments.text(3)
            default: return out.error("ERR Unrecognized option '\(printable(arguments.text(2)))'")
            }
            out.ok()
        case ("TRACKLSN", 3): trackLSN(arguments.text(2))
        case ("SYNCHRONOUS", 3...4): chooseFollowers(arguments)
        case ("LASTLSN", 2): out.bulk(lastWrite.description)
        case ("INFO", 2): out.verbatim(line + "\n")
        case ("LIST", 2...):
            guard CommandTable.allows(.client, "list", role) else {
                return out.error(CommandTable.refusal(role, "client|list"))
            }
            let all = core.connections.values.sorted { $0.id < $1.id }
            out.verbatim(all.map { $0.line + "\n" }.joined())
        case ("NO-EVICT", 3), ("NO-TOUCH", 3): out.ok()
        case ("TRACKLSN", _), ("SYNCHRONOUS", _), ("LASTLSN", _), ("ID", _), ("GETNAME", _), ("SETNAME", _),
            ("SETINFO", _), ("INFO", _), ("NO-EVICT", _), ("NO-TOUCH", _):
            out.error(Replies.arity("client|\(word.lowercased())"))
        case ("KILL", _), ("REPLY", _), ("TRACKING", _), ("TRACKINGINFO", _), ("CACHING", _), ("GETREDIR", _),
            ("PAUSE", _), ("UNPAUSE", _), ("UNBLOCK", _):
            out.error("ERR CLIENT \(word) is not supported by Holdfast")
        default: out.error("ERR unknown subcommand '\(printable(arguments.text(1)))'. Try CLIENT HELP.")
        }
    }

    /// As a line of `CLIENT LIST`.
    private var line: String {
        let age = (NIODeadline.now() - since).nanoseconds / 1_000_000_000
        return "id=\(id) addr=\(peer) fd=-1 name=\(name) age=\(age) flags=\(queued == nil ? "N" : "x") "
            + "db=\(session.database) sub=0 psub=0 multi=\(queued?.count ?? -1) resp=\(out.version.rawValue) "
            + "user=\(user?.name ?? (role == .admin ? "administrator" : "default")) "
            + "lib-name=\(library.name) lib-ver=\(library.version)"
    }

    // MARK: Handing on

    /// Runs a command of kind `server` or `physical` on its pool.
    func offload(_ specification: CommandSpecification, _ arguments: RequestArguments) {
        if specification.command == .replicate { return replicate(arguments) }
        let words = (0..<arguments.count).map { Array(arguments[$0]) }
        if specification.kind == .physical {
            let slots = SlotCommands(
                engine: core.engine, inUse: core.slotsInUse,
                followers: specification.command == .slot ? core.followerReports() : [])
            let commands = PhysicalCommands(
                engine: core.engine, composition: core.composition, backup: backup, slots: slots,
                digests: digests)
            return wait(on: core.physical) { out in commands.run(specification, words, out) }
        }
        let commands = ServerCommands(
            engine: core.engine, composition: core.composition, role: role, report: core.report(),
            settings: core.changing)
        let outcome = ServerCommands.Outcome()
        wait(on: core.readers) { out in
            commands.run(specification, words, out, outcome)
        } done: { connection in
            // Of two changes the later may be told first: what counts is what they left together.
            if outcome.changesSettings { connection.core.settings = connection.core.changing.current }
            if outcome.shutdown {
                connection.core.logger.notice("SHUTDOWN was asked for", metadata: ["connection": "\(connection.id)"])
                connection.core.composition.shutdown()
                connection.close()
            }
        }
    }
}
