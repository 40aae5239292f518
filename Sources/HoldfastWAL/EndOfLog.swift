import HoldfastCore

/// What shows how far a log had been durable, beside the log itself.
package struct EndEvidence: Sendable, Equatable {
    /// The control file's known durable end: every byte below it was durable. At least the last switch point of
    /// the history, where the log up to there is this node's own.
    package var knownDurableEnd: LSN
    /// From where on this node wrote the log itself: marks of its records count from here. `nil`: nowhere.
    package var ownFrom: OwnFrom?
    /// The durable receive position, for a log that was received.
    package var receivedThrough: LSN?

    package struct OwnFrom: Sendable, Equatable {
        package var timeline: TimelineID
        package var lsn: LSN
        package init(timeline: TimelineID, lsn: LSN) {
            self.timeline = timeline
            self.lsn = lsn
        }
    }

    package init(knownDurableEnd: LSN, ownFrom: OwnFrom?, receivedThrough: LSN? = nil) {
        self.knownDurableEnd = knownDurableEnd
        self.ownFrom = ownFrom
        self.receivedThrough = receivedThrough
    }
}

package enum EndVerdict: Equatable, Sendable {
    /// The log ends here: nothing shows that more of it had been durable.
    case end
    /// What lies between was received and durable, and is to be fetched again.
    case fetchAgain(from: LSN, through: LSN)
}

/// Decides whether the place where a reader stopped is the end of the log, and makes it one.
///
/// Replay ends at the first place where no record follows. That is a torn tail only if nothing shows that the
/// place had been durable; otherwise acknowledged data is damaged, and the node must not start. It shows in
/// the control file's known durable end, and in a record anywhere behind the place whose mark lies beyond it.
package struct EndOfLog<D: Disk> {
    let disk: D
    let system: SystemIdentifier

    package init(disk: D, system: SystemIdentifier) {
        self.disk = disk
        self.system = system
    }

    /// - Throws: `damaged` when the end cannot be believed; `disk` for a read error, which is never an end.
    package func judge(_ end: LogEnd, _ evidence: EndEvidence) throws(WALError) -> EndVerdict {
        if let received = evidence.receivedThrough, end.position < received {
            return .fetchAgain(from: end.position, through: received)
        }
        if planted(.damageTakenForEnd) { return .end }
        if end.position < LogLayout.canonical(evidence.knownDurableEnd) {
            throw .damaged(end, evidence: .knownDurable(evidence.knownDurableEnd))
        }
        let names = try segments()
        if end.reason == .missingSegment,
            let later = names.first(where: { $0.timeline == end.timeline && $0.segment > end.segment.segment })
        {
            throw .damaged(end, evidence: .laterSegment(later))
        }
        guard let own = evidence.ownFrom else { return .end }
        for name in names where name.timeline == own.timeline && name.segment >= end.segment.segment {
            if let found = try laterRecord(in: name, end: end.position, from: max(end.position, own.lsn)) {
                throw .damaged(end, evidence: found)
            }
        }
        return .end
    }

    /// Zeroes what lies behind the end in its segment and removes later segments of its timeline, all synced.
    /// New log may be written at the end afterwards. A crash meanwhile only repeats it.
    package func clearBehind(_ end: LogEnd) throws(WALError) {
        let names = try segments().filter { $0.timeline == end.timeline }
        let isLeft = planted(.noZeroing) || planted(.chainIgnored)
        if end.segmentOffset > 0, names.contains(end.segment), !isLeft {
            try zero(end.segment, from: end.segmentOffset)
        }
        // From the top, each synced: a crash leaves no gap behind which segments remain.
        let first = end.segmentOffset > 0 ? end.segment.segment.next : end.segment.segment
        for name in names.reversed() where name.segment >= first {
            try onDisk { () throws(DiskError) in
                try disk.remove(name.walPath)
                if !planted(.unsyncedSegmentRemoval) { try disk.syncDirectory("wal") }
            }
        }
    }

    /// Removes the segments that `timeline` filled beyond its switch point: they belong to no history of this node.
    /// The one that holds the switch point stays until it is recycled.
    package func removeBeyondSwitch(_ timeline: TimelineID, at switchLSN: LSN) throws(WALError) {
        for name in try segments().reversed()
        where name.timeline == timeline && name.segment.start >= switchLSN {
            try onDisk { () throws(DiskError) in
                try disk.removeMarks(of: name)
                try disk.remove(name.walPath)
                try disk.syncDirectory("wal")
            }
        }
    }

    /// The segment files in `wal/`, sorted by timeline and number.
    package func segments() throws(WALError) -> [SegmentName] {
        try onDisk { () throws(DiskError) in try disk.list("wal") }.compactMap { SegmentName($0) }.sorted()
    }

    /// A sound record at or past `from` in `name` with a mark beyond `end`, searched at every 8-byte position.
    private func laterRecord(in name: SegmentName, end: LSN, from: LSN) throws(WALError) -> DamageEvidence? {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: SegmentNumber.bytes, alignment: 4096)
        defer { memory.deallocate() }
        let count = try onDisk { () throws(DiskError) in
            let file = try disk.open(name.walPath, .read)
            defer { file.close() }
            return try file.read(into: memory, at: 0)
        }
        let checksum = RecordChecksum(system: system, timeline: name.timeline)
        let start = name.segment.start
        var at = max(LogLayout.segmentHeaderBytes, from > start ? LogLayout.aligned(LogLayout.offset(from)) : 0)
        if from >= name.segment.end { return nil }
        while at + LogLayout.recordHeaderBytes <= count {
            // No record begins in a block's rest that is zero: its length would be.
            let rest = min(LogLayout.blockBytes - at % LogLayout.blockBytes, count - at)
            if at % LogLayout.blockBytes == 0, ZeroBytes.equal(memory.baseAddress! + at, rest) {
                at += rest
                continue
            }
            let header = RecordHeader(memory.baseAddress! + at)
            // The own LSN turns away all but one in 2^64 of what is not a record of this place.
            if header.lsn == start + at, header.mark > end {
                let length = header.length
                if length >= LogLayout.recordHeaderBytes, LogLayout.aligned(length) <= count - at,
                    checksum.of(header.base, length: length) == header.crc
                {
                    return .laterRecord(at: start + at, mark: header.mark)
                }
            }
            at += 8
        }
        return nil
    }

    /// Writes zeros where there are none, and syncs.
    private func zero(_ name: SegmentName, from offset: Int) throws(WALError) {
        let piece = 64 << 10
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: piece, alignment: 4096)
        defer { memory.deallocate() }
        try onDisk { () throws(DiskError) in
            let file = try disk.open(name.walPath, .readWrite)
            defer { file.close() }
            var at = offset
            while at < SegmentNumber.bytes {
                let wanted = min(piece - at % piece, SegmentNumber.bytes - at)
                let count = try file.read(
                    into: UnsafeMutableRawBufferPointer(rebasing: memory[..<wanted]), at: UInt64(at))
                if count < wanted || !ZeroBytes.equal(memory.baseAddress!, wanted) {
                    try file.write(ZeroBytes.buffer(wanted), at: UInt64(at))
                }
                at += wanted
            }
            try file.sync()
        }
    }
}
