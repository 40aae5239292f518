import HoldfastCore
import HoldfastWAL

extension Engine {
    /// Makes a slot that keeps the log from the older redo point on. `name` as `ObjectName` allows. Durable when it returns.
    /// - Throws: `slotExists`, `invalidName`, `disk`.
    package func createSlot(_ name: String) throws -> ReplicationSlot {
        try checkOpen()
        return try stoppingIfUnsynced { () throws(EngineError) in try slots.create(name) }
    }

    /// The log that only this slot kept goes with the next checkpoint. Durable when it returns.
    /// - Throws: `unknownSlot`, `disk`.
    package func dropSlot(_ name: String) throws {
        try checkOpen()
        try stoppingIfUnsynced { () throws(EngineError) in try slots.drop(name) }
    }

    /// A follower begins to use a slot. Durable when it returns.
    /// - Throws: `unknownSlot`, `disk`.
    package func beginSlot(_ name: String, node: String, timeline: TimelineID, at lsn: LSN) throws {
        try checkOpen()
        try stoppingIfUnsynced { () throws(EngineError) in
            try slots.begin(name, node: node, timeline: timeline, at: lsn)
        }
    }

    /// Makes what a slot's follower has confirmed durable here, so that the log below may go.
    package func persistSlot(_ name: String) throws {
        try checkOpen()
        try stoppingIfUnsynced { () throws(EngineError) in try slots.persist(name) }
    }

    /// The bytes of log that slots may keep: beyond it they are invalidated.
    package var slotLimit: Int { options.slotWALBytes }

    /// Invalidates slots that keep more than they may. Cheap when none does.
    func boundSlots() throws(EngineError) {
        try stoppingIfUnsynced { () throws(EngineError) in
            try slots.invalidate(keepingMoreThan: options.slotWALBytes, before: log.appendedLSN)
        }
    }

    private func stoppingIfUnsynced<R>(_ body: () throws(EngineError) -> R) throws(EngineError) -> R {
        do throws(EngineError) {
            return try body()
        } catch {
            guard case .disk(let disk) = error, disk.isFailedSync, !disk.isNoSpace else { throw error }
            throw stopForGood(disk)
        }
    }
}
