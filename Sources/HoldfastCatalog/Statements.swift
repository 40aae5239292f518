import HoldfastSQL

/// The named statements of `sql/statements.sql`.
enum Statements {
    private static let byName: [String: String] = parse(CatalogSQL.statements)

    /// The statement's text; the names are this target's own, so an unknown one is a slip in it.
    static func text(_ name: String) -> String {
        guard let text = byName[name] else { preconditionFailure("sql/statements.sql has no \(name)") }
        return text
    }

    static var names: [String] { byName.keys.sorted() }

    /// `-- name: x` begins a statement, which lasts until the next; other comment lines are left out.
    static func parse(_ file: String) -> [String: String] {
        var found: [String: String] = [:]
        var name: String?
        for line in file.split(separator: "\n", omittingEmptySubsequences: false) {
            let prefix = "-- name: "
            if line.hasPrefix(prefix) {
                let next = String(line.dropFirst(prefix.count))
                precondition(found[next] == nil, "sql/statements.sql names \(next) twice")
                found[next] = ""
                name = next
            } else if let name, !line.drop(while: { $0 == " " }).hasPrefix("--"), !line.isEmpty {
                found[name, default: ""] += line + "\n"
            }
        }
        return found
    }
}
