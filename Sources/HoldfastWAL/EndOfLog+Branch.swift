import HoldfastCore

extension EndOfLog {
    /// Begins a timeline inside a segment: makes the new timeline's own file of the segment that holds `switchLSN`,
    /// with the parent's bytes below it, zeros from there, and a header of its own. Durable when it returns.
    /// Nothing to do where the switch lies at a segment's start. A crash meanwhile only repeats it.
    ///
    /// - Parameter history: the new timeline's; its last entry says where it begins.
    package func branch(_ history: TimelineHistory) throws(WALError) {
        let entry = history.current
        let position = LogLayout.canonical(entry.switchLSN)
        let offset = LogLayout.offset(position)
        guard offset > 0 else { return }
        let number = SegmentNumber(containing: position)
        let target = SegmentName(timeline: entry.timeline, segment: number)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: SegmentNumber.bytes, alignment: 4096)
        defer { memory.deallocate() }
        let source = DiskSegmentSource(disk: disk)
        for parent in history.entries.dropLast().reversed() where parent.switchLSN < number.end {
            let name = SegmentName(timeline: parent.timeline, segment: number)
            guard let count = try source.read(name, at: 0, into: memory) else { continue }
            guard count >= offset, let base = memory.baseAddress,
                let header = try? SegmentHeader(reading: base), header.firstLSN == number.start,
                header.identity.system == system, header.identity.token == parent.token
            else { throw .invalid(at: number.start, "\(name) cannot be continued on timeline \(entry.timeline)") }
            SegmentHeader(
                identity: LogIdentity(system: system, timeline: entry.timeline, token: entry.token),
                firstLSN: number.start, chain: header.chain
            ).write(to: base)
            let kept = planted(.seedlessRecordCRC) ? SegmentNumber.bytes : offset
            (base + kept).initializeMemory(as: UInt8.self, repeating: 0, count: SegmentNumber.bytes - kept)
            try onDisk { () throws(DiskError) in
                try write(UnsafeRawBufferPointer(memory), to: target.walPath)
            }
            return
        }
        throw .invalid(at: number.start, "no ancestor of timeline \(entry.timeline) has segment \(number)")
    }

    /// Whole and durable under its name, or not there.
    private func write(_ bytes: UnsafeRawBufferPointer, to path: String) throws(DiskError) {
        let temporary = path + ".tmp"
        if try disk.exists(temporary) { try disk.remove(temporary) }
        let file = try disk.open(temporary, .create)
        defer { file.close() }
        try file.write(bytes, at: 0)
        try file.sync()
        try disk.rename(temporary, to: path)
        try disk.syncDirectory("wal")
    }
}
