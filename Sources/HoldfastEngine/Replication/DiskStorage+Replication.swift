import HoldfastCore
import HoldfastWAL

/// What replication needs of the data directory: segments, histories and slots.
extension DiskStorage {
    func makeSegmentSource() -> any SegmentSource { DiskSegmentSource(disk: disk) }

    func hasSegment(_ name: SegmentName) throws(DiskError) -> Bool { try disk.exists(name.walPath) }

    func timelineHistory() throws -> TimelineHistory { try RecoveryPlan.history(disk, control) }

    func readSlots() throws(DiskError) -> [String: [UInt8]] {
        guard try disk.exists(ReplicationSlot.directory) else { return [:] }
        var slots: [String: [UInt8]] = [:]
        for name in try disk.list(ReplicationSlot.directory) {
            let path = ReplicationSlot.directory + "/" + name
            // Left by a crash during a replacement: the slot is there under its own name, or was never made.
            if name.hasSuffix(ReplicationSlot.temporary) {
                try disk.remove(path)
            } else {
                slots[name] = try disk.readAll(path, limit: ReplicationSlot.largestFile)
            }
        }
        return slots
    }

    func writeSlot(_ name: String, _ bytes: [UInt8]) throws(DiskError) {
        if try !disk.exists(ReplicationSlot.directory) {
            try disk.createDirectory(ReplicationSlot.directory)
            try disk.syncDirectory("")
        }
        try disk.replaceAtomically(ReplicationSlot.path(name), with: bytes)
    }

    func removeSlot(_ name: String) throws(DiskError) {
        let path = ReplicationSlot.path(name)
        guard try disk.exists(path) else { return }
        try disk.remove(path)
        try disk.syncDirectory(ReplicationSlot.directory)
    }
}
