import HoldfastCore
import HoldfastWire

extension CommandTable {
    /// `COMMAND`, and its subcommands `COUNT`, `LIST`, `INFO`, `DOCS`.
    func describe(_ arguments: RequestArguments, _ out: ReplyWriter) {
        guard arguments.count > 1 else {
            out.array(all.count)
            all.forEach { describe($0, out) }
            return
        }
        let names = 2..<max(2, arguments.count)
        switch arguments.text(1).uppercased() {
        case "COUNT": out.integer(all.count)
        case "LIST":
            out.array(all.count)
            all.forEach { out.bulk($0.name) }
        case "INFO":
            let wanted: [CommandSpecification?] = names.isEmpty ? all : names.map { find(arguments[$0]) }
            out.array(wanted.count)
            for specification in wanted {
                if let specification { describe(specification, out) } else { out.nullArray() }
            }
        case "DOCS":
            let wanted: [CommandSpecification] = names.isEmpty ? all : names.compactMap { find(arguments[$0]) }
            out.map(wanted.count)
            for specification in wanted {
                out.bulk(specification.name)
                out.fields([
                    ("group", .simple(group(of: specification.kind))), ("arity", .integer(Int64(specification.arity))),
                ])
            }
        default: out.error("ERR unknown subcommand '\(printable(arguments.text(1)))'. Try COMMAND HELP.")
        }
    }

    private func group(of kind: CommandKind) -> String {
        switch kind {
        case .read, .write: "string"
        case .scan: "generic"
        case .connection: "connection"
        case .server, .physical: "server"
        }
    }

    private func describe(_ specification: CommandSpecification, _ out: ReplyWriter) {
        out.array(10)
        out.bulk(specification.name)
        out.integer(specification.arity)
        out.set(specification.flags.count)
        specification.flags.forEach { out.simple($0) }
        out.integer(specification.keys.first)
        out.integer(specification.keys.last)
        out.integer(specification.keys.step)
        // ACL categories, tips, key specifications, subcommands: none.
        for _ in 0..<4 { out.array(0) }
    }
}
