/// What somebody may do: the roles of a user, or those of a connection that names no user.
///
/// Each command lists the roles that may run it, and a connection may run it that has one of them: one test of bits.
/// `admin` may run everything, which is why it need not be combined with others.
package struct Roles: OptionSet, Sendable, Hashable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Looks at records.
    package static let reader = Roles(rawValue: 1 << 0)
    /// Looks at records and changes them.
    package static let writer = Roles(rawValue: 1 << 1)
    /// Follows this server: reads its log.
    package static let replication = Roles(rawValue: 1 << 2)
    /// Takes base backups and switches the log.
    package static let backup = Roles(rawValue: 1 << 3)
    /// Everything.
    package static let admin = Roles(rawValue: 1 << 4)
    /// A connection that has yet to say who it is. No user has this role.
    package static let nobody = Roles(rawValue: 1 << 5)

    /// Loopback TCP without a user, and other users' processes on the unix socket: records, and how the server is.
    static let anonymous = Roles.writer

    /// The roles that users have, by the names that the users file and the command line know.
    package static let named: [(name: String, role: Roles)] = [
        ("reader", .reader), ("writer", .writer), ("replication", .replication), ("backup", .backup), ("admin", .admin),
    ]

    /// Reads `backup` or `reader,backup`; nil when a name is unknown or there is none.
    package init?(names: some StringProtocol) {
        var roles: Roles = []
        for name in names.split(separator: ",", omittingEmptySubsequences: false) {
            guard let found = Self.named.first(where: { $0.name == name }) else { return nil }
            roles.formUnion(found.role)
        }
        self = roles
    }

    /// As `init(names:)` reads them.
    package var names: String { Self.named.filter { contains($0.role) }.map(\.name).joined(separator: ",") }

    @inline(__always)
    func intersects(_ other: Roles) -> Bool { rawValue & other.rawValue != 0 }
}

/// The sets that commands name.
extension Roles {
    static let everybody: Roles = [.reader, .writer, .replication, .backup, .admin, .nobody]
    /// Whoever has said who they are, or need not.
    static let known: Roles = [.reader, .writer, .replication, .backup, .admin]
    static let reading: Roles = [.reader, .writer, .admin]
    static let writing: Roles = [.writer, .admin]
    static let backing: Roles = [.backup, .admin]
    static let following: Roles = [.replication, .admin]
    static let operating: Roles = [.replication, .backup, .admin]
}
