import HoldfastCore
import HoldfastWire

/// Requests of clients. The first byte chooses the pieces in which the rest arrives: however they fall, the same
/// requests come out as when all is there at once.
package enum RequestTarget: FuzzTarget {
    package static let name = "request"

    package static func seeds() -> [[UInt8]] {
        let texts = [
            "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n", "*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n",
            "PING\r\n", "SET \"a\\x41\\n\" 'b\\'c'\r\n", "*0\r\n*-1\r\n\r\n",
            "*2\r\n$4\r\nECHO\r\n$12\r\nHello World!\r\n",
            "*1048576\r\n$1\r\nx\r\n", "*1\r\n$67108864\r\nabc", "*1\r\n$-1\r\n", "get  a\tb  \n",
        ]
        return texts.enumerated().map { [UInt8(truncatingIfNeeded: $0 * 3)] + Array($1.utf8) }
    }

    package static func run(_ input: UnsafeRawBufferPointer) {
        var input = FuzzInput(input)
        let pieces = Pieces(input.byte())
        let whole = parse(input.rest, Pieces(0)), inPieces = parse(input.rest, pieces)
        expect(whole == inPieces, "pieces of \(pieces.bytes) bytes: \(inPieces) instead of \(whole)")
    }

    /// What came out, in order: the arguments of each request, and a fault as text.
    private static func parse(_ bytes: UnsafeRawBufferPointer, _ pieces: Pieces) -> [[[UInt8]]] {
        let parser = RequestParser()
        var out: [[[UInt8]]] = []
        var arrived = 0, start = 0, turn = 0
        while true {
            let input = UnsafeRawBufferPointer(rebasing: bytes[start..<arrived])
            switch parser.next(in: input) {
            case .request(let count):
                expect(count > 0 && count <= input.count, "a request of \(count) bytes in \(input.count)")
                let arguments = parser.arguments(in: input)
                var copies: [[UInt8]] = []
                for index in 0..<arguments.count {
                    copies.append(Array(arguments[index]))
                    _ = arguments.text(index)
                }
                out.append(copies)
                start += count
            case .needMore:
                expect(parser.wanted > 0, "it wants nothing")
                if arrived == bytes.count { return out }
                arrived = min(bytes.count, arrived + pieces.next(turn))
                turn += 1
            case .failed(let fault): return out + [[Array(fault.reason.utf8)]]
            }
        }
    }
}

/// Replies of servers, as a client reads them: in pieces as above, and every value written again and read again.
package enum ReplyTarget: FuzzTarget {
    package static let name = "reply"

    package static func seeds() -> [[UInt8]] {
        let texts = [
            "+OK\r\n", "-ERR no\r\n", ":42\r\n:-1\r\n", "$5\r\nhello\r\n", "$-1\r\n", "*2\r\n$1\r\na\r\n*-1\r\n",
            "%1\r\n+a\r\n:1\r\n", "|1\r\n+ttl\r\n:3\r\n+OK\r\n", "~2\r\n#t\r\n#f\r\n", ">2\r\n+message\r\n_\r\n",
            ",1.5\r\n,inf\r\n", "(12345678901234567890123\r\n", "=8\r\ntxt:some\r\n", "!3\r\nERR\r\n",
            "*1\r\n*1\r\n*1\r\n*0\r\n", "*67108864\r\n", "$536870912\r\nx", "|0\r\n|0\r\n+x\r\n",
        ]
        return texts.enumerated().map { [UInt8(truncatingIfNeeded: $0 * 5)] + Array($1.utf8) }
    }

    package static func run(_ input: UnsafeRawBufferPointer) {
        var input = FuzzInput(input)
        let pieces = Pieces(input.byte())
        let whole = parse(input.rest, Pieces(0)), inPieces = parse(input.rest, pieces)
        expect(whole == inPieces, "pieces of \(pieces.bytes) bytes: \(inPieces) instead of \(whole)")
    }

    private static func parse(_ bytes: UnsafeRawBufferPointer, _ pieces: Pieces) -> [String] {
        var parser = ReplyParser()
        var out: [String] = []
        var arrived = 0, start = 0, turn = 0
        while true {
            let input = UnsafeRawBufferPointer(rebasing: bytes[start..<arrived])
            switch parser.next(in: input) {
            case .reply(let value, let count):
                expect(count > 0 && count <= input.count, "a reply of \(count) bytes in \(input.count)")
                _ = (value.text, value.integer, value.elements?.count, value["a"], value.isNull)
                out.append("\(value)")
                start += count
            case .needMore:
                if arrived == bytes.count { return out }
                arrived = min(bytes.count, arrived + pieces.next(turn))
                turn += 1
            case .failed(let why): return out + ["failed: \(why)"]
            }
        }
    }
}

/// Sizes of the pieces in which bytes arrive, from one byte: 0 is all at once.
private struct Pieces {
    let bytes: Int
    private let isUneven: Bool

    init(_ choice: UInt8) {
        bytes = choice == 0 ? .max / 2 : Int(choice & 31) + 1
        isUneven = choice & 32 != 0
    }

    func next(_ turn: Int) -> Int { isUneven ? 1 + (bytes + turn * 7) % 13 : bytes }
}
