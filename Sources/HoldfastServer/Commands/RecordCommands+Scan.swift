import HoldfastEngine
import HoldfastWire

extension RecordCommands {
    /// `SCAN cursor [MATCH pattern] [COUNT n] [TYPE type]`: a step through the keys in their order, so that whatever is
    /// there from the first step to the last is returned, and once.
    static func scan<Reader: RecordReader & ~Copyable>(
        _ reader: borrowing Reader, _ database: Int, _ arguments: RequestArguments, _ services: CommandServices,
        _ out: ReplyWriter
    ) throws {
        guard let cursor = UInt64(arguments.text(1)) else { return out.error("ERR invalid cursor") }
        var pattern: GlobPattern?
        var count = 10
        var matchesType = true
        var index = 2
        while index < arguments.count {
            guard index + 1 < arguments.count else { return out.error(Replies.syntax) }
            switch arguments.text(index).uppercased() {
            case "MATCH": pattern = GlobPattern(arguments[index + 1])
            case "COUNT":
                guard let value = parseInteger(arguments[index + 1]) else { return out.error(Replies.notInteger) }
                guard value >= 1 else { return out.error(Replies.syntax) }
                count = Int(min(value, 1_000_000))
            case "TYPE": matchesType = arguments.text(index + 1).lowercased() == "string"
            default: return out.error(Replies.syntax)
            }
            index += 2
        }
        var start: [UInt8] = []
        if cursor != 0 {
            guard let place = services.cursors.place(of: cursor, database) else {
                return out.error("ERR cursor \(cursor) is not known any more: begin again with SCAN 0")
            }
            start = place
        }
        let found = ReplyWriter(version: out.version)
        var keys = 0
        var seen = 0
        var next: [UInt8]?
        try start.withUnsafeBytes { start in
            try reader.scan(database, from: start, to: nil, reverse: false) { key, _ in
                if seen == count {
                    next = Array(key)
                    return false
                }
                seen += 1
                if matchesType, pattern?.matches(key) ?? true {
                    found.bulk(key)
                    keys += 1
                    try services.checkReply(found)
                }
                return true
            }
        }
        out.array(2)
        out.bulk(String(next.map { services.cursors.cursor(at: $0, database) } ?? 0))
        out.array(keys)
        out.raw(found)
    }

    /// `KEYS pattern`: reads only the keys that begin with the pattern's literal beginning.
    static func keys<Reader: RecordReader & ~Copyable>(
        _ reader: borrowing Reader, _ database: Int, _ text: UnsafeRawBufferPointer, _ services: CommandServices,
        _ out: ReplyWriter
    ) throws {
        let pattern = GlobPattern(text)
        let found = ReplyWriter(version: out.version)
        var keys = 0
        try pattern.literalPrefix.withUnsafeBytes { prefix in
            try reader.scan(database, from: prefix, to: nil, reverse: false) { key, _ in
                guard key.starts(with: prefix) else { return false }
                if pattern.matches(key) {
                    found.bulk(key)
                    keys += 1
                    try services.checkReply(found)
                }
                return true
            }
        }
        out.array(keys)
        out.raw(found)
    }

    /// `RANGE start end [LIMIT n] [REV]`: the records with start ≤ key < end as key, value, key, value; an empty
    /// bound is none. `REV` gives the same records from the last to the first.
    static func range<Reader: RecordReader & ~Copyable>(
        _ reader: borrowing Reader, _ database: Int, _ arguments: RequestArguments, _ services: CommandServices,
        _ out: ReplyWriter
    ) throws {
        var limit = Int64.max
        var reverse = false
        var index = 3
        while index < arguments.count {
            switch arguments.text(index).uppercased() {
            case "LIMIT" where index + 1 < arguments.count:
                guard let value = parseInteger(arguments[index + 1]), value >= 0 else {
                    return out.error(Replies.notInteger)
                }
                limit = value
                index += 2
            case "REV":
                reverse = true
                index += 1
            default: return out.error(Replies.syntax)
            }
        }
        let found = ReplyWriter(version: out.version)
        var records = 0
        if limit > 0 {
            try reader.scan(
                database, from: arguments[1].isEmpty ? nil : arguments[1],
                to: arguments[2].isEmpty ? nil : arguments[2],
                reverse: reverse
            ) { key, value in
                found.bulk(key)
                found.bulk(value)
                records += 1
                try services.checkReply(found)
                return records < limit
            }
        }
        out.array(records * 2)
        out.raw(found)
    }
}
