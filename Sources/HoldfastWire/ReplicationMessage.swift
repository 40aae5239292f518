import CShims
import HoldfastCore

/// What a leader sends on a connection after it has answered `REPLICATE`: each message is one RESP bulk string.
///
///     offset  bytes  field
///          0      1  kind
///          1      3  zero
///          4      4  CRC32C over bytes 8 and on
///          8      8  LSN: WAL: of the first byte; keepalive: where the stream stands; end: where the timeline was left
///         16      8  the sender's durable end of log
///         24      8  the sender's clock, microseconds since 1970
///         32      8  every whole segment below it is in the archive, as far as the sender knows; 0: it knows nothing
///         40      4  flags: 1: acknowledge at once
///         44      4  the timeline of the bytes; in an end: the one that follows
///         48      …  WAL: bytes of the log as its segments hold them; end: the history file of the timeline that follows
///
/// All numbers are little-endian. A receiver that finds a fault in a message drops the connection and asks again.
package struct ReplicationMessage: Equatable, Sendable {
    package enum Kind: UInt8, Sendable {
        case wal = 1
        case keepalive = 2
        /// The requested timeline ends at `lsn`: ask again for `timeline` from there.
        case end = 3
    }

    package static let headerBytes = 48
    /// WAL bytes in one message at most.
    package static let largestWAL = 1 << 20
    package static let acknowledgeAtOnce: UInt32 = 1

    package var kind: Kind
    package var lsn: LSN
    package var durable: LSN
    package var clock: Int64
    package var archived: LSN
    package var flags: UInt32
    package var timeline: TimelineID

    package init(
        _ kind: Kind, lsn: LSN, durable: LSN, clock: Int64, archived: LSN = .zero, flags: UInt32 = 0,
        timeline: TimelineID
    ) {
        self.kind = kind
        self.lsn = lsn
        self.durable = durable
        self.clock = clock
        self.archived = archived
        self.flags = flags
        self.timeline = timeline
    }

    /// Writes the header before a body that is in place: `base` has 48 bytes and then the body's.
    package func write(to base: UnsafeMutableRawPointer, bodyBytes: Int) {
        base.initializeMemory(as: UInt8.self, repeating: 0, count: Self.headerBytes)
        base.storeBytes(of: kind.rawValue, toByteOffset: 0, as: UInt8.self)
        base.storeBytes(of: lsn.rawValue.littleEndian, toByteOffset: 8, as: UInt64.self)
        base.storeBytes(of: durable.rawValue.littleEndian, toByteOffset: 16, as: UInt64.self)
        base.storeBytes(of: clock.littleEndian, toByteOffset: 24, as: Int64.self)
        base.storeBytes(of: archived.rawValue.littleEndian, toByteOffset: 32, as: UInt64.self)
        base.storeBytes(of: flags.littleEndian, toByteOffset: 40, as: UInt32.self)
        base.storeBytes(of: timeline.rawValue.littleEndian, toByteOffset: 44, as: UInt32.self)
        let crc = hf_crc32c(0, base + 8, Self.headerBytes - 8 + bodyBytes)
        base.storeBytes(of: crc.littleEndian, toByteOffset: 4, as: UInt32.self)
    }

    /// A whole message.
    package func encoded(body: [UInt8] = []) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Self.headerBytes) + body
        bytes.withUnsafeMutableBytes { write(to: $0.baseAddress!, bodyBytes: body.count) }
        return bytes
    }

    /// Reads a header, and checks it and the body behind it, `message[48...]`. Throws what is wrong.
    package init(reading message: UnsafeRawBufferPointer) throws(ReplicationFault) {
        guard message.count >= Self.headerBytes, message.count <= Self.headerBytes + Self.largestWAL else {
            throw ReplicationFault(reason: "a message of \(message.count) bytes")
        }
        let crc = UInt32(littleEndian: message.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        guard hf_crc32c(0, message.baseAddress! + 8, message.count - 8) == crc else {
            throw ReplicationFault(reason: "the checksum of a message does not match")
        }
        guard let kind = Kind(rawValue: message[0]), message[1] | message[2] | message[3] == 0 else {
            throw ReplicationFault(reason: "a message of the unknown kind \(message[0])")
        }
        self.init(
            kind, lsn: LSN(UInt64(littleEndian: message.loadUnaligned(fromByteOffset: 8, as: UInt64.self))),
            durable: LSN(UInt64(littleEndian: message.loadUnaligned(fromByteOffset: 16, as: UInt64.self))),
            clock: Int64(littleEndian: message.loadUnaligned(fromByteOffset: 24, as: Int64.self)),
            archived: LSN(UInt64(littleEndian: message.loadUnaligned(fromByteOffset: 32, as: UInt64.self))),
            flags: UInt32(littleEndian: message.loadUnaligned(fromByteOffset: 40, as: UInt32.self)),
            timeline: TimelineID(UInt32(littleEndian: message.loadUnaligned(fromByteOffset: 44, as: UInt32.self))))
    }
}

/// What is wrong with a message of a stream.
package struct ReplicationFault: Error, Equatable, CustomStringConvertible {
    package var reason: String
    package var description: String { reason }
    package init(reason: String) { self.reason = reason }
}

/// Codes of the errors that `REPLICATE` is refused with, beside the usual ones.
package enum ReplicationRefusal {
    /// The leader has no longer what is asked for: take it from the archive.
    package static let gone = "WALGONE"
    /// The slot kept more than it may, and keeps nothing any more: take the log from the archive, and ask again.
    package static let slotInvalid = "SLOTINVALID"
    /// Timeline, token or chain differ at the position: the asker has gone another way and must be rewound.
    package static let diverged = "DIVERGED"
    /// The asker's log goes on behind the leader's end.
    package static let ahead = "AHEAD"
    /// Another cluster.
    package static let foreign = "FOREIGN"
}
