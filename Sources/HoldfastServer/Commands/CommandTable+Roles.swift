/// Who may run what. The command's own roles stand in the table; here is what deviates from them.
extension CommandTable {
    /// Subcommands that need more than their command does.
    static let restricted: [(command: Command, subcommand: String, roles: Roles)] = [
        (.config, "set", .admin), (.config, "resetstat", .admin), (.client, "list", .admin),
    ]

    /// Whether `role` may run a subcommand of a command that it may run. `subcommand` is in lower case.
    static func allows(_ command: Command, _ subcommand: String, _ role: Roles) -> Bool {
        for entry in restricted where entry.command == command && entry.subcommand == subcommand {
            return entry.roles.intersects(role)
        }
        return true
    }

    /// The table as the README shows it: commands in lines of those that the same roles may run.
    var rolesAsMarkdown: String {
        var groups: [(roles: Roles, names: [String])] = []
        func add(_ roles: Roles, _ name: String) {
            if let index = groups.firstIndex(where: { $0.roles == roles }) {
                groups[index].names.append(name)
            } else {
                groups.append((roles, [name]))
            }
        }
        for specification in all { add(specification.roles, specification.name.uppercased()) }
        for entry in Self.restricted { add(entry.roles, "\(entry.command) \(entry.subcommand)".uppercased()) }
        let columns = Roles.named + [("nobody", .nobody)]
        var text = "| commands | \(columns.map(\.name).joined(separator: " | ")) |\n"
        text += "|---" + String(repeating: "|:-:", count: columns.count) + "|\n"
        for group in groups {
            let marks = columns.map { group.roles.intersects($0.role) ? "✓" : " " }.joined(separator: " | ")
            text += "| `\(group.names.joined(separator: ", "))` | \(marks) |\n"
        }
        return text
    }
}
