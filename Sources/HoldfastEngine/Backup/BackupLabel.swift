import CShims
import HoldfastCore

/// `backup_label`: the last member of a base backup, without which a restored directory must not start. Text, one
/// `key = value` a line, in this order, closed by a CRC32C over all before it:
///
///     holdfast backup label 1
///     start = 0/3000028                        replay begins here: a redo point
///     timeline = 00000001
///     token = 0123456789ABCDEF                 of the timeline
///     checkpoint = 0/3000060                   the checkpoint's record
///     stop = 0/5000150                         the pages are whole from here on
///     system = 7123456789012345678
///     label = nightly
///     started = 2026-11-23T02:15:00.000000Z
///     stopped = 2026-11-23T02:16:40.000000Z
///     crc32c = 1A2B3C4D
package struct BackupLabel: Equatable, Sendable {
    package static let path = "backup_label"
    private static let heading = "holdfast backup label "
    private static let version = 1

    package var start: LSN
    package var timeline: TimelineID
    package var token: TimelineToken
    package var checkpoint: LSN
    package var stop: LSN
    package var system: SystemIdentifier
    package var label: String
    /// Microseconds since 1970.
    package var startTime: Int64
    package var stopTime: Int64

    package init(
        start: LSN, timeline: TimelineID, token: TimelineToken, checkpoint: LSN, stop: LSN, system: SystemIdentifier,
        label: String, startTime: Int64, stopTime: Int64
    ) {
        self.start = start
        self.timeline = timeline
        self.token = token
        self.checkpoint = checkpoint
        self.stop = stop
        self.system = system
        self.label = label
        self.startTime = startTime
        self.stopTime = stopTime
    }

    /// The file's bytes.
    package func encoded() -> [UInt8] {
        let text = """
            \(Self.heading)\(Self.version)
            start = \(start)
            timeline = \(timeline)
            token = \(token)
            checkpoint = \(checkpoint)
            stop = \(stop)
            system = \(system)
            label = \(label)
            started = \(Timestamp.text(microseconds: startTime))
            stopped = \(Timestamp.text(microseconds: stopTime))

            """
        let bytes = Array(text.utf8)
        return bytes + Array("crc32c = \(hexadecimal(UInt64(Self.checksum(bytes)), digits: 8))\n".utf8)
    }

    private static func checksum(_ bytes: [UInt8]) -> UInt32 {
        bytes.withUnsafeBytes { hf_crc32c(0, $0.baseAddress, $0.count) }
    }

    /// Reads what `encoded` wrote; throws `newerFormat` for a later version, `recoveryFailed` for anything else.
    package init(decoding bytes: [UInt8]) throws(EngineError) {
        func damaged(_ why: String) -> EngineError {
            .recoveryFailed(.zero, "\(Self.path) \(why)")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw damaged("is not text") }
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        guard let first = lines.first, first.hasPrefix(Self.heading),
            let version = Int(first.dropFirst(Self.heading.count))
        else { throw damaged("does not begin as a label does") }
        guard version <= Self.version else { throw .newerFormat(Self.path, UInt32(clamping: version)) }
        guard lines.count == 12, lines.removeLast().isEmpty else { throw damaged("has not the lines it must have") }
        func value(_ index: Int, _ key: String) throws(EngineError) -> Substring {
            guard lines[index].hasPrefix(key + " = ") else { throw damaged("has no \(key)") }
            return lines[index].dropFirst(key.utf8.count + 3)
        }
        func parsed<T>(_ index: Int, _ key: String, _ parse: (Substring) -> T?) throws(EngineError) -> T {
            guard let result = try parse(value(index, key)) else { throw damaged("has no sound \(key)") }
            return result
        }
        let covered = bytes.count - lines[10].utf8.count - 1
        let sum = try parsed(10, "crc32c") { parseHexadecimal($0, atMost: 8) }
        guard sum == UInt64(Self.checksum(Array(bytes[..<covered]))) else { throw damaged("has a wrong checksum") }
        start = try parsed(1, "start") { LSN($0) }
        timeline = try parsed(2, "timeline") { TimelineID(name: $0) }
        token = try parsed(3, "token") { TimelineToken(name: $0) }
        checkpoint = try parsed(4, "checkpoint") { LSN($0) }
        stop = try parsed(5, "stop") { LSN($0) }
        system = try parsed(6, "system") { SystemIdentifier(String($0)) }
        label = String(try value(7, "label"))
        startTime = try parsed(8, "started") { Timestamp.parse($0) }
        stopTime = try parsed(9, "stopped") { Timestamp.parse($0) }
    }
}
