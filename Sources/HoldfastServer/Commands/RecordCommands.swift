import HoldfastEngine
import HoldfastWire

/// The commands on records. Each writes one reply; what it throws is the engine's, and then the caller takes back
/// what it has written.
enum RecordCommands {
    /// Runs a command of kind `read` or `scan`.
    static func read<Reader: RecordReader & ~Copyable>(
        _ command: Command, _ arguments: RequestArguments, _ database: Int, _ services: CommandServices,
        from reader: borrowing Reader, _ out: ReplyWriter
    ) throws {
        switch command {
        case .get: try reader.withValue(database, arguments[1]) { reply($0, out) }
        case .mget:
            let mark = out.count
            out.array(arguments.count - 1)
            for index in 1..<arguments.count {
                try reader.withValue(database, arguments[index]) { reply($0, out) }
                try services.checkReply(out, from: mark)
            }
        case .exists:
            var found = 0
            for index in 1..<arguments.count where try contains(reader, database, arguments[index]) { found += 1 }
            out.integer(found)
        case .strlen: try reader.withValue(database, arguments[1]) { out.integer($0?.count ?? 0) }
        case .type: out.simple(try contains(reader, database, arguments[1]) ? "string" : "none")
        case .dbsize: out.integer(try reader.count(database))
        case .getrange: try getRange(reader, database, arguments, out)
        case .randomkey: try randomKey(reader, database, out)
        case .scan: try scan(reader, database, arguments, services, out)
        case .keys: try keys(reader, database, arguments[1], services, out)
        case .range: try range(reader, database, arguments, services, out)
        default: preconditionFailure("\(command) does not read records")
        }
    }

    static func reply(_ value: UnsafeRawBufferPointer?, _ out: ReplyWriter) {
        if let value { out.bulk(value) } else { out.null() }
    }

    static func contains<Reader: RecordReader & ~Copyable>(
        _ reader: borrowing Reader, _ database: Int, _ key: UnsafeRawBufferPointer
    ) throws -> Bool {
        try reader.withValue(database, key) { $0 != nil }
    }

    private static func getRange<Reader: RecordReader & ~Copyable>(
        _ reader: borrowing Reader, _ database: Int, _ arguments: RequestArguments, _ out: ReplyWriter
    ) throws {
        guard let first = parseInteger(arguments[2]), let last = parseInteger(arguments[3]) else {
            return out.error(Replies.notInteger)
        }
        try reader.withValue(database, arguments[1]) { value in
            let count = Int64(value?.count ?? 0)
            // Negative places count from the end; both ends are included.
            if first < 0, last < 0, first > last { return out.bulk("") }
            let from = max(0, first < 0 ? count &+ first : first)
            let to = min(count - 1, max(0, last < 0 ? count &+ last : last))
            guard let value, count > 0, from <= to else { return out.bulk("") }
            out.bulk(UnsafeRawBufferPointer(rebasing: value[Int(from)...Int(to)]))
        }
    }

    /// Any key, each with some chance; not exactly the same chance.
    private static func randomKey<Reader: RecordReader & ~Copyable>(
        _ reader: borrowing Reader, _ database: Int, _ out: ReplyWriter
    ) throws {
        var first: [UInt8]?
        try reader.scan(database, from: nil, to: nil, reverse: false) { key, _ in
            first = Array(key)
            return false
        }
        var last: [UInt8]?
        try reader.scan(database, from: nil, to: nil, reverse: true) { key, _ in
            last = Array(key)
            return false
        }
        guard let first, let last else { return out.null() }
        // A place between the two, drawn from the bytes in which they differ, and some steps from there.
        var place = Array(zip(first, last).prefix { $0 == $1 }.map(\.0))
        let low = place.count < first.count ? first[place.count] : 0
        let high = place.count < last.count ? last[place.count] : 0xFF
        place.append(UInt8.random(in: min(low, high)...max(low, high)))
        for _ in 0..<7 { place.append(UInt8.random(in: 0...255)) }
        var steps = Int.random(in: 0..<64)
        var found: [UInt8]?
        try place.withUnsafeBytes { place in
            try reader.scan(database, from: place, to: nil, reverse: false) { key, _ in
                found = Array(key)
                steps -= 1
                return steps >= 0
            }
        }
        out.bulk(found ?? first)
    }
}

/// What commands need beside records.
struct CommandServices: Sendable {
    let cursors: ScanCursors
    let watchTable: WatchTable
    /// Bytes that one reply may have.
    let replyBytes: Int

    /// Throws when the reply that is being written, from `mark` on, has outgrown its bound.
    func checkReply(_ out: ReplyWriter, from mark: Int = 0) throws {
        guard out.count - mark <= replyBytes else { throw ReplyTooLong(limit: replyBytes) }
    }
}

/// A reply that would not end.
struct ReplyTooLong: Error {
    var limit: Int
}
