import HoldfastCore
import HoldfastWAL

/// `claim.signal`: the timeline that a follower asked for when it was promoted, under which token, and where it forks.
/// It is durable before the repository is asked, and goes when the node has the timeline and the repository knows it. So
///
/// - a claim that was written although the call failed, or the node crashed, is known as the node's own, and its next
///   promotion from the same place takes it up: nobody else knows the token, and nothing was written on that timeline;
/// - a timeline that was opened while the repository was away is claimed there when it is back.
///
/// `instance` says which directory on which host it was written by: a copy of the directory that is started elsewhere must
/// not take the same timeline. Text:
///
///     holdfast claim signal 1
///     timeline = 00000003
///     token = 0123456789ABCDEF
///     switch = 0/3000060            where the timeline leaves its parent
///     parent = FEDCBA9876543210     the parent's token
///     instance = host-b 12:3456789
package struct ClaimSignal: Equatable, Sendable {
    package static let path = "claim.signal"
    private static let heading = "holdfast claim signal "
    private static let version: UInt32 = 1

    package var timeline: TimelineID
    package var token: TimelineToken
    package var switchLSN: LSN
    package var parent: TimelineToken
    /// One printable line.
    package var instance: String

    package init(timeline: TimelineID, token: TimelineToken, switchLSN: LSN, parent: TimelineToken, instance: String) {
        self.timeline = timeline
        self.token = token
        self.switchLSN = switchLSN
        self.parent = parent
        self.instance = printable(instance, limit: 400)
    }

    package var encoded: [UInt8] {
        Array(
            """
            \(Self.heading)\(Self.version)
            timeline = \(timeline)
            token = \(token)
            switch = \(switchLSN)
            parent = \(parent)
            instance = \(instance)

            """.utf8)
    }

    /// Reads what `encoded` wrote; throws `newerFormat` for a later version, `recoveryFailed` for anything else.
    package init(decoding bytes: [UInt8]) throws(EngineError) {
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
        guard lines.count == 7, lines[0] == Self.heading + "\(Self.version)",
            let timeline = value(1, "timeline").flatMap({ TimelineID(name: $0) }),
            let token = value(2, "token").flatMap({ TimelineToken(name: $0) }),
            let lsn = value(3, "switch").flatMap({ LSN($0) }),
            let parent = value(4, "parent").flatMap({ TimelineToken(name: $0) }), let instance = value(5, "instance")
        else { throw .recoveryFailed(.zero, "\(Self.path) makes no sense") }
        self.init(timeline: timeline, token: token, switchLSN: lsn, parent: parent, instance: String(instance))
    }

    /// What a directory holds; `nil`: nothing.
    package static func read(_ disk: some Disk) throws(EngineError) -> ClaimSignal? {
        guard let bytes = try onDisk({ () throws(DiskError) in try disk.exists(path) ? try disk.readAll(path) : nil })
        else { return nil }
        return try ClaimSignal(decoding: bytes)
    }

    /// Durable when it returns.
    package static func remove(_ disk: some Disk) throws(EngineError) {
        try onDisk { () throws(DiskError) in
            guard try disk.exists(path) else { return }
            try disk.remove(path)
            try disk.syncDirectory("")
        }
    }
}
