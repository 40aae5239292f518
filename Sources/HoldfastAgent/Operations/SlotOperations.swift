import HoldfastCore
import HoldfastWire

/// `holdfast slot`: the replication slots of a running server.
package enum SlotOperations {
    /// One line a slot; in JSON `slots[{name, timeline, restart_lsn, active, node, kept_bytes, invalid, invalid_reason,
    /// written_lsn, flushed_lsn, applied_lsn, lag_bytes}]`, with null for what is not known.
    package static func list(_ server: WireServer) throws -> Report {
        let reply = try ask(server, ["SLOT", "LIST"])
        guard let slots = reply.elements else { throw WireError.unexpectedReply(command: "SLOT LIST", "it is no list") }
        let json = JSONValue.object([(key: "slots", value: .array(slots.map(object)))])
        guard !slots.isEmpty else { return Report(text: "no slots\n", json: json) }
        var table = TextTable([
            ("slot", .left), ("state", .left), ("node", .left), ("timeline", .right), ("restart", .right),
            ("keeps", .right), ("flushed", .right), ("applied", .right), ("lag", .right),
        ])
        for slot in slots {
            func text(_ name: String) -> String {
                guard let text = slot[name]?.text, !text.isEmpty else { return "-" }
                return printable(text)
            }
            func bytes(_ name: String) -> String { Quantity.bytes(Int(slot[name]?.integer ?? 0)) }
            let isActive = slot["active"] == .boolean(true)
            table.add([
                text("name"), state(slot), text("node"), text("timeline"), text("restart_lsn"), bytes("kept_bytes"),
                text("flushed_lsn"), text("applied_lsn"), isActive ? bytes("lag_bytes") : "-",
            ])
        }
        return Report(text: table.text, json: json)
    }

    package static func create(_ name: String, at server: WireServer) throws -> Report {
        try requireName(name)
        let reply = try ask(server, ["SLOT", "CREATE", name])
        return Report(
            text: "created: slot \(name) keeps the log from \(printable(reply["restart_lsn"]?.text ?? "?")) on\n",
            json: JSONValue(reply))
    }

    package static func drop(_ name: String, at server: WireServer) throws -> Report {
        try requireName(name)
        _ = try ask(server, ["SLOT", "DROP", name])
        return Report(text: "dropped: slot \(name)\n", json: ["name": .string(name), "dropped": .boolean(true)])
    }

    private static func state(_ slot: WireValue) -> String {
        if slot["invalid"] == .boolean(true) {
            return "invalid: \(printable(slot["invalid_reason"]?.text ?? "", limit: 200))"
        }
        return slot["active"] == .boolean(true) ? "in use" : "free"
    }

    private static func object(_ slot: WireValue) -> JSONValue {
        // What is not known is null, not an empty string.
        .object(
            (slot.pairs ?? []).map { pair in
                let value = JSONValue(pair.value)
                return (key: pair.key.text ?? "", value: value == "" ? .null : value)
            })
    }

    private static func requireName(_ name: String) throws {
        guard ObjectName.isValid(name) else { throw NameRefused(diagnosis: ObjectName.refusal(name, of: "slot")) }
    }

    private static func ask(_ server: WireServer, _ words: [String]) throws(WireError) -> WireValue {
        let client = try WireClient(to: server)
        defer { client.close() }
        return try client.call(words.map { Array($0.utf8) })
    }
}
