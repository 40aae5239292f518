import HoldfastCore
import Synchronization

/// The control file's two slots on a disk. One writer at a time: the engine's checkpoint lock, or recovery, or
/// a restore that holds the directory's lock.
package final class ControlFile<D: Disk>: Sendable {
    private struct Slots {
        var sequence: UInt64
        /// By place; `nil`: not sound.
        var slots: [ControlData?]
    }

    private let disk: D
    private let file: D.File
    private let state: Mutex<Slots>

    /// Opens and reads `control`. Throws when it is missing, when no slot is sound, or when one is of a newer format.
    package init(opening disk: D) throws(EngineError) {
        self.disk = disk
        do throws(DiskError) {
            file = try disk.open(ControlData.path, .readWrite)
        } catch {
            if error.code == .noEntry { throw .notADataDirectory(disk.root) }
            throw .disk(error)
        }
        var slots: [ControlData?] = [nil, nil]
        var sequences: [UInt64] = [0, 0]
        var faults: [ControlFault] = []
        for place in 0..<2 {
            let bytes: [UInt8]
            do throws(DiskError) {
                bytes = try file.readBytes(count: ControlData.slotBytes, at: UInt64(place * ControlData.slotBytes))
            } catch { throw .disk(error) }
            do throws(ControlFault) {
                let (data, sequence) = try ControlData.decode(bytes)
                guard sequence % 2 == UInt64(place) else { throw .impossible("sequence \(sequence) in slot \(place)") }
                slots[place] = data
                sequences[place] = sequence
            } catch {
                if case .newerVersion(let version) = error { throw .newerFormat(ControlData.path, version) }
                faults.append(error)
            }
        }
        guard slots.contains(where: { $0 != nil }) else {
            throw .damagedControl(faults.map(\.description).joined(separator: "; "))
        }
        state = Mutex(Slots(sequence: sequences.max()!, slots: slots))
    }

    private init(_ disk: D, _ file: D.File, _ data: ControlData) {
        self.disk = disk
        self.file = file
        state = Mutex(Slots(sequence: 2, slots: [data, data]))
    }

    /// Makes `control` with both slots saying `data`; durable when it returns, its name included. It appears
    /// whole or not at all, and replaces what was there.
    package static func create(on disk: D, _ data: ControlData) throws(DiskError) -> ControlFile<D> {
        try disk.replaceAtomically(ControlData.path, with: data.encoded(sequence: 2) + data.encoded(sequence: 1))
        return ControlFile(disk, try disk.open(ControlData.path, .readWrite), data)
    }

    /// The newest sound slot.
    package var current: ControlData {
        state.withLock { $0.slots[Int($0.sequence % 2)]! }
    }

    /// WAL is kept from here: the lower redo point of the two slots.
    package var oldestRedo: LSN {
        state.withLock { $0.slots.compactMap { $0?.redo.lsn }.min()! }
    }

    /// Replaces the older slot; durable when it returns. A sync that fails is fatal to the caller.
    package func write(_ data: ControlData) throws(DiskError) {
        let sequence = state.withLock { $0.sequence + 1 }
        let place = Int(sequence % 2)
        try file.write(bytes: data.encoded(sequence: sequence), at: UInt64(place * ControlData.slotBytes))
        try file.sync()
        state.withLock {
            $0.sequence = sequence
            $0.slots[place] = data
        }
    }

    /// Replaces both slots, one after the other, each synced: first the one that is not current.
    package func writeBoth(_ data: ControlData) throws(DiskError) {
        try write(data)
        try write(data)
    }

    package func close() { file.close() }
}
