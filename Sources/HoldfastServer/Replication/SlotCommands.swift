import HoldfastCore
import HoldfastEngine
import HoldfastWire

/// `SLOT CREATE name`, `SLOT DROP name`, `SLOT LIST`.
struct SlotCommands: Sendable {
    let engine: Engine
    let inUse: SlotsInUse
    let followers: [FollowerReport]

    func run(_ words: [String], _ out: ReplyWriter) throws {
        switch (words[1].uppercased(), words.count) {
        case ("CREATE", 3):
            let slot = try engine.createSlot(words[2])
            out.fields([
                ("name", .simple(words[2])), ("timeline", .integer(Int64(slot.timeline.rawValue))),
                ("restart_lsn", .simple(slot.restart.description)),
            ])
        case ("DROP", 3):
            guard try inUse.whileFree(words[2], { try engine.dropSlot(words[2]) }) != nil else {
                return out.error(ReplicateError.slotInUse(words[2]).reply)
            }
            out.ok()
        case ("LIST", 2):
            let slots = engine.slots.all
            out.array(slots.count)
            for (name, slot) in slots { out.fields(fields(name, slot)) }
        case ("CREATE", _), ("DROP", _), ("LIST", _): out.error(Replies.arity("slot|\(words[1].lowercased())"))
        default:
            out.error(
                "ERR unknown subcommand '\(printable(words[1]))'. Try CREATE name, DROP name, LIST for SLOT.")
        }
    }

    private func fields(_ name: String, _ slot: ReplicationSlot) -> [(name: String, value: WireValue)] {
        let follower = followers.first { $0.slot == name }
        let isValid = slot.invalidReason == nil
        func position(_ lsn: LSN?) -> WireValue { .simple(lsn.map(\.description) ?? "") }
        let end = engine.appendedLSN
        return [
            ("name", .simple(name)), ("timeline", .integer(Int64(slot.timeline.rawValue))),
            ("restart_lsn", .simple(slot.restart.description)), ("active", .boolean(follower != nil)),
            ("node", .simple(slot.node)),
            ("kept_bytes", .integer(isValid && end > slot.restart ? Int64(end - slot.restart) : 0)),
            ("invalid", .boolean(!isValid)), ("invalid_reason", .simple(slot.invalidReason ?? "")),
            ("written_lsn", position(follower?.positions.written)),
            ("flushed_lsn", position(follower?.positions.flushed)),
            ("applied_lsn", position(follower?.positions.applied)),
            ("lag_bytes", .integer(Int64(follower?.lagBytes ?? 0))),
        ]
    }
}
