import HoldfastCore
import HoldfastWire

/// What the command line asks of a running server.
package enum ServerOperations {
    /// `holdfast status`: documented fields first, then whatever else the server says of itself.
    package static func status(of server: WireServer) throws -> Report {
        let reply = try ask(server, "STATUS")
        var pairs = reply.pairs ?? []
        let first = [
            "role", "timeline", "lsn", "replay_lsn", "leader_lsn", "lag_bytes", "archived_lsn", "system_identifier",
        ]
        var fields: [(key: String, value: JSONValue)] = []
        for name in first {
            let index = pairs.firstIndex { $0.key.text == name }
            let value = index.map { JSONValue(pairs.remove(at: $0).value) } ?? .null
            // What is not known yet is null, not an empty string.
            fields.append((key: name, value: value == "" ? .null : value))
        }
        fields += pairs.map { (key: $0.key.text ?? "", value: JSONValue($0.value)) }
        let width = fields.map(\.key.count).max() ?? 0
        let lines = fields.filter { $0.value != .null }.map { field in
            let padding = String(repeating: " ", count: width - field.key.count + 2)
            return terminalSafe(field.key) + padding + plain(field.value) + "\n"
        }
        return Report(text: lines.joined(), json: .object(fields))
    }

    package static func checkpoint(at server: WireServer) throws -> Report {
        try report(server, ["CHECKPOINT"]) { "checkpoint complete, redo point \($0["redo_lsn"]?.text ?? "?")" }
    }

    package static func switchWAL(at server: WireServer) throws -> Report {
        try report(server, ["WAL", "SWITCH"]) {
            "switched: segment \($0["segment"]?.text ?? "?") ends at \($0["lsn"]?.text ?? "?")"
        }
    }

    package static func restorePoint(_ name: String, at server: WireServer) throws -> Report {
        guard ObjectName.isValid(name) else {
            throw NameRefused(diagnosis: ObjectName.refusal(name, of: "restore point"))
        }
        return try report(server, ["RESTOREPOINT", name]) { "restore point \(name) at \($0["lsn"]?.text ?? "?")" }
    }

    package static func promote(_ server: WireServer, withoutRepository: Bool, isForced: Bool) throws -> Report {
        var words = ["PROMOTE"]
        if withoutRepository { words.append("WITHOUTREPOSITORY") }
        if isForced { words.append("FORCE") }
        return try report(server, words) { reply in
            let timeline = reply["timeline"]?.text ?? "?"
            guard case .boolean(false)? = reply["claimed"] else { return "promoted: timeline \(timeline)" }
            return """
                promoted: timeline \(timeline), WITHOUT THE REPOSITORY
                  risk       \(OwedClaim.risk)
                  next       bring the repository back: this node then claims its timeline, or stops and says who was first
                """
        }
    }

    private static func ask(_ server: WireServer, _ words: String...) throws(WireError) -> WireValue {
        let client = try WireClient(to: server)
        defer { client.close() }
        return try client.call(words.map { Array($0.utf8) })
    }

    private static func report(
        _ server: WireServer, _ words: [String], _ line: (WireValue) -> String
    ) throws(WireError) -> Report {
        let client = try WireClient(to: server)
        defer { client.close() }
        let reply = try client.call(words.map { Array($0.utf8) }, patience: .unlimited)
        return Report(
            text: terminalSafe(line(reply), keepingLines: true) + "\n",
            json: JSONValue(reply.pairs.map { .map($0) } ?? reply))
    }

    private static func plain(_ value: JSONValue) -> String {
        if case .string(let text) = value { return terminalSafe(text) }
        if case .array(let values) = value { return values.map(plain).joined(separator: "; ") }
        return value.text()
    }
}

/// A name that may not be one.
package struct NameRefused: DiagnosableError {
    package var diagnosis: Diagnosis
}
