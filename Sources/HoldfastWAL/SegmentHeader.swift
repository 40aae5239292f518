import CShims
import HoldfastCore

/// The first 64 bytes of every segment file. This is the one place that defines them:
///
///     offset  bytes  field
///          0      8  "HOLDFWAL"
///          8      4  format version of the segment and of the records in it: 1
///         12      4  bytes of a segment: 16,777,216
///         16      8  system identifier
///         24      8  the timeline's token
///         32      8  first LSN: the position of byte 0 of the segment
///         40      4  timeline
///         44      4  chain: the CRC of the last record before this segment (0 for the first of a log)
///         48     12  zero
///         60      4  CRC32C over bytes 0 ..< 60
///
/// All numbers are little-endian. Where a timeline begins inside a segment, its own file of that segment
/// begins with a copy of its parent's bytes below the switch point; only the header is its own.
package struct SegmentHeader: Equatable, Sendable {
    package static let version: UInt32 = 1
    private static let magic: UInt64 = 0x4C41_5746_444C_4F48  // "HOLDFWAL", little-endian

    package var identity: LogIdentity
    package var firstLSN: LSN
    package var chain: UInt32

    package init(identity: LogIdentity, firstLSN: LSN, chain: UInt32) {
        self.identity = identity
        self.firstLSN = firstLSN
        self.chain = chain
    }

    /// Writes the 64 bytes.
    package func write(to base: UnsafeMutableRawPointer) {
        base.initializeMemory(as: UInt8.self, repeating: 0, count: LogLayout.segmentHeaderBytes)
        base.storeBytes(of: Self.magic, toByteOffset: 0, as: UInt64.self)
        base.storeBytes(of: Self.version, toByteOffset: 8, as: UInt32.self)
        base.storeBytes(of: UInt32(SegmentNumber.bytes), toByteOffset: 12, as: UInt32.self)
        base.storeBytes(of: identity.system.rawValue, toByteOffset: 16, as: UInt64.self)
        base.storeBytes(of: identity.token.rawValue, toByteOffset: 24, as: UInt64.self)
        base.storeBytes(of: firstLSN.rawValue, toByteOffset: 32, as: UInt64.self)
        base.storeBytes(of: identity.timeline.rawValue, toByteOffset: 40, as: UInt32.self)
        base.storeBytes(of: chain, toByteOffset: 44, as: UInt32.self)
        base.storeBytes(of: hf_crc32c(0, base, 60), toByteOffset: 60, as: UInt32.self)
    }

    /// Reads 64 bytes. A sound header of a later version is `.newerVersion`; anything else that is
    /// not a header of this version is `.notAHeader`.
    package init(reading base: UnsafeRawPointer) throws(SegmentHeaderFault) {
        guard base.loadUnaligned(fromByteOffset: 0, as: UInt64.self) == Self.magic,
            base.loadUnaligned(fromByteOffset: 60, as: UInt32.self) == hf_crc32c(0, base, 60)
        else { throw .notAHeader }
        let version = base.loadUnaligned(fromByteOffset: 8, as: UInt32.self)
        guard version <= Self.version else { throw .newerVersion(version) }
        guard version == Self.version,
            base.loadUnaligned(fromByteOffset: 12, as: UInt32.self) == UInt32(SegmentNumber.bytes)
        else { throw .notAHeader }
        identity = LogIdentity(
            system: SystemIdentifier(rawValue: base.loadUnaligned(fromByteOffset: 16, as: UInt64.self)),
            timeline: TimelineID(base.loadUnaligned(fromByteOffset: 40, as: UInt32.self)),
            token: TimelineToken(rawValue: base.loadUnaligned(fromByteOffset: 24, as: UInt64.self)))
        firstLSN = LSN(base.loadUnaligned(fromByteOffset: 32, as: UInt64.self))
        chain = base.loadUnaligned(fromByteOffset: 44, as: UInt32.self)
    }
}

package enum SegmentHeaderFault: Error, Equatable {
    case notAHeader
    case newerVersion(UInt32)
}

extension SegmentName {
    /// The path below the data directory.
    package var walPath: String { "wal/" + description }
    package var readyPath: String { "wal/archive_status/\(self).ready" }
    package var donePath: String { "wal/archive_status/\(self).done" }
}
