import HoldfastCore
import HoldfastWAL

/// `promote.signal`: replay is complete, its pages are durable, and a promotion is under way. While it exists no
/// more log is replayed; a start resumes the promotion. Text:
///
///     holdfast promote signal 1
///     timeline = 00000003
///     token = 0123456789ABCDEF
///     switch = 0/3000060            where the new timeline leaves the old one
///     chain = 1A2B3C4D              the CRC of the record that ends there
///
/// Version 2 has one line more, for a timeline that may be opened while the repository is away:
///
///     claim = later
package struct PromoteSignal: Equatable {
    package static let path = "promote.signal"
    private static let heading = "holdfast promote signal "
    private static let version: UInt32 = 2
    private static let later = "claim = later"

    var timeline: TimelineID
    var token: TimelineToken
    var switchLSN: LSN
    var chain: UInt32
    /// The timeline is opened although nobody could be asked for it.
    var mayClaimLater = false

    var encoded: [UInt8] {
        Array(
            """
            \(Self.heading)\(mayClaimLater ? 2 : 1)
            timeline = \(timeline)
            token = \(token)
            switch = \(switchLSN)
            chain = \(hexadecimal(UInt64(chain), digits: 8))

            """.utf8) + Array((mayClaimLater ? Self.later + "\n" : "").utf8)
    }

    init(
        timeline: TimelineID, token: TimelineToken, switchLSN: LSN, chain: UInt32, mayClaimLater: Bool = false
    ) {
        self.mayClaimLater = mayClaimLater
        self.timeline = timeline
        self.token = token
        self.switchLSN = switchLSN
        self.chain = chain
    }

    /// Reads what `encoded` wrote; throws `newerFormat` for a later version, `recoveryFailed` for anything else.
    init(decoding bytes: [UInt8]) throws(EngineError) {
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        func value(_ index: Int, _ key: String) -> Substring? {
            guard index < lines.count, lines[index].hasPrefix(key + " = ") else { return nil }
            return lines[index].dropFirst(key.count + 3)
        }
        if lines[0].hasPrefix(Self.heading), let version = UInt32(lines[0].dropFirst(Self.heading.count)),
            version > Self.version
        {
            throw .newerFormat(Self.path, version)
        }
        let isLater = lines[0] == Self.heading + "2"
        guard lines.count == (isLater ? 7 : 6), isLater || lines[0] == Self.heading + "1",
            !isLater || lines[5] == Self.later,
            let timeline = value(1, "timeline").flatMap({ TimelineID(name: $0) }),
            let token = value(2, "token").flatMap({ TimelineToken(name: $0) }),
            let lsn = value(3, "switch").flatMap({ LSN($0) }),
            let chain = value(4, "chain").flatMap({ parseHexadecimal($0, atMost: 8) })
        else { throw .recoveryFailed(.zero, "\(Self.path) makes no sense") }
        self.init(
            timeline: timeline, token: token, switchLSN: lsn, chain: UInt32(chain), mayClaimLater: isLater)
    }
}
