import HoldfastCore

/// The name of a backup, which sorts by time: `20261123T021500Z-full`.
package struct BackupID: Hashable, Comparable, Sendable, CustomStringConvertible {
    package enum Kind: String, Codable, Sendable {
        case full
        case incremental = "incr"
    }

    /// In whole seconds.
    package let time: Timestamp
    package let kind: Kind

    /// `time` is cut to whole seconds.
    package init(time: Timestamp, kind: Kind) {
        self.time = Timestamp(compactName: time.compactName)!  // It reads exactly what it writes.
        self.kind = kind
    }

    /// Reads exactly such a name; checked before any I/O.
    package init?(_ text: some StringProtocol) {
        guard text.utf8.count == 21 else { return nil }
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, let time = Timestamp(compactName: parts[0]), let kind = Kind(rawValue: String(parts[1]))
        else { return nil }
        self.time = time
        self.kind = kind
    }

    package var description: String { time.compactName + "-" + kind.rawValue }
    package static func < (a: Self, b: Self) -> Bool { a.description < b.description }
}

extension BackupID: Codable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let id = BackupID(text) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "\"\(printable(text))\" is not a backup's id")
        }
        self = id
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
