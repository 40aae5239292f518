import HoldfastCore

/// The two slots of a control file as they are read: each sound or not, and why. Nothing is chosen but the newest.
package struct ControlSlots: Sendable {
    package enum Slot: Sendable {
        case sound(ControlData, sequence: UInt64)
        case damaged(ControlFault)

        package var data: ControlData? { if case .sound(let data, _) = self { data } else { nil } }
        package var sequence: UInt64? { if case .sound(_, let sequence) = self { sequence } else { nil } }
        package var fault: ControlFault? { if case .damaged(let fault) = self { fault } else { nil } }
    }

    /// By place.
    package let slots: [Slot]

    /// The place of the newest sound slot; `nil`: both are damaged.
    package var inUse: Int? {
        slots.indices.filter { slots[$0].sequence != nil }.max { slots[$0].sequence! < slots[$1].sequence! }
    }

    /// Reads the slots of an open control file.
    package init(reading file: some DiskFile) throws(DiskError) {
        var slots: [Slot] = []
        for place in 0..<2 {
            let bytes = try file.readBytes(count: ControlData.slotBytes, at: UInt64(place * ControlData.slotBytes))
            do throws(ControlFault) {
                let (data, sequence) = try ControlData.decode(bytes)
                guard sequence % 2 == UInt64(place) else { throw .impossible("sequence \(sequence) in slot \(place)") }
                slots.append(.sound(data, sequence: sequence))
            } catch {
                slots.append(.damaged(error))
            }
        }
        self.slots = slots
    }

    /// Reads the slots of a data directory's control file, and writes nothing.
    /// - Throws: `notADataDirectory`, `disk`.
    package init(of disk: some Disk) throws(EngineError) {
        do throws(DiskError) {
            let file = try disk.open(ControlData.path, .read)
            defer { file.close() }
            self = try ControlSlots(reading: file)
        } catch {
            if error.code == .noEntry { throw .notADataDirectory(disk.root) }
            throw .disk(error)
        }
    }

    /// The newest sound slot's data.
    /// - Throws: `damagedControl` when there is none, `newerFormat` when either slot is of a later version.
    package func current() throws(EngineError) -> ControlData {
        for case .newerVersion(let version)? in slots.map(\.fault) { throw .newerFormat(ControlData.path, version) }
        guard let inUse, let data = slots[inUse].data else {
            let faults = slots.indices.map { "slot \($0): \(slots[$0].fault?.description ?? "")" }
            throw .damagedControl(faults.joined(separator: "; "))
        }
        return data
    }

    /// What is wrong with the pair although one of them can be used. After an orderly stop there is nothing; a crash may
    /// leave the slot that was being written torn.
    package var problems: [String] {
        guard let inUse else { return [] }
        let other = 1 - inUse
        switch slots[other] {
        case .damaged(let fault): return ["slot \(other) is damaged: \(fault); slot \(inUse) is in use"]
        case .sound(let data, let sequence):
            var problems: [String] = []
            if let own = slots[inUse].sequence, own - sequence != 1 {
                problems.append(
                    "slot \(other) is an old copy, or slot \(inUse) another's: their sequence numbers are \(sequence) and "
                        + "\(own), and one follows the other")
            }
            if let own = slots[inUse].data, own.system != data.system {
                problems.append("the slots are of two clusters, \(own.system) in use and \(data.system)")
            }
            return problems
        }
    }
}
