import CShims
import HoldfastCore

/// What the control file says. This is the one place that defines its format: the file `control` has two slots of
/// 4,096 bytes, written in turn; the newest sound one counts. Byte table of a slot:
///
///     offset  bytes  field
///          0      8  "HOLDFCTL"
///          8      4  format version: 1
///         12      4  state: 1 stopped, 2 running, 3 restore in progress, 4 recovering from an archive
///         16      8  sequence number of the slot
///         24      8  system identifier
///         32      4  timeline
///         36      4  flags: 1 archiving; 2 the redo point's chain value is known
///         40      8  token of the timeline
///         48      8  LSN of the last checkpoint's record, 0: none
///         56      8  its redo point: replay begins here
///         64      4  chain value at the redo point
///         68      4  timeline of the redo point
///         72      8  known durable end of the log
///         80      8  own from: LSN        (this node alone wrote the log from here)
///         88      4  own from: timeline, 0: never
///         92      4  minimum recovery point: timeline, 0: none
///         96      8  minimum recovery point: LSN
///        104      8  demanded start after a restore, 0: nothing is demanded
///        112      8  demanded stop after a restore
///        120      4  timeline of both
///        124      4  zero
///        128      8  last transaction
///        136      8  last commit's time, microseconds since 1970
///        144      8  greatest redo point ever begun or replayed: what full-page images are decided by
///        152      8  time of the last checkpoint, microseconds since 1970
///        160      2  bytes of the command that finishes a restore
///        162   2048  the command, UTF-8
///       4092      4  CRC32C over bytes 0 ..< 4092
///
/// All numbers are little-endian; what is not named is zero.
package struct ControlData: Equatable, Sendable {
    package static let path = "control"
    package static let slotBytes = 4096
    package static let version: UInt32 = 1
    private static let magic: UInt64 = 0x4C54_4346_444C_4F48  // "HOLDFCTL", little-endian
    private static let longestCommand = 2048

    package enum State: UInt32, Sendable {
        /// Closed in order: the log ends with a checkpoint.
        case stopped = 1
        case running = 2
        /// The directory is not whole: only `command` may go on.
        case restoring = 3
        /// Replays an archive's WAL; not yet open for writing.
        case recovering = 4
    }

    package struct Position: Equatable, Sendable {
        package var timeline: TimelineID
        package var lsn: LSN
        package init(timeline: TimelineID, lsn: LSN) {
            self.timeline = timeline
            self.lsn = lsn
        }
    }

    /// Start and stop of the backup that this directory was restored from: replay must cover both.
    package struct Demand: Equatable, Sendable {
        package var timeline: TimelineID
        package var start: LSN
        package var stop: LSN
        package init(timeline: TimelineID, start: LSN, stop: LSN) {
            self.timeline = timeline
            self.start = start
            self.stop = stop
        }
    }

    package var state: State
    package var system: SystemIdentifier
    package var timeline: TimelineID
    package var token: TimelineToken
    package var isArchiving = false
    package var checkpointLSN = LSN.zero
    package var redo: Position
    /// The CRC of the record before the redo point; `nil`: taken on trust.
    package var redoChain: UInt32?
    package var knownDurableEnd: LSN
    package var ownFrom: Position?
    package var minimumRecoveryPoint: Position?
    package var demand: Demand?
    package var lastTransaction = TransactionID(0)
    package var lastCommitTime: Int64 = 0
    package var greatestRedo: LSN
    package var checkpointTime: Int64 = 0
    /// The command that finishes the restore in progress; cut at 2,048 bytes.
    package var command = ""

    /// A control file for a log that begins at `redo`.
    package init(
        state: State, system: SystemIdentifier, timeline: TimelineID, token: TimelineToken, redo: LSN,
        redoChain: UInt32?
    ) {
        self.state = state
        self.system = system
        self.timeline = timeline
        self.token = token
        self.redo = Position(timeline: timeline, lsn: redo)
        self.redoChain = redoChain
        knownDurableEnd = redo
        greatestRedo = redo
    }

    /// A slot's 4,096 bytes.
    package func encoded(sequence: UInt64) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: Self.slotBytes)
        func put(_ value: some FixedWidthInteger, _ offset: Int) {
            withUnsafeBytes(of: value.littleEndian) { out.replaceSubrange(offset..<offset + $0.count, with: $0) }
        }
        put(Self.magic, 0)
        put(Self.version, 8)
        put(state.rawValue, 12)
        put(sequence, 16)
        put(system.rawValue, 24)
        put(timeline.rawValue, 32)
        put(UInt32((isArchiving ? 1 : 0) | (redoChain == nil ? 0 : 2)), 36)
        put(token.rawValue, 40)
        put(checkpointLSN.rawValue, 48)
        put(redo.lsn.rawValue, 56)
        put(redoChain ?? 0, 64)
        put(redo.timeline.rawValue, 68)
        put(knownDurableEnd.rawValue, 72)
        put(ownFrom?.lsn.rawValue ?? 0, 80)
        put(ownFrom?.timeline.rawValue ?? 0, 88)
        put(minimumRecoveryPoint?.timeline.rawValue ?? 0, 92)
        put(minimumRecoveryPoint?.lsn.rawValue ?? 0, 96)
        put(demand?.start.rawValue ?? 0, 104)
        put(demand?.stop.rawValue ?? 0, 112)
        put(demand?.timeline.rawValue ?? 0, 120)
        put(lastTransaction.rawValue, 128)
        put(lastCommitTime, 136)
        put(greatestRedo.rawValue, 144)
        put(checkpointTime, 152)
        var text = Array(command.utf8.prefix(Self.longestCommand))
        while String(validating: text, as: UTF8.self) == nil { text.removeLast() }
        put(UInt16(text.count), 160)
        out.replaceSubrange(162..<162 + text.count, with: text)
        put(out.withUnsafeBytes { hf_crc32c(0, $0.baseAddress!, Self.slotBytes - 4) }, Self.slotBytes - 4)
        return out
    }

    /// Reads a slot's bytes.
    package static func decode(_ bytes: [UInt8]) throws(ControlFault) -> (data: ControlData, sequence: UInt64) {
        guard bytes.count == slotBytes else { throw .short(bytes.count) }
        func number<T: FixedWidthInteger>(_ offset: Int, _ type: T.Type) -> T {
            bytes.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: type)) }
        }
        guard number(0, UInt64.self) == magic else { throw .notASlot }
        guard
            number(slotBytes - 4, UInt32.self)
                == bytes.withUnsafeBytes({ hf_crc32c(0, $0.baseAddress!, slotBytes - 4) })
        else { throw .checksum }
        guard number(8, UInt32.self) <= version else { throw .newerVersion(number(8, UInt32.self)) }
        guard number(8, UInt32.self) == version, let state = State(rawValue: number(12, UInt32.self)) else {
            throw .impossible("state \(number(12, UInt32.self)) of version \(number(8, UInt32.self))")
        }
        let flags = number(36, UInt32.self)
        func position(_ lsn: Int, _ timeline: Int) -> Position? {
            let id = number(timeline, UInt32.self)
            return id == 0 ? nil : Position(timeline: TimelineID(id), lsn: LSN(number(lsn, UInt64.self)))
        }
        var data = ControlData(
            state: state, system: SystemIdentifier(rawValue: number(24, UInt64.self)),
            timeline: TimelineID(number(32, UInt32.self)), token: TimelineToken(rawValue: number(40, UInt64.self)),
            redo: LSN(number(56, UInt64.self)), redoChain: flags & 2 == 0 ? nil : number(64, UInt32.self))
        data.redo.timeline = TimelineID(number(68, UInt32.self))
        data.isArchiving = flags & 1 != 0
        data.checkpointLSN = LSN(number(48, UInt64.self))
        data.knownDurableEnd = LSN(number(72, UInt64.self))
        data.ownFrom = position(80, 88)
        data.minimumRecoveryPoint = position(96, 92)
        if number(104, UInt64.self) != 0 {
            data.demand = Demand(
                timeline: TimelineID(number(120, UInt32.self)), start: LSN(number(104, UInt64.self)),
                stop: LSN(number(112, UInt64.self)))
        }
        data.lastTransaction = TransactionID(number(128, UInt64.self))
        guard data.lastTransaction <= .last else { throw .impossible("transaction \(data.lastTransaction)") }
        data.lastCommitTime = number(136, Int64.self)
        data.greatestRedo = LSN(number(144, UInt64.self))
        data.checkpointTime = number(152, Int64.self)
        let count = Int(number(160, UInt16.self))
        guard count <= longestCommand, let text = String(validating: bytes[162..<162 + count], as: UTF8.self) else {
            throw .impossible("a command of \(count) bytes")
        }
        data.command = text
        return (data, number(16, UInt64.self))
    }
}

/// Why a slot of the control file does not count.
package enum ControlFault: Error, Equatable, CustomStringConvertible {
    case short(Int)
    case notASlot
    case checksum
    case newerVersion(UInt32)
    case impossible(String)

    package var description: String {
        switch self {
        case .short(let bytes): "it has \(bytes) bytes"
        case .notASlot: "it does not begin as a control slot does"
        case .checksum: "its checksum does not match"
        case .newerVersion(let version): "it is of format version \(version)"
        case .impossible(let what): "it says \(what)"
        }
    }
}
