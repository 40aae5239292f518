import HoldfastCore

/// What `restore --follow` leaves for the start of a follower: `standby.signal`. While it is there the node follows; it holds
/// no secrets, since the repository comes from the configuration. Text:
///
///     holdfast standby signal 1
///     cluster = main
///     backup = 20261123T021500Z-full
///     hold = restore-7f3a…                 the name of the restore's hold, given back when the archive's end is reached
///     follow = 10.0.0.1:6420, 10.0.0.2:6420     leaders, tried in turn; the configuration's `follow:` goes before it
///     node = host-b                        how the follower names itself
///     slot = host_b                        the replication slot that it asks for; - for none
///
/// Version 2 has one line more, for a follower whose content is to be compared with its leader's before it is served:
///
///     verify = yes
public struct StandbySignal: Sendable, Equatable {
    public static let fileName = "standby.signal"
    private static let heading = "holdfast standby signal "
    private static let wish = "verify = yes"
    private static let keys = ["cluster", "backup", "hold", "follow", "node", "slot"]

    public var cluster: String
    public var backup: String
    public var hold: String
    public var follow: [String]
    public var node: String
    public var slot: String?
    /// Nothing is served before the content was compared with the leader's.
    public var isToBeVerified: Bool

    public init(
        cluster: String, backup: String, hold: String, follow: [String], node: String, slot: String?,
        isToBeVerified: Bool = false
    ) {
        self.isToBeVerified = isToBeVerified
        self.cluster = cluster
        self.backup = backup
        self.hold = hold
        self.follow = follow
        self.node = node
        self.slot = slot
    }

    /// The file's bytes.
    public var encoded: [UInt8] {
        let values = [cluster, backup, hold, follow.joined(separator: ", "), node, slot ?? "-"]
        var lines = [Self.heading + (isToBeVerified ? "2" : "1")] + zip(Self.keys, values).map { "\($0) = \($1)" }
        if isToBeVerified { lines.append(Self.wish) }
        return Array((lines.joined(separator: "\n") + "\n").utf8)
    }

    /// Reads what `encoded` wrote; strict.
    public init(decoding bytes: [UInt8]) throws(RecoverySignalError) {
        guard bytes.count <= 8192 else { throw .malformed(line: 1, "the file is \(bytes.count) bytes long") }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        guard let heading = lines.first, heading.hasPrefix(Self.heading) else {
            throw .malformed(line: 1, "not a standby signal")
        }
        let version = heading.dropFirst(Self.heading.count)
        guard version == "1" || version == "2" else { throw .newerVersion(printable(heading)) }
        isToBeVerified = version == "2"
        let expected = Self.keys.count + (isToBeVerified ? 2 : 1)
        guard lines.count == expected + 1, lines.last == "" else {
            throw .malformed(line: lines.count, "\(expected) lines are expected")
        }
        guard !isToBeVerified || lines[expected - 1] == Self.wish else {
            throw .malformed(line: expected, "\(Self.wish) is expected")
        }
        var values: [String] = []
        for (index, key) in Self.keys.enumerated() {
            guard lines[index + 1].hasPrefix(key + " = ") else {
                throw .malformed(line: index + 2, "\(key) is expected")
            }
            values.append(String(lines[index + 1].dropFirst(key.count + 3)))
        }
        for index in [0, 1, 2, 4] where !ObjectName.isValid(values[index]) {
            throw .malformed(line: index + 2, "not a name")
        }
        guard values[5] == "-" || ObjectName.isValid(values[5]) else { throw .malformed(line: 7, "not a name") }
        cluster = values[0]
        backup = values[1]
        hold = values[2]
        follow = values[3].split(separator: ",").map { String($0.drop { $0 == " " }) }
        node = values[4]
        slot = values[5] == "-" ? nil : values[5]
    }
}
