import HoldfastEngine
import HoldfastWire

extension RecordCommands {
    /// Runs a command of any kind that may stand in a transaction, in the writer's transaction.
    static func run<Editor: RecordEditor & ~Copyable>(
        _ specification: CommandSpecification, _ arguments: RequestArguments, _ session: inout CommandSession,
        _ services: CommandServices, in editor: borrowing Editor, _ out: ReplyWriter
    ) throws {
        switch specification.kind {
        case .read, .scan:
            return try read(specification.command, arguments, session.database, services, from: editor, out)
        case .connection: return ConnectionCommands.run(specification.command, arguments, &session, out)
        default: break
        }
        let database = session.database
        switch specification.command {
        case .set: try set(editor, arguments, &session, services, out)
        case .setnx:
            guard fits(arguments, 1, out) else { return }
            let isNew = try !contains(editor, database, arguments[1])
            if isNew { try put(editor, arguments[1], arguments[2], &session, services) }
            out.integer(isNew ? 1 : 0)
        case .mset:
            guard arguments.count % 2 == 1 else { return out.error(Replies.arity("mset")) }
            for index in stride(from: 1, to: arguments.count, by: 2) where !fits(arguments, index, out) { return }
            for index in stride(from: 1, to: arguments.count, by: 2) {
                try put(editor, arguments[index], arguments[index + 1], &session, services)
            }
            // One transaction, however many keys.
            session.changes -= (arguments.count - 1) / 2 - 1
            out.ok()
        case .del, .unlink:
            var count = 0
            for index in 1..<arguments.count where try delete(editor, arguments[index], &session, services) {
                count += 1
            }
            if count > 1 { session.changes -= count - 1 }
            out.integer(count)
        case .append: try append(editor, arguments, &session, services, out)
        case .incr: try add(1, editor, arguments, &session, services, out)
        case .decr: try add(-1, editor, arguments, &session, services, out)
        case .incrby, .decrby:
            guard let amount = parseInteger(arguments[2]) else { return out.error(Replies.notInteger) }
            if specification.command == .incrby {
                try add(amount, editor, arguments, &session, services, out)
            } else if amount == .min {
                out.error("ERR decrement would overflow")
            } else {
                try add(-amount, editor, arguments, &session, services, out)
            }
        case .getset:
            guard fits(arguments, 1, out) else { return }
            try editor.withValue(database, arguments[1]) { reply($0, out) }
            try put(editor, arguments[1], arguments[2], &session, services)
        case .getdel:
            try editor.withValue(database, arguments[1]) { reply($0, out) }
            _ = try delete(editor, arguments[1], &session, services)
        case .flushdb:
            let word = arguments.count == 2 ? arguments.text(1).uppercased() : "SYNC"
            guard arguments.count <= 2, word == "SYNC" || word == "ASYNC" else { return out.error(Replies.syntax) }
            try services.watchTable.noteClear(database, by: session.executing) { try contains(editor, database, $0) }
            try editor.clear(database)
            session.changes += 1
            out.ok()
        case .watch:
            for index in 1..<arguments.count {
                services.watchTable.watch(session.watches, database, arguments[index])
            }
            out.ok()
        default: preconditionFailure("\(specification.name) is no command on records")
        }
    }

    /// false: key or value is too long, and the reply says so.
    private static func fits(_ arguments: RequestArguments, _ key: Int, _ out: ReplyWriter) -> Bool {
        if arguments[key].count > Limits.keyBytes {
            out.error(Replies.keyTooLong)
            return false
        }
        if arguments[key + 1].count > Limits.valueBytes {
            out.error(Replies.tooLarge)
            return false
        }
        return true
    }

    private static func put<Editor: RecordEditor & ~Copyable>(
        _ editor: borrowing Editor, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer,
        _ session: inout CommandSession, _ services: CommandServices
    ) throws {
        try editor.put(session.database, key, value)
        session.changes += 1
        services.watchTable.noteChange(session.database, key, by: session)
    }

    private static func delete<Editor: RecordEditor & ~Copyable>(
        _ editor: borrowing Editor, _ key: UnsafeRawBufferPointer, _ session: inout CommandSession,
        _ services: CommandServices
    ) throws -> Bool {
        guard try editor.remove(session.database, key) else { return false }
        session.changes += 1
        services.watchTable.noteChange(session.database, key, by: session)
        return true
    }

    private static func set<Editor: RecordEditor & ~Copyable>(
        _ editor: borrowing Editor, _ arguments: RequestArguments, _ session: inout CommandSession,
        _ services: CommandServices, _ out: ReplyWriter
    ) throws {
        var onlyIfAbsent = false
        var onlyIfPresent = false
        var returnsOld = false
        for index in 3..<max(3, arguments.count) {
            switch arguments.text(index).uppercased() {
            case "NX" where !onlyIfPresent: onlyIfAbsent = true
            case "XX" where !onlyIfAbsent: onlyIfPresent = true
            case "GET": returnsOld = true
            case let word where ["EX", "PX", "EXAT", "PXAT", "KEEPTTL"].contains(word):
                return out.error("ERR SET with \(word) is not supported: records do not expire")
            default: return out.error(Replies.syntax)
            }
        }
        guard fits(arguments, 1, out) else { return }
        var proceed = true
        if returnsOld {
            try editor.withValue(session.database, arguments[1]) { value in
                proceed = !(onlyIfAbsent && value != nil) && !(onlyIfPresent && value == nil)
                reply(value, out)
            }
        } else if onlyIfAbsent || onlyIfPresent {
            proceed = try contains(editor, session.database, arguments[1]) == onlyIfPresent
        }
        if proceed { try put(editor, arguments[1], arguments[2], &session, services) }
        if !returnsOld { if proceed { out.ok() } else { out.null() } }
    }

    private static func append<Editor: RecordEditor & ~Copyable>(
        _ editor: borrowing Editor, _ arguments: RequestArguments, _ session: inout CommandSession,
        _ services: CommandServices, _ out: ReplyWriter
    ) throws {
        guard fits(arguments, 1, out) else { return }
        var value: [UInt8] = []
        var exists = false
        try editor.withValue(session.database, arguments[1]) { old in
            guard let old else { return }
            exists = true
            value.reserveCapacity(old.count + arguments[2].count)
            value.append(contentsOf: old)
        }
        guard value.count + arguments[2].count <= Limits.valueBytes else { return out.error(Replies.tooLarge) }
        value.append(contentsOf: arguments[2])
        if !exists || !arguments[2].isEmpty {
            try value.withUnsafeBytes { try put(editor, arguments[1], $0, &session, services) }
        } else {
            services.watchTable.noteChange(session.database, arguments[1], by: session)
        }
        out.integer(value.count)
    }

    private static func add<Editor: RecordEditor & ~Copyable>(
        _ amount: Int64, _ editor: borrowing Editor, _ arguments: RequestArguments, _ session: inout CommandSession,
        _ services: CommandServices, _ out: ReplyWriter
    ) throws {
        guard arguments[1].count <= Limits.keyBytes else { return out.error(Replies.keyTooLong) }
        let old: Int64? = try editor.withValue(session.database, arguments[1]) { $0.map { parseInteger($0) } ?? 0 }
        guard let old else { return out.error(Replies.notInteger) }
        let (sum, overflow) = old.addingReportingOverflow(amount)
        guard !overflow else { return out.error("ERR increment or decrement would overflow") }
        var text = String(sum)
        try text.withUTF8 {
            try put(editor, arguments[1], UnsafeRawBufferPointer($0), &session, services)
        }
        out.integer(sum)
    }
}
