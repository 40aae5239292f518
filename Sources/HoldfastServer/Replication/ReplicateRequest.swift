import HoldfastCore
import HoldfastEngine
import HoldfastWAL

/// What a follower asks for: `REPLICATE slot timeline lsn [SYSTEM id] [TOKEN token] [CHAIN crc] [NODE name] [INSTANCE name]
/// [CASCADE yes] [VERSION n]`.
struct ReplicateRequest: Equatable, Sendable {
    static let version = 1

    /// nil: `-`, the follower does without.
    var slot: String?
    var timeline: TimelineID
    /// Between records, or a segment's start.
    var lsn: LSN
    // What is given of these is compared.
    var system: SystemIdentifier?
    var token: TimelineToken?
    var chain: UInt32?
    var node = ""
    /// The same in every request of one follower, whatever it is called, and no other's.
    var instance: String?
    /// Whether this server may be a follower itself.
    var cascades = false

    /// Reads the request's words. Throws an error reply.
    init(_ words: [String]) throws(ReplicateError) {
        guard words.count >= 4, words.count.isMultiple(of: 2) else {
            throw .malformed("options come with a value each")
        }
        if words[1] != "-" {
            guard ObjectName.isValid(words[1]) else { throw .malformed("\"\(printable(words[1]))\" names no slot") }
            slot = words[1]
        }
        guard let timeline = UInt32(words[2]), timeline > 0 else {
            throw .malformed("\"\(printable(words[2]))\" is no timeline")
        }
        self.timeline = TimelineID(timeline)
        guard let lsn = LSN(words[3]), lsn.rawValue.isMultiple(of: 8), LogLayout.canonical(lsn) == lsn,
            lsn >= LogLayout.firstPosition
        else { throw .malformed("\"\(printable(words[3]))\" is no place between records") }
        self.lsn = lsn
        for index in stride(from: 4, to: words.count, by: 2) { try read(words[index], words[index + 1]) }
    }

    /// What of it is compared with the log.
    var ofFeed: FeedRequest {
        var feed = FeedRequest(timeline: timeline, lsn: lsn)
        (feed.slot, feed.system, feed.token, feed.chain) = (slot, system, token, chain)
        return feed
    }

    private mutating func read(_ option: String, _ value: String) throws(ReplicateError) {
        func bad() -> ReplicateError { .malformed("\(option) cannot be \"\(printable(value))\"") }
        switch option.uppercased() {
        case "SYSTEM":
            system = SystemIdentifier(value)
            if system == nil { throw bad() }
        case "TOKEN":
            token = TimelineToken(name: value)
            if token == nil { throw bad() }
        case "CHAIN" where value == "-": chain = nil
        case "CHAIN":
            guard value.utf8.count == 8, let crc = parseHexadecimal(value, atMost: 8) else { throw bad() }
            chain = UInt32(crc)
        case "NODE":
            guard ObjectName.isValid(value) else { throw bad() }
            node = value
        case "INSTANCE":
            guard ObjectName.isValid(value) else { throw bad() }
            instance = value
        case "CASCADE":
            guard value == "yes" else { throw bad() }
            cascades = true
        case "VERSION":
            guard value == "\(Self.version)" else {
                throw .malformed("version \"\(printable(value))\" of the stream is unknown here")
            }
        default: throw .malformed("there is no option \"\(printable(option))\"")
        }
    }
}
