import HoldfastCore

extension LogWriter {
    /// Makes every byte below `lsn` durable, which must not lie behind `appendedLSN`. Blocks; any thread.
    ///
    /// The first to come takes all that waits, writes and syncs it on its own thread; who comes meanwhile waits,
    /// and one of those takes the next batch.
    package func flush(through lsn: LSN) throws(WALError) {
        if durableLSN >= lsn { return }
        monitor.lock()
        while true {
            if let failure {
                monitor.unlock()
                throw .poisoned(failure)
            }
            if durableLSN >= lsn {
                monitor.unlock()
                return
            }
            if isFlushing {
                monitor.wait()
                continue
            }
            precondition(lsn <= appendedLSN, "flush through \(lsn), but the log ends at \(appendedLSN)")
            try flushBatch()
        }
    }

    /// Takes everything that waits and makes it durable. Called and left with the lock held, but when it throws.
    private func flushBatch() throws(WALError) {
        isFlushing = true
        let batch = filling
        filling = spare
        let mark = durableLSN
        let end = appendedLSN
        let wanted = points
        monitor.unlock()

        var found: [(lsn: LSN, chain: UInt32?)] = []
        var completed: [SegmentName] = []
        do throws(DiskError) {
            for index in batch.chunks.indices {
                let chunk = batch.chunks[index]
                stamp(chunk, of: batch, mark: mark, wanted: wanted, found: &found)
                try write(chunk, of: batch)
                if planted(.readyBeforeDurable), LogLayout.offset(chunk.end) == 0, options.isArchiving {
                    _ = try? markReady([files.name(SegmentNumber(containing: chunk.lsn))])
                }
                let isComplete = LogLayout.offset(chunk.end) == 0
                // A segment is durable before its successor is written.
                let isLeftOut = planted(.skipLogSync) || planted(.skipCompletedSegmentSync) && isComplete
                if isComplete || index == batch.chunks.count - 1, !isLeftOut {
                    try files.segment(SegmentNumber(containing: chunk.lsn)).file.sync()
                }
                if isComplete { completed.append(files.name(SegmentNumber(containing: chunk.lsn))) }
            }
        } catch {
            let isSwallowed =
                error.isFailedSync ? planted(.swallowFailedSync) : planted(.swallowShortWrite)
            if !isSwallowed { throw poison(error) }
        }

        monitor.lock()
        batch.reset()
        spare = batch
        isFlushing = false
        markBits.store(mark.rawValue, ordering: .releasing)
        durableBits.store(end.rawValue, ordering: .releasing)
        if !points.isEmpty {
            for index in points.indices where points[index].chain == nil {
                // Points taken while this ran may lie at its end.
                points[index].chain =
                    found.first { $0.lsn == points[index].lsn }?.chain ?? (points[index].lsn == end ? chain : nil)
            }
        }
        monitor.wakeAll()
        guard let last = completed.last else { return }
        monitor.unlock()
        files.retire(last.segment)
        // What cannot be marked now is kept in mind; `prepareAhead` tries again and reports it.
        if options.isArchiving { _ = try markReady(completed) }
        monitor.lock()
    }

    /// Stamps mark, chain and CRC of a chunk's records, and the header of a segment that it begins.
    private func stamp(
        _ chunk: LogBuffer.Chunk, of batch: LogBuffer, mark: LSN, wanted: [(lsn: LSN, chain: UInt32?)],
        found: inout [(lsn: LSN, chain: UInt32?)]
    ) {
        let base = batch.base + chunk.offset
        var at = 0
        if LogLayout.offset(chunk.lsn) == 0 {
            SegmentHeader(identity: identity, firstLSN: chunk.lsn, chain: chain).write(to: base)
            at = LogLayout.segmentHeaderBytes
        }
        while at < chunk.bytes {
            let header = RecordHeader(base + at)
            let length = header.length
            header.mark = planted(.markTooFar) ? chunk.lsn + at : mark
            header.previousCRC = chain
            if LogLayout.aligned(length) <= chunk.bytes - at {
                chain = checksum.of(base + at, length: length)
            } else {
                // A closing filler: only its header is in memory.
                chain = checksum.ofHeader(base + at, zeros: length - LogLayout.recordHeaderBytes)
            }
            header.crc = chain
            at += min(LogLayout.aligned(length), chunk.bytes - at)
            if !wanted.isEmpty {
                let end = at < chunk.bytes ? chunk.lsn + at : chunk.end
                if wanted.contains(where: { $0.lsn == end }) { found.append((end, chain)) }
            }
        }
    }

    private func write(_ chunk: LogBuffer.Chunk, of batch: LogBuffer) throws(DiskError) {
        let segment = files.segment(SegmentNumber(containing: chunk.lsn))
        let offset = LogLayout.offset(chunk.lsn)
        try segment.file.write(
            UnsafeRawBufferPointer(start: batch.base + chunk.offset, count: chunk.bytes), at: UInt64(offset))
        guard chunk.fill > 0, !segment.isZeroed else { return }
        var at = offset + chunk.bytes
        let end = at + chunk.fill
        while at < end {
            let zeros = ZeroBytes.buffer(end - at)
            try segment.file.write(zeros, at: UInt64(at))
            at += zeros.count
        }
    }

    // MARK: Archive status

    /// Marks complete, durable segments `.ready`, durably, with those that could not be marked before. Returns why
    /// some could not now (want of space, say): they are kept in mind. A failed sync is fatal.
    func markReady(_ names: [SegmentName]) throws(WALError) -> DiskError? {
        let due = locked {
            defer { unmarked = [] }
            return unmarked + names
        }
        var done = 0
        var obstacle: DiskError?
        do throws(DiskError) {
            for name in due {
                try files.disk.open(name.readyPath, .createOrOpen).close()
                done += 1
            }
        } catch {
            obstacle = error
            let rest = Array(due[done...])
            locked { unmarked = rest + unmarked }
        }
        if done > 0 {
            do throws(DiskError) {
                try files.disk.syncDirectory("wal/archive_status")
            } catch {
                // One that was not begun (no descriptor is left, say) has lied about nothing: it is tried again.
                guard error.operation == "open directory" else { throw poison(error) }
                locked { unmarked = Array(due[..<done]) + unmarked }
                return error
            }
        }
        return obstacle
    }

    /// Marks the segments that a crash left complete but unmarked.
    func markCompleted(below position: LSN) throws(WALError) {
        let due = try onDisk { () throws(DiskError) in
            let names = try files.disk.list("wal").compactMap { SegmentName($0) }
                .filter { $0.timeline == identity.timeline && $0.segment.end <= position }
            let marked = Set(try files.disk.list("wal/archive_status"))
            return names.filter { !marked.contains("\($0).ready") && !marked.contains("\($0).done") }
        }
        _ = try markReady(due)
    }
}
