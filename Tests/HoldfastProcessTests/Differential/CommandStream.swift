import HoldfastTestSupport

/// Random requests of the string commands, right and wrong, on few keys; the same for the same seed.
struct CommandStream {
    typealias Words = [[UInt8]]

    private enum Argument {
        case key
        case value
        case integer
        case text([String])
        /// One to four times.
        case some([Argument])
        /// At most three times.
        case any([Argument])
    }

    private var random: SeededGenerator

    init(seed: UInt64) { random = SeededGenerator(seed: seed) }

    mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &random) }

    private static let options = ["NX", "XX", "GET", "nx", "xx", "Get", "NY", "", "0"]
    private static let patterns = [
        "*", "a*", "?", "[a-c]", "n[0-9]*", "\\*", "[^a]*", "*\u{0}*", "", "**a", "[", "x\\",
    ]
    private static let commands: [(name: String, arguments: [Argument], weight: Int)] = [
        ("GET", [.key], 8), ("MGET", [.some([.key])], 3), ("EXISTS", [.some([.key])], 3), ("STRLEN", [.key], 3),
        ("GETRANGE", [.key, .integer, .integer], 6), ("TYPE", [.key], 2), ("DBSIZE", [], 2),
        ("RANDOMKEY", [], 1), ("KEYS", [.text(patterns)], 1),
        ("SCAN", [.text(["0"]), .text(["COUNT"]), .text(["1000000"])], 1),
        (
            "SCAN",
            [
                .text(["0"]), .text(["COUNT"]), .text(["1000000"]), .text(["MATCH", "match"]), .text(patterns),
                .text(["TYPE"]), .text(["string", "STRING", "hash", "none"]),
            ], 1
        ),
        ("SCAN", [.text(["x", "-1", "1.5", "18446744073709551616", "", " 1", "+1"])], 1),
        ("SCAN", [.text(["0"]), .text(["COUNT", "NONE"]), .text(["0", "-1", "x", "1000000"])], 1),
        ("SET", [.key, .value], 12), ("SET", [.key, .integer], 8), ("SET", [.key, .value, .any([.text(options)])], 8),
        ("SETNX", [.key, .value], 4), ("MSET", [.some([.key, .value])], 4), ("DEL", [.some([.key])], 5),
        ("UNLINK", [.some([.key])], 2), ("APPEND", [.key, .value], 5), ("INCR", [.key], 6), ("DECR", [.key], 4),
        ("INCRBY", [.key, .integer], 6), ("DECRBY", [.key, .integer], 6), ("GETSET", [.key, .value], 4),
        ("GETDEL", [.key], 4), ("FLUSHDB", [.any([.text(["ASYNC", "sync", "NOW"])])], 1),
        ("MULTI", [], 6), ("EXEC", [], 8), ("DISCARD", [], 2), ("WATCH", [.some([.key])], 6), ("UNWATCH", [], 2),
        ("PING", [], 1), ("PING", [.value], 1), ("ECHO", [.value], 1),
        ("SELECT", [.text(["0", "0", "0", "1", "2", "15", "16", "-1", "x", "", "00", "99999999999"])], 3),
        ("HELLO", [.text(["2", "3", "3", "4", "x", "1", "-3"])], 2), ("RESET", [], 1),
        ("WAIT", [.integer, .text(["1"])], 1),
        ("AUTH", [.text(["default", "secret"]), .any([.text(["secret", ""])])], 1),
        ("CLIENT", [.text(["GETNAME", "ID2", "getname"])], 1),
        ("CLIENT", [.text(["SETNAME", "setname"]), .text(["one", "two words", "", "three\n"])], 1),
        // What Holdfast has not: of that only what changes nothing.
        ("LRANGE", [.key, .integer, .integer], 1), ("HGET", [.key, .key], 1), ("nosuch", [.value, .value], 1),
        ("", [], 1), ("no\r\nsuch", [.value], 1),
    ]
    private static let total = commands.reduce(0) { $0 + $1.weight }

    private static let keys: [[UInt8]] =
        ["a", "b", "c", "n1", "n2", "n3", "", "a*", "key with blanks"].map { Array($0.utf8) }
        + [[0], [0xFF, 0xFE, 13, 10], [UInt8](repeating: 0x6B, count: 2048)]

    private static let integers = [
        "0", "1", "-1", "2", "-2", "5", "-5", "10", "100", "-100", "4294967296", "9223372036854775807",
        "-9223372036854775808", "9223372036854775806", "-9223372036854775807", "9223372036854775808",
        "-9223372036854775809", "18446744073709551616", "+1", "01", "-0", " 1", "1 ", "1.0", "1e3", "0x10", "", "-",
        "x",
    ]

    /// Requests to be sent at once.
    mutating func pipeline() -> [Words] { (0...below(8)).map { _ in request() } }

    mutating func request() -> Words {
        var ticket = below(Self.total)
        let chosen = Self.commands.first { command in
            ticket -= command.weight
            return ticket < 0
        }!
        var words: Words = [Array(spelled(chosen.name).utf8)]
        for argument in chosen.arguments { add(argument, to: &words) }
        // A wrong number of arguments.
        switch below(25) {
        case 0 where words.count > 1: words.removeLast()
        case 1: words.append(value())
        default: break
        }
        return words
    }

    private mutating func spelled(_ name: String) -> String {
        switch below(4) {
        case 0: name.lowercased()
        case 1: String(name.map { below(2) == 0 ? Character($0.lowercased()) : $0 })
        default: name
        }
    }

    private mutating func add(_ argument: Argument, to words: inout Words) {
        switch argument {
        case .key: words.append(key())
        case .value: words.append(value())
        case .integer: words.append(Array(Self.integers[below(below(2) == 0 ? 15 : Self.integers.count)].utf8))
        case .text(let all): words.append(Array(all[below(all.count)].utf8))
        case .some(let group): for _ in 0...below(4) { for argument in group { add(argument, to: &words) } }
        case .any(let group): for _ in 0..<below(4) { for argument in group { add(argument, to: &words) } }
        }
    }

    private mutating func key() -> [UInt8] {
        // Mostly the first ones, so that connections meet.
        Self.keys[below(3) == 0 ? below(Self.keys.count) : below(6)]
    }

    private mutating func value() -> [UInt8] {
        switch below(20) {
        case 0: []
        case 1: [0, 13, 10, 0xFF, 0x24, 0x2A]
        case 2...6: Array(Self.integers[below(Self.integers.count)].utf8)
        case 7: bytes(1 + below(300))
        // Beyond a page, and beyond what is done on the event loop.
        case 8 where below(3) == 0: bytes(8000 + below(100_000))
        case 9 where below(60) == 0: bytes(2 << 20)
        default: Array("value \(below(1000))".utf8)
        }
    }

    /// One piece of any bytes again and again, which is quick to make.
    private mutating func bytes(_ count: Int) -> [UInt8] {
        let shift = below(251)
        let piece = (0..<251).map { UInt8(($0 * 7 + shift) & 0xFF) }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count)
        while bytes.count < count { bytes += piece.prefix(count - bytes.count) }
        return bytes
    }
}
