import HoldfastCore
import HoldfastWAL
import Synchronization

/// The slots of a node, in memory and on the disk.
///
/// The log is kept from the lowest position that is *on the disk* here: after a crash a slot never stands before what was
/// kept. What followers say moves the position in memory; `persist` brings it to the disk.
/// `writing` serializes whoever changes files, and is taken before `table`, which is never held during I/O.
package final class SlotTable: Sendable {
    struct Entry {
        var slot: ReplicationSlot
        /// The position that the file has.
        var savedRestart: LSN
        var isDirty = false
    }

    private let writing = Mutex<Void>(())
    private let table: Mutex<[String: Entry]>
    private let storage: any EngineStorage
    private let observer = Mutex<(@Sendable (_ slot: String, _ reason: String) -> Void)?>(nil)

    /// Reads `slots/`. A damaged file is a slot that is invalid: no reason for a leader not to start.
    /// - Throws: `disk`, `newerFormat`.
    init(_ storage: any EngineStorage) throws(EngineError) {
        self.storage = storage
        var entries: [String: Entry] = [:]
        for (name, bytes) in try onDisk({ () throws(DiskError) in try storage.readSlots() })
        where ReplicationSlot.isValid(name) {
            let slot: ReplicationSlot
            if let sound = try ReplicationSlot(decoding: bytes, path: ReplicationSlot.path(name)) {
                slot = sound
            } else {
                var damaged = ReplicationSlot(timeline: storage.control.timeline, restart: .zero)
                damaged.invalidReason = "its file is damaged"
                slot = damaged
            }
            entries[name] = Entry(slot: slot, savedRestart: slot.restart)
        }
        table = Mutex(entries)
    }

    /// All, by name.
    package var all: [(name: String, slot: ReplicationSlot)] {
        table.withLock { $0.map { (name: $0.key, slot: $0.value.slot) } }.sorted { $0.name < $1.name }
    }

    package subscript(_ name: String) -> ReplicationSlot? { table.withLock { $0[name]?.slot } }

    /// Told, on any thread, when a slot is invalidated.
    package func observe(_ told: (@Sendable (_ slot: String, _ reason: String) -> Void)?) {
        observer.withLock { $0 = told }
    }

    /// The log is kept from here for slots; `nil`: none needs any.
    var keepFrom: LSN? {
        table.withLock { $0.values.filter { $0.slot.invalidReason == nil }.map(\.savedRestart).min() }
    }

    /// Makes a slot that keeps the log from what is certainly there now. Durable when it returns.
    func create(_ name: String) throws(EngineError) -> ReplicationSlot {
        guard ReplicationSlot.isValid(name) else { throw .invalidName(ObjectName.refusal(name, of: "slot")) }
        return try exclusively { () throws(EngineError) in
            guard self[name] == nil else { throw .slotExists(name) }
            // No recycling that is under way goes beyond the older control slot's redo point.
            let slot = ReplicationSlot(timeline: storage.control.timeline, restart: storage.oldestRedo)
            table.withLock { $0[name] = Entry(slot: slot, savedRestart: slot.restart) }
            do throws(DiskError) {
                try storage.writeSlot(name, slot.encoded())
            } catch {
                table.withLock { $0[name] = nil }
                throw .disk(error)
            }
            return slot
        }
    }

    /// Durable when it returns.
    func drop(_ name: String) throws(EngineError) {
        try exclusively { () throws(EngineError) in
            guard self[name] != nil else { throw .unknownSlot(name) }
            try onDisk { () throws(DiskError) in try storage.removeSlot(name) }
            table.withLock { $0[name] = nil }
        }
    }

    /// A follower begins at `lsn` under this slot. An invalid slot is valid again from there.
    func begin(_ name: String, node: String, timeline: TimelineID, at lsn: LSN) throws(EngineError) {
        let isKnown = table.withLock { table in
            guard var entry = table[name] else { return false }
            if entry.slot.invalidReason != nil {
                entry.slot.invalidReason = nil
                entry.slot.restart = max(lsn, entry.slot.restart)
                entry.slot.timeline = timeline
                entry.savedRestart = entry.slot.restart
            }
            entry.slot.node = node
            entry.isDirty = true
            table[name] = entry
            return true
        }
        guard isKnown else { throw .unknownSlot(name) }
        try persist(name)
    }

    /// The slot's follower has everything below `lsn` on its disk. In memory; a position never moves back.
    package func advance(_ name: String, timeline: TimelineID, to lsn: LSN) {
        table.withLock { table in
            guard let slot = table[name]?.slot, slot.invalidReason == nil, lsn > slot.restart else { return }
            table[name]!.slot.restart = lsn
            table[name]!.slot.timeline = timeline
            table[name]!.isDirty = true
        }
    }

    /// Brings what `advance` said to the disk, if it is not there.
    package func persist(_ name: String) throws(EngineError) {
        try exclusively { () throws(EngineError) in
            let dirty = table.withLock { table in
                defer { table[name]?.isDirty = false }
                return table[name].flatMap { $0.isDirty ? $0.slot : nil }
            }
            guard let dirty else { return }
            do throws(DiskError) {
                try storage.writeSlot(name, dirty.encoded())
                table.withLock { table in
                    guard let saved = table[name]?.savedRestart else { return }
                    table[name]!.savedRestart = max(saved, dirty.restart)
                }
            } catch {
                table.withLock { $0[name]?.isDirty = true }
                throw .disk(error)
            }
        }
    }

    /// Gives up the slots for which more log than `limit` bytes before `end` would be kept. That is on the disk before
    /// any log goes, unless it cannot be for want of space: then it must go all the same, and a follower that comes finds
    /// the segment missing.
    func invalidate(keepingMoreThan limit: Int, before end: LSN) throws(EngineError) {
        let over = table.withLock { table in
            var over: [(name: String, reason: String)] = []
            for (name, entry) in table
            where entry.slot.invalidReason == nil && end > entry.savedRestart && end - entry.savedRestart > limit {
                let reason = "it kept more than \(limit) bytes of WAL, from \(entry.savedRestart) to \(end)"
                table[name]!.slot.invalidReason = reason
                table[name]!.isDirty = true
                over.append((name, reason))
            }
            return over
        }
        guard !over.isEmpty else { return }
        let told = observer.withLock { $0 }
        for (name, reason) in over { told?(name, reason) }
        for (name, _) in over {
            do throws(EngineError) {
                try persist(name)
            } catch {
                guard case .disk(let disk) = error, disk.isNoSpace else { throw error }
            }
        }
    }

    private func exclusively<R: Sendable>(_ body: () throws(EngineError) -> R) throws(EngineError) -> R {
        let result: Result<R, EngineError> = writing.withLock { _ in
            do throws(EngineError) { return .success(try body()) } catch { return .failure(error) }
        }
        return try result.get()
    }
}
