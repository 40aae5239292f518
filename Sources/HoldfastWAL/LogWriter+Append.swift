import HoldfastCore

extension LogWriter {
    /// Makes sure that a commit of `bytes` of payload, with what goes around it, has room in segments that exist.
    /// The only place where want of space is met: throws `disk` (`isNoSpace`) before anything has changed.
    package func reserve(bytes: Int) throws(WALError) {
        // Each part and each segment's end cost at most 256 bytes; a witness may come before and behind it.
        let parts = bytes / LogLayout.maximumRecordBytes + bytes / SegmentNumber.bytes * 2 + 4
        let end = appendedLSN + (bytes + parts * 256 + 4 * LogLayout.blockBytes)
        try make(through: SegmentNumber(containing: end))
    }

    /// Appends the changes collected in `commit` as one commit of the transactions `first ... last`.
    /// - Parameter time: microseconds since 1970; raised to the latest time in the log if it lies below.
    /// - Returns: `end` is the commit's LSN: durable after `flush(through: end)`.
    package func append(
        commit: CommitBuilder, first: TransactionID, last: TransactionID, time: Int64
    ) throws(WALError) -> AppendedRecord {
        precondition(first <= last)
        try reserve(bytes: commit.bytes)
        let payload = commit.payload
        var sent = 0
        var start: LSN?
        while true {
            let at = LogLayout.firstRecord(atOrAfter: appendedLSN)
            let room = min(SegmentNumber.bytes - LogLayout.offset(at), LogLayout.maximumRecordBytes)
            let left = payload.count - sent
            let whole = LogLayout.recordHeaderBytes + CommitFormat.trailerBytes + left
            var flags: RecordFlags = start == nil ? .begin : []
            if whole <= room {
                flags.insert(.commit)
                var stamped = time
                let end = try put(.commit, flags, bodyBytes: whole - LogLayout.recordHeaderBytes) { body in
                    stamped = max(time, lastTime)
                    lastTime = stamped
                    body.storeBytes(of: first.rawValue, toByteOffset: 0, as: UInt64.self)
                    body.storeBytes(of: last.rawValue, toByteOffset: 8, as: UInt64.self)
                    body.storeBytes(of: stamped, toByteOffset: 16, as: Int64.self)
                    body.storeBytes(of: UInt64(payload.count), toByteOffset: 24, as: UInt64.self)
                    copy(payload, sent, left, to: body + CommitFormat.trailerBytes)
                }
                return AppendedRecord(start: start ?? at, end: end, time: stamped)
            }
            let bytes = min(room - LogLayout.recordHeaderBytes, left)
            if bytes < 64 {
                // Not worth a part: it begins (or goes on) in the next segment.
                try closeSegment()
                continue
            }
            _ = try put(.commit, flags, bodyBytes: bytes) { body in copy(payload, sent, bytes, to: body) }
            start = start ?? at
            sent += bytes
            if planted(.redoPointInsideCommit) {
                locked {
                    insideCommit = appendedLSN
                    points.append((appendedLSN, nil))
                }
            }
        }
    }

    /// Appends a record with a body of its own. Its time is raised to the latest in the log if it lies below.
    package func append(_ body: RecordBody) throws(WALError) -> AppendedRecord {
        var stamped = body
        stamped.time = locked {
            lastTime = max(lastTime, body.time)
            return lastTime
        }
        let bytes = stamped.encoded()
        try makeRoom(bytes: bytes.count)
        let start = LogLayout.firstRecord(atOrAfter: appendedLSN)
        let end = try bytes.withRawBytes { raw throws(WALError) in
            try put(stamped.kind, [], bodyBytes: raw.count) { place in copy(raw, 0, raw.count, to: place) }
        }
        return AppendedRecord(start: start, end: end, time: stamped.time)
    }

    /// `true` when something was appended since the last witness (or since the writer was opened).
    package var needsWitness: Bool { locked { !lastIsWitness } }

    /// Appends an empty record at the start of the next 4 KiB block. Its mark is what is durable when the batch that
    /// it is in is flushed: flush first, append it, and flush again.
    package func appendWitness() throws(WALError) -> LSN {
        try make(through: SegmentNumber(containing: appendedLSN + 2 * LogLayout.blockBytes))
        let at = LogLayout.firstRecord(atOrAfter: appendedLSN)
        let offset = LogLayout.offset(at)
        var gap = (LogLayout.blockBytes - offset % LogLayout.blockBytes) % LogLayout.blockBytes
        if offset > LogLayout.segmentHeaderBytes, gap > 0 {
            if gap < LogLayout.recordHeaderBytes { gap += LogLayout.blockBytes }
            if offset + gap >= SegmentNumber.bytes {
                try closeSegment()
            } else {
                let bytes = gap - LogLayout.recordHeaderBytes
                _ = try put(.filler, [], bodyBytes: bytes) { body in
                    body.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
                }
            }
        }
        return try put(.witness, [], bodyBytes: 0) { _ in }
    }

    /// Closes the segment, if anything is in it. Returns where the log goes on: a segment's start.
    package func switchSegment() throws(WALError) -> LSN {
        guard LogLayout.offset(appendedLSN) > 0 else { return appendedLSN }
        _ = try put(.segmentSwitch, [], bodyBytes: 0) { _ in }
        if LogLayout.offset(appendedLSN) > 0 { try closeSegment() }
        return appendedLSN
    }

    /// Closes the segment when the rest of it cannot hold a record of `bytes` of body.
    private func makeRoom(bytes: Int) throws(WALError) {
        let offset = LogLayout.offset(LogLayout.firstRecord(atOrAfter: appendedLSN))
        let length = LogLayout.aligned(LogLayout.recordHeaderBytes + bytes)
        precondition(length <= LogLayout.maximumRecordBytes)
        if SegmentNumber.bytes - offset < length {
            // Both or neither: want of space is met before the filler.
            try make(through: SegmentNumber(containing: appendedLSN).next)
            try closeSegment()
        }
    }

    /// Appends the filler up to the segment's end; only its header is held in memory.
    private func closeSegment() throws(WALError) {
        let offset = LogLayout.offset(LogLayout.firstRecord(atOrAfter: appendedLSN))
        _ = try put(.filler, [], bodyBytes: 0, zeros: SegmentNumber.bytes - offset - LogLayout.recordHeaderBytes) { _ in
        }
    }

    /// Appends one record that fits in the current segment: room in memory is made by flushing what waits.
    func put(
        _ kind: RecordKind, _ flags: RecordFlags, bodyBytes: Int, zeros: Int = 0,
        _ write: (UnsafeMutableRawPointer) -> Void
    ) throws(WALError) -> LSN {
        let position = appendedLSN
        try make(through: SegmentNumber(containing: position))
        let start = LogLayout.firstRecord(atOrAfter: position)
        let length = LogLayout.recordHeaderBytes + bodyBytes
        let bytes = LogLayout.aligned(length)
        let needed = bytes + (start - position)
        monitor.lock()
        while filling.free < needed, failure == nil {
            monitor.unlock()
            try flush(through: position)
            monitor.lock()
        }
        defer { monitor.unlock() }
        if let failure { throw .poisoned(failure) }
        let place = filling.extend(at: position, bytes: needed) + (start - position)
        RecordHeader(place).prepare(length: length + zeros, lsn: start, kind: kind, flags: flags)
        write(place + LogLayout.recordHeaderBytes)
        (place + length).initializeMemory(as: UInt8.self, repeating: 0, count: bytes - length)
        // The rest of a segment that is too short for a header belongs to its last record.
        let end = start + bytes + zeros
        let next = LogLayout.canonical(end)
        if zeros + (next - end) > 0 { filling.fill(zeros + (next - end)) }
        if kind == .witness { lastIsWitness = true } else if kind != .filler { lastIsWitness = false }
        appendedBits.store(next.rawValue, ordering: .releasing)
        return end
    }

    private func copy(_ source: UnsafeRawBufferPointer, _ from: Int, _ count: Int, to place: UnsafeMutableRawPointer) {
        if count > 0 { place.copyMemory(from: source.baseAddress! + from, byteCount: count) }
    }
}

extension [UInt8] {
    /// `withUnsafeBytes` for bodies with a typed throw.
    func withRawBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
        let result: Result<R, E> = withUnsafeBytes { raw in
            do throws(E) { return .success(try body(raw)) } catch { return .failure(error) }
        }
        return try result.get()
    }
}
