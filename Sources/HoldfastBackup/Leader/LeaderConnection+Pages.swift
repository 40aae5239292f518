import HoldfastCore
import HoldfastWAL
import HoldfastWire

extension LeaderConnection {
    /// Whole pages of a file of the running backup.
    package struct Piece: Sendable, Equatable {
        package var path: String
        package var offset: UInt64
        package var count: Int

        package init(path: String, offset: UInt64, count: Int) {
            self.path = path
            self.offset = offset
            self.count = count
        }
    }

    /// Bytes of answers that may be under way: what keeps a fast network busy, and no memory worth mentioning.
    private static var windowBytes: Int { 8 << 20 }
    private static var windowPieces: Int { 256 }

    /// Reads many pieces of the running backup, in order, without waiting for one before the next is asked for.
    package func read(_ pieces: [Piece], _ body: (Int, [UInt8]) throws -> Void) throws {
        var asked = 0
        var underWay = 0
        for (index, piece) in pieces.enumerated() {
            while asked < pieces.count, asked == index || asked - index < Self.windowPieces,
                asked == index || underWay + pieces[asked].count <= Self.windowBytes
            {
                let next = pieces[asked]
                client.send("BACKUP", "READ", next.path, String(next.offset), String(next.count))
                underWay += next.count
                asked += 1
            }
            let reply = try client.receive()
            if case .error(let error) = reply { throw WireError.refused(command: "BACKUP READ", error: error) }
            guard let bytes = reply.bytes, bytes.count == piece.count else {
                throw nonsense("BACKUP READ", "\(reply.bytes?.count ?? 0) bytes where \(piece.count) were asked for")
            }
            underWay -= piece.count
            try body(index, bytes)
        }
    }

    /// The history of the server's timeline, as a follower is told it. The connection is good for nothing else afterwards.
    package func history(_ identity: Identity) throws -> TimelineHistory {
        let reply = try client.call(
            "REPLICATE", "-", String(identity.timeline.rawValue),
            LogLayout.canonical(identity.durableLSN).description, "SYSTEM", identity.systemIdentifier.description)
        defer { close() }
        guard let bytes = reply["history"]?.bytes else { throw nonsense("field history", "it is missing") }
        let history = try TimelineHistory(decoding: bytes)
        guard history.timeline == identity.timeline else {
            throw nonsense("field history", "it is that of timeline \(history.timeline.rawValue)")
        }
        return history
    }
}
