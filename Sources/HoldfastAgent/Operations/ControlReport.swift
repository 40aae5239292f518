import HoldfastCore
import HoldfastEngine

/// `holdfast control`: both slots of the control file in words. Nothing is locked, and nothing written: a running server
/// may change it the next moment.
package enum ControlReport {
    private typealias Fields = [(key: String, value: JSONValue)]

    /// - Throws: `notADataDirectory`, `newerFormat`, `damagedControl` with both slots named.
    package static func run(_ path: String) throws -> Report {
        let path = WorkingDirectory.absolute(path)
        let slots = try ControlSlots(of: RealDisk(root: path))
        let current = try slots.current()
        let inUse = slots.inUse ?? 0
        let problems = slots.problems
        let descriptions = slots.slots.indices.map { describe(slots.slots[$0], isInUse: $0 == inUse) }
        let json: Fields =
            [(key: "data", value: .string(path)), (key: "slot", value: JSONValue(inUse))] + fields(current)
            + [
                (key: "slots", value: .array(descriptions.map { .object($0) })),
                (
                    key: "problems",
                    value: .array(problems.map { ["object": .string(ControlData.path), "problem": .string($0)] })
                ),
            ]
        return Report(
            text: text(path, descriptions, problems), json: .object(json), status: problems.isEmpty ? .done : .dataError
        )
    }

    private static func describe(_ slot: ControlSlots.Slot, isInUse: Bool) -> Fields {
        switch slot {
        case .sound(let data, let sequence):
            return [
                (key: "slot_state", value: isInUse ? "in use" : "older"),
                (key: "sequence", value: .integer(Int64(clamping: sequence))),
            ] + fields(data)
        case .damaged(let fault):
            return [(key: "slot_state", value: "damaged"), (key: "fault", value: .string(fault.description))]
        }
    }

    private static func fields(_ control: ControlData) -> Fields {
        var fields: Fields = [
            (key: "state", value: .string(word(control.state))),
            (key: "system_identifier", value: .string(control.system.description)),
            (key: "timeline", value: .integer(Int64(control.timeline.rawValue))),
            (key: "timeline_token", value: .string(control.token.description)),
            (key: "archiving", value: .boolean(control.isArchiving)),
            (key: "checkpoint_lsn", value: .init(control.checkpointLSN)),
            (key: "checkpoint_time", value: time(control.checkpointTime)),
            (key: "redo_lsn", value: .init(control.redo.lsn)),
            (key: "redo_timeline", value: .integer(Int64(control.redo.timeline.rawValue))),
            (key: "redo_chain", value: .init(control.redoChain.map { hexadecimal(UInt64($0), digits: 8) })),
            (key: "known_durable_end", value: .init(control.knownDurableEnd)),
            (key: "greatest_redo_lsn", value: .init(control.greatestRedo)),
            (key: "own_from", value: position(control.ownFrom)),
            (key: "minimum_recovery_point", value: position(control.minimumRecoveryPoint)),
            (key: "last_transaction", value: .integer(Int64(clamping: control.lastTransaction.rawValue))),
            (key: "last_commit_time", value: time(control.lastCommitTime)),
        ]
        if let demand = control.demand {
            fields.append(
                (
                    key: "demanded",
                    value: [
                        "timeline": .integer(Int64(demand.timeline.rawValue)), "start_lsn": .init(demand.start),
                        "stop_lsn": .init(demand.stop),
                    ]
                ))
        }
        if !control.command.isEmpty { fields.append((key: "unfinished_command", value: .string(control.command))) }
        return fields
    }

    /// A column for each slot; the first is place 0.
    private static func text(_ path: String, _ slots: [Fields], _ problems: [String]) -> String {
        var table = TextTable([("FIELD", .left), ("SLOT 0", .left), ("SLOT 1", .left)])
        var keys: [String] = []
        for key in slots.flatMap({ $0.map(\.key) }) where !keys.contains(key) { keys.append(key) }
        for key in keys {
            table.add(
                [key]
                    + slots.map { fields in
                        guard let value = fields.first(where: { $0.key == key })?.value, value != .null else {
                            return ""
                        }
                        if case .string(let text) = value { return text }
                        return value.text()
                    })
        }
        return "control file of \(terminalSafe(path))\n" + table.text
            + problems.map { "problem: \(terminalSafe($0))\n" }.joined()
    }

    private static func word(_ state: ControlData.State) -> String {
        switch state {
        case .stopped: "stopped"
        case .running: "running"
        case .restoring: "restore in progress"
        case .recovering: "recovering"
        }
    }

    private static func time(_ microseconds: Int64) -> JSONValue {
        microseconds == 0 ? .null : .string(Timestamp.text(microseconds: microseconds))
    }

    private static func position(_ position: ControlData.Position?) -> JSONValue {
        position.map { ["timeline": .integer(Int64($0.timeline.rawValue)), "lsn": .init($0.lsn)] } ?? .null
    }
}
