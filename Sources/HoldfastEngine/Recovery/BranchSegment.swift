import HoldfastCore
import HoldfastWAL

/// Makes the file of the segment in which a timeline begins, of the bytes that its parent has there: those in `wal/`, or the
/// archive's, which are borrowed for it.
struct BranchSegment<D: Disk> {
    let disk: D
    let system: SystemIdentifier
    let source: any RecoverySource

    /// Nothing to do where `position`, the last timeline's beginning or a place in its first segment, has its file already, or
    /// is a segment's start. Durable when it returns; a crash meanwhile only repeats it.
    func make(_ history: TimelineHistory, at position: LSN, replacing isReplaced: Bool = false) throws {
        let position = LogLayout.canonical(position)
        guard LogLayout.offset(position) > 0 else { return }
        let number = SegmentNumber(containing: position)
        if !isReplaced, try exists(SegmentName(timeline: history.timeline, segment: number)) { return }
        var borrowed: SegmentName?
        for parent in history.entries.dropLast().reversed() where parent.switchLSN < number.end {
            let name = SegmentName(timeline: parent.timeline, segment: number)
            if try exists(name) { break }
            guard let segment = try source.segment(name, reusing: nil) else { continue }
            try onDisk { () throws(DiskError) in
                try disk.replaceAtomically(name.walPath, with: Array(segment.bytes))
            }
            borrowed = name
            break
        }
        try onLog { () throws(WALError) in try EndOfLog(disk: disk, system: system).branch(history) }
        if let borrowed {
            try onDisk { () throws(DiskError) in
                try disk.remove(borrowed.walPath)
                try disk.syncDirectory("wal")
            }
        }
    }

    private func exists(_ name: SegmentName) throws(EngineError) -> Bool {
        try onDisk { () throws(DiskError) in try disk.exists(name.walPath) }
    }
}
