import CShims
import HoldfastCore

/// A place in the log that a follower needs the rest from: `slots/<name>`. Text, one `key = value` a line, in this order,
/// closed by a CRC32C over all before it:
///
///     holdfast slot 1
///     timeline = 00000001
///     restart = 0/3000028        the log is kept from here: what the follower has on its disk
///     node = node-b              who used it last; empty: nobody yet
///     invalid =                  why it keeps nothing any more; empty: it does
///     crc32c = 1A2B3C4D
package struct ReplicationSlot: Equatable, Sendable {
    package static let directory = "slots"
    static let temporary = ".tmp"
    static let largestFile = 64 << 10
    private static let heading = "holdfast slot "
    private static let version: UInt32 = 1

    package var timeline: TimelineID
    package var restart: LSN
    package var node = ""
    package var invalidReason: String?

    package init(timeline: TimelineID, restart: LSN) {
        self.timeline = timeline
        self.restart = restart
    }

    static func path(_ name: String) -> String { directory + "/" + name }

    /// A name that may stand for a slot and its file. One that a replacement's temporary file could bear may not.
    package static func isValid(_ name: String) -> Bool { ObjectName.isValid(name) && !name.hasSuffix(temporary) }

    /// The file's bytes.
    package func encoded() -> [UInt8] {
        let text = """
            \(Self.heading)\(Self.version)
            timeline = \(timeline)
            restart = \(restart)
            node = \(printable(node))
            invalid = \(printable(invalidReason ?? "", limit: 400))

            """
        let bytes = Array(text.utf8)
        return bytes + Array("crc32c = \(hexadecimal(UInt64(Self.checksum(bytes[...])), digits: 8))\n".utf8)
    }

    private static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        bytes.withUnsafeBytes { hf_crc32c(0, $0.baseAddress, $0.count) }
    }

    /// Reads what `encoded` wrote; `nil` for what is damaged. Throws `newerFormat` for a later version.
    package init?(decoding bytes: [UInt8], path: String) throws(EngineError) {
        guard let text = String(validating: bytes, as: UTF8.self) else { return nil }
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        if lines[0].hasPrefix(Self.heading), let version = UInt32(lines[0].dropFirst(Self.heading.count)),
            version > Self.version
        {
            throw .newerFormat(path, version)
        }
        func value(_ index: Int, _ key: String) -> Substring? {
            guard lines[index].hasPrefix(key + " = ") else { return nil }
            return lines[index].dropFirst(key.count + 3)
        }
        guard lines.count == 7, lines[0] == Self.heading + "\(Self.version)",
            let timeline = value(1, "timeline").flatMap({ TimelineID(name: $0) }),
            let restart = value(2, "restart").flatMap({ LSN($0) }),
            let node = value(3, "node"), let reason = value(4, "invalid"),
            let crc = value(5, "crc32c").flatMap({ parseHexadecimal($0, atMost: 8) }), lines[6].isEmpty,
            Self.checksum(bytes[..<(bytes.count - lines[5].utf8.count - 1)]) == UInt32(crc)
        else { return nil }
        self.init(timeline: timeline, restart: restart)
        self.node = String(node)
        invalidReason = reason.isEmpty ? nil : String(reason)
    }
}
