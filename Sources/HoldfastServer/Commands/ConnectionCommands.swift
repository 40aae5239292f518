import HoldfastWire

/// Commands that need nothing but the session, so that they can stand between others in a run or a transaction.
enum ConnectionCommands {
    static func run(
        _ command: Command, _ arguments: RequestArguments, _ session: inout CommandSession, _ out: ReplyWriter
    ) {
        switch command {
        case .ping:
            switch arguments.count {
            case 1: out.simple("PONG")
            case 2: out.bulk(arguments[1])
            default: out.error(Replies.arity("ping"))
            }
        case .echo: out.bulk(arguments[1])
        case .select:
            guard let index = parseInteger(arguments[1]) else { return out.error(Replies.notInteger) }
            guard Int32(exactly: index) != nil else { return out.error(Replies.notShortInteger) }
            guard (0..<Int64(CommandSession.databases)).contains(index) else {
                return out.error("ERR DB index is out of range")
            }
            session.database = Int(index)
            out.ok()
        case .unwatch: out.ok()
        default: out.error("ERR Command not allowed inside a transaction")
        }
    }
}

extension CommandTable {
    /// What `arguments` ask for, if it exists, has the right number of arguments, and `role` may do it; otherwise nil,
    /// and the reply says why.
    func check(_ arguments: RequestArguments, _ role: Roles, _ out: ReplyWriter) -> CommandSpecification? {
        guard let specification = find(arguments[0]) else {
            out.error(Self.unknown(arguments))
            return nil
        }
        guard specification.accepts(arguments.count) else {
            out.error(Replies.arity(specification.name))
            return nil
        }
        guard specification.roles.intersects(role) else {
            out.error(Self.refusal(role, specification.name))
            return nil
        }
        return specification
    }

    /// Why a command, or `command|subcommand`, is not run for `role`.
    static func refusal(_ role: Roles, _ name: String) -> String {
        role == .nobody ? "NOAUTH Authentication required." : Replies.notPermitted + "the '\(name)' command"
    }

    private static func unknown(_ arguments: RequestArguments) -> String {
        let name = String(decoding: arguments[0].prefix(128), as: UTF8.self)
        if unsupported.contains(name.lowercased()) { return "ERR \(name.uppercased()) is not supported by Holdfast" }
        var shown = ""
        for index in 1..<max(1, arguments.count) where shown.utf8.count < 128 {
            let text = arguments[index].prefix(128 - shown.utf8.count).prefix { $0 != 0 }
            shown += "'" + String(decoding: text, as: UTF8.self) + "' "
        }
        return "ERR unknown command '\(name)', with args beginning with: \(shown)"
    }
}
