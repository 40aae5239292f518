import CShims
import Glibc
import HoldfastCore

/// The layout of a record of the write-ahead log. This is the one place that defines it:
///
///     offset  bytes  field
///          0      4  CRC32C over bytes 4 ..< end, seeded with the system identifier and the timeline
///          4      4  length: bytes of header and body; the record ends at the next multiple of 8
///          8      8  own LSN: the position of byte 0
///         16      8  mark: below this LSN its writer knew the log to be durable
///         24      4  the previous record's CRC (0 for the first record of a log)
///         28      1  kind (`RecordKind`)
///         29      1  flags (`RecordFlags`)
///         30      2  zero
///         32         the body, as the kind defines it, then zeros to the next multiple of 8
///
/// All numbers are little-endian. A record begins at a multiple of 8 and does not cross a segment's end.
/// Only a filler may be longer than `LogLayout.maximumRecordBytes`; its body is zero.
/// The CRC seed is the CRC32C of the system identifier (8 bytes) and the timeline (4 bytes), so a record
/// verifies only in its own cluster, on its own timeline and at its own place; that it *follows* the
/// record before it shows in the previous CRC.
package enum RecordKind: UInt8, Sendable, CaseIterable {
    // Stored: never renumber.
    /// A part of a commit (`CommitFormat`).
    case commit = 1
    case checkpoint = 2
    /// The rest of the segment is not used: a filler follows.
    case segmentSwitch = 3
    case restorePoint = 4
    case backupEnd = 5
    case timelineSwitch = 6
    case endOfRecovery = 7
    /// Empty, at the start of a 4 KiB block: its mark shows how far the log was durable.
    case witness = 8
    /// Zeros up to a segment's end, or up to a witness.
    case filler = 9
}

package struct RecordFlags: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    /// The first part of a commit.
    package static let begin = RecordFlags(rawValue: 1)
    /// The last part of a commit.
    package static let commit = RecordFlags(rawValue: 2)
}

/// Where things lie in the log.
package enum LogLayout {
    /// Where a new cluster's log begins: the start of segment 1, so that 0 can mean "no position".
    package static let firstPosition = SegmentNumber(1).start
    package static let segmentHeaderBytes = 64
    package static let recordHeaderBytes = 32
    /// The longest record but a filler.
    #if PlantedFaults
        // The simulator's builds: commits of many parts without much data.
        package static let maximumRecordBytes = 32 << 10
    #else
        package static let maximumRecordBytes = 1 << 20
    #endif
    /// What a witness is aligned to.
    package static let blockBytes = 4096

    @inline(__always) package static func aligned(_ bytes: Int) -> Int { (bytes + 7) & ~7 }
    /// Bytes from the start of its segment.
    @inline(__always) package static func offset(_ lsn: LSN) -> Int {
        Int(truncatingIfNeeded: lsn.rawValue % UInt64(SegmentNumber.bytes))
    }

    /// A position between records as it is written: a rest of a segment too short for a header
    /// belongs to what lies before it, and a segment's header to what follows.
    package static func canonical(_ lsn: LSN) -> LSN {
        let offset = offset(lsn)
        let segment = SegmentNumber(containing: lsn)
        if offset <= segmentHeaderBytes { return segment.start }
        return SegmentNumber.bytes - offset < recordHeaderBytes ? segment.end : lsn
    }

    /// Where the record that follows the position `lsn` begins.
    package static func firstRecord(atOrAfter lsn: LSN) -> LSN {
        let position = canonical(lsn)
        return offset(position) == 0 ? position + segmentHeaderBytes : position
    }
}

/// Which log this is: what every segment header and, by its seed, every record bears.
package struct LogIdentity: Sendable, Equatable {
    package var system: SystemIdentifier
    package var timeline: TimelineID
    package var token: TimelineToken

    package init(system: SystemIdentifier, timeline: TimelineID, token: TimelineToken) {
        self.system = system
        self.timeline = timeline
        self.token = token
    }
}

/// The fields of a header, over memory that somebody else owns. `base` has at least 32 bytes behind it.
struct RecordHeader {
    let base: UnsafeMutableRawPointer

    @inline(__always) init(_ base: UnsafeMutableRawPointer) { self.base = base }
    @inline(__always) init(reading base: UnsafeRawPointer) { self.base = UnsafeMutableRawPointer(mutating: base) }

    @inline(__always) var crc: UInt32 {
        get { base.loadUnaligned(fromByteOffset: 0, as: UInt32.self) }
        nonmutating set { base.storeBytes(of: newValue, toByteOffset: 0, as: UInt32.self) }
    }
    /// As stored: any number, before the record is verified.
    @inline(__always) var length: Int { Int(base.loadUnaligned(fromByteOffset: 4, as: UInt32.self)) }
    @inline(__always) var lsn: LSN { LSN(base.loadUnaligned(fromByteOffset: 8, as: UInt64.self)) }
    @inline(__always) var mark: LSN {
        get { LSN(base.loadUnaligned(fromByteOffset: 16, as: UInt64.self)) }
        nonmutating set { base.storeBytes(of: newValue.rawValue, toByteOffset: 16, as: UInt64.self) }
    }
    @inline(__always) var previousCRC: UInt32 {
        get { base.loadUnaligned(fromByteOffset: 24, as: UInt32.self) }
        nonmutating set { base.storeBytes(of: newValue, toByteOffset: 24, as: UInt32.self) }
    }
    @inline(__always) var rawKind: UInt8 { base.load(fromByteOffset: 28, as: UInt8.self) }
    @inline(__always) var flags: RecordFlags { RecordFlags(rawValue: base.load(fromByteOffset: 29, as: UInt8.self)) }

    /// Writes a header whose mark, chain and CRC are stamped later.
    @inline(__always) func prepare(length: Int, lsn: LSN, kind: RecordKind, flags: RecordFlags) {
        base.storeBytes(of: 0, toByteOffset: 0, as: UInt32.self)
        base.storeBytes(of: UInt32(length), toByteOffset: 4, as: UInt32.self)
        base.storeBytes(of: lsn.rawValue, toByteOffset: 8, as: UInt64.self)
        base.storeBytes(of: 0, toByteOffset: 16, as: UInt64.self)
        base.storeBytes(of: 0, toByteOffset: 24, as: UInt32.self)
        base.storeBytes(of: kind.rawValue, toByteOffset: 28, as: UInt8.self)
        base.storeBytes(of: flags.rawValue, toByteOffset: 29, as: UInt8.self)
        base.storeBytes(of: 0, toByteOffset: 30, as: UInt16.self)
    }
}

/// The CRC of records of one cluster and timeline.
struct RecordChecksum {
    let seed: UInt32

    init(system: SystemIdentifier, timeline: TimelineID) {
        var system = system.rawValue.littleEndian
        var timeline = timeline.rawValue.littleEndian
        seed = planted(.seedlessRecordCRC) ? 0 : hf_crc32c(hf_crc32c(0, &system, 8), &timeline, 4)
    }

    /// Over a record of `length` bytes that lies whole in memory, up to its aligned end.
    @inline(__always) func of(_ base: UnsafeRawPointer, length: Int) -> UInt32 {
        hf_crc32c(seed, base + 4, LogLayout.aligned(length) - 4)
    }

    /// Over a header followed by `zeros` zero bytes that need not be in memory.
    func ofHeader(_ base: UnsafeRawPointer, zeros: Int) -> UInt32 {
        var crc = hf_crc32c(seed, base + 4, LogLayout.recordHeaderBytes - 4)
        var left = zeros
        while left > 0 {
            let count = min(left, ZeroBytes.count)
            crc = hf_crc32c(crc, ZeroBytes.base, count)
            left -= count
        }
        return crc
    }
}

/// A piece of memory that is zero for the life of the process.
enum ZeroBytes {
    static let count = 1 << 20
    // Written once here, before anyone can see it; only read afterwards.
    nonisolated(unsafe) static let base: UnsafeRawPointer = {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 4096)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: count)
        return UnsafeRawPointer(memory)
    }()
    static func buffer(_ bytes: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: base, count: min(bytes, count))
    }
    /// `true` when the `bytes` (at most `count`) at `memory` are all zero.
    static func equal(_ memory: UnsafeRawPointer, _ bytes: Int) -> Bool { memcmp(memory, base, bytes) == 0 }
}
