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
        let read: ControlSlots
        do throws(DiskError) { read = try ControlSlots(reading: file) } catch { throw .disk(error) }
        _ = try read.current()
        // One is sound, or there would be no current one.
        let sequence = read.slots.compactMap(\.sequence).max()!
        state = Mutex(Slots(sequence: sequence, slots: read.slots.map(\.data)))
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
        if planted(.walFromNewerSlot) { return current.redo.lsn }
        return state.withLock { $0.slots.compactMap { $0?.redo.lsn }.min()! }
    }

    /// Replaces the older slot; durable when it returns. A sync that fails is fatal to the caller.
    package func write(_ data: ControlData) throws(DiskError) {
        let sequence = state.withLock { $0.sequence + 1 }
        let place = Int(sequence % 2)
        try file.write(bytes: data.encoded(sequence: sequence), at: UInt64(place * ControlData.slotBytes))
        if !planted(.skipControlSync) { try file.sync() }
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
