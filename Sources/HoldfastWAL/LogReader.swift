import HoldfastCore

/// Reads records in order, along a timeline history, and says precisely how the log ended.
///
/// A record is handed out only when it verifies at its own place, on its timeline, in its cluster, *and* follows
/// the record before it. Where a timeline begins inside a segment, the newest timeline's file of the segment is
/// read (it begins with a copy of its parent's bytes), its parent's when there is none.
/// No allocation per record. Used by one thread at a time.
package final class LogReader<Source: SegmentSource> {
    package let source: Source
    package let history: TimelineHistory
    /// The position behind the last record read, in canonical form.
    package private(set) var position: LSN
    /// The CRC of the last record before `position`; `nil` until one is known.
    package private(set) var chain: UInt32?
    /// The greatest mark seen, `.zero` before the first record.
    package private(set) var greatestMark = LSN.zero
    /// Set when `next` returned `nil`.
    package private(set) var end: LogEnd?

    private let system: SystemIdentifier
    /// Where segments are read to that the source does not hold in memory; made for the first of them.
    private var buffer: UnsafeMutableRawPointer?
    private var loaded: SegmentName?
    /// The loaded segment's bytes: in the buffer, or the source's own.
    private var base = ZeroBytes.base
    /// How many of them are there, from its start.
    private var filled = 0
    private var isInMemory = false
    private var checksum: RecordChecksum
    private var timeline: TimelineID
    private var timelineEnd: LSN
    private static var readAhead: Int { 1 << 20 }

    /// - Parameters:
    ///   - start: a position between records: where one ended, or a segment's start.
    ///   - chain: the CRC of the record that ends at `start`; `nil` to take the first record's word for it.
    package init(
        source: Source, system: SystemIdentifier, history: TimelineHistory, from start: LSN, chain: UInt32?
    ) {
        self.source = source
        self.system = system
        self.history = history
        self.chain = chain
        position = LogLayout.canonical(start)
        timeline = history.timeline(at: position)
        timelineEnd = history.end(of: timeline) ?? .max
        checksum = RecordChecksum(system: system, timeline: timeline)
    }

    deinit { buffer?.deallocate() }

    /// The next record, a view that is valid until the next call; `nil` when none follows: `end` says why.
    /// May be called again after `nil`: what was written since is then found.
    ///
    /// Throws `disk` for a read error, `newerFormat`, and `invalid` for a sound record of an unknown kind.
    package func next() throws(WALError) -> LogRecord? {
        end = nil
        // The last timeline has no end, not even at the last LSN.
        while position >= timelineEnd, timelineEnd < .max { enterTimeline(history.timeline(at: position)) }
        let number = SegmentNumber(containing: position)
        if loaded?.segment != number || loaded!.timeline < timeline {
            if let reason = try load(number) { return finish(reason) }
        }
        let at = LogLayout.offset(LogLayout.firstRecord(atOrAfter: position))
        let start = number.start + at
        guard try fill(to: at + LogLayout.recordHeaderBytes) else { return finish(.shortSegment) }
        let header = RecordHeader(reading: base + at)
        let length = header.length
        // Bounded before anything is read or checked: by the segment, and but for fillers by the longest record.
        guard length >= LogLayout.recordHeaderBytes, LogLayout.aligned(length) <= SegmentNumber.bytes - at,
            length <= LogLayout.maximumRecordBytes || header.rawKind == RecordKind.filler.rawValue
        else {
            return finish(headerIsZero(at) ? .zeros : .length(UInt32(truncatingIfNeeded: length)))
        }
        guard header.lsn == start else { return finish(.wrongLSN(header.lsn)) }
        guard try fill(to: at + LogLayout.aligned(length)) else { return finish(.shortSegment) }
        let crc = header.crc
        let isSound = checksum.of(base + at, length: length) == crc || planted(.ignoreTailCRC)
        guard isSound else { return finish(.checksum) }
        let follows = chain == nil || header.previousCRC == chain || planted(.chainIgnored)
        guard follows else { return finish(.doesNotFollow) }
        guard let kind = RecordKind(rawValue: header.rawKind) else {
            throw .invalid(at: start, "its kind \(header.rawKind) is unknown to this version")
        }
        let mark = header.mark
        guard mark <= start else { throw .invalid(at: start, "its mark \(mark) lies behind it") }
        if mark > greatestMark { greatestMark = mark }
        chain = crc
        let end = start + LogLayout.aligned(length)
        position = LogLayout.canonical(end)
        return LogRecord(
            start: start, end: end, timeline: timeline, kind: kind, flags: header.flags, mark: mark, crc: crc,
            previousCRC: header.previousCRC,
            body: UnsafeRawBufferPointer(
                start: base + at + LogLayout.recordHeaderBytes, count: length - LogLayout.recordHeaderBytes))
    }

    private func enterTimeline(_ next: TimelineID) {
        timeline = next
        timelineEnd = history.end(of: next) ?? .max
        checksum = RecordChecksum(system: system, timeline: next)
    }

    /// Loads the header of segment `number` from the newest timeline that has it and may be read here.
    private func load(_ number: SegmentNumber) throws(WALError) -> LogEndReason? {
        forget()
        for entry in history.entries.reversed() where entry.timeline >= timeline && entry.switchLSN < number.end {
            let name = SegmentName(timeline: entry.timeline, segment: number)
            guard try begin(name) else { continue }
            guard filled >= LogLayout.segmentHeaderBytes else { return .shortSegment }
            let header: SegmentHeader
            do throws(SegmentHeaderFault) {
                header = try SegmentHeader(reading: base)
            } catch {
                if case .newerVersion(let version) = error { throw .newerFormat(place: name.walPath, version: version) }
                return isZero(0, LogLayout.segmentHeaderBytes) ? .zeros : .segmentHeader
            }
            if let what = mismatch(header, entry, number) { return .foreignSegment(what) }
            loaded = name
            return nil
        }
        return .missingSegment
    }

    /// Looks at no segment any more: memory that the source lent may be used for another.
    private func forget() {
        loaded = nil
        (base, filled, isInMemory) = (ZeroBytes.base, 0, false)
    }

    /// Makes a segment's first bytes present; `false` when there is no such segment.
    private func begin(_ name: SegmentName) throws(WALError) -> Bool {
        switch try source.find(name) {
        case .missing: return false
        case .inMemory(let bytes):
            guard let start = bytes.baseAddress else { return false }
            (base, filled, isInMemory) = (start, min(bytes.count, SegmentNumber.bytes), true)
        case .byReading:
            let buffer = buffer ?? .allocate(byteCount: SegmentNumber.bytes, alignment: 4096)
            self.buffer = buffer
            (base, filled, isInMemory) = (UnsafeRawPointer(buffer), 0, false)
            guard let count = try source.read(name, at: 0, into: window(0)) else { return false }
            filled = count
        }
        return true
    }

    private func mismatch(_ header: SegmentHeader, _ entry: TimelineHistory.Entry, _ number: SegmentNumber) -> String? {
        if header.identity.system != system { return "one of the cluster \(header.identity.system)" }
        if header.identity.timeline != entry.timeline { return "one of timeline \(header.identity.timeline)" }
        if header.identity.token != entry.token {
            return "one of another timeline \(entry.timeline) (token \(header.identity.token))"
        }
        if header.firstLSN != number.start { return "an old one, of \(header.firstLSN)" }
        if position == number.start, let chain, header.chain != chain { return "one that does not follow" }
        if position == number.start, chain == nil { chain = header.chain }
        return nil
    }

    private func window(_ offset: Int) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(
            start: buffer.map { $0 + offset }, count: min(Self.readAhead, SegmentNumber.bytes - offset))
    }

    /// Makes the segment's first `bytes` bytes present.
    @inline(__always)
    private func fill(to bytes: Int) throws(WALError) -> Bool {
        while filled < bytes {
            guard !isInMemory, let name = loaded, let count = try source.read(name, at: filled, into: window(filled)),
                count > 0
            else { return false }
            filled += count
        }
        return true
    }

    private func isZero(_ from: Int, _ count: Int) -> Bool {
        ZeroBytes.equal(base + from, count)
    }

    private func headerIsZero(_ at: Int) -> Bool { isZero(at, LogLayout.recordHeaderBytes) }

    /// Notes the end. What was read is forgotten: the next call looks anew.
    private func finish(_ reason: LogEndReason) -> LogRecord? {
        forget()
        end = LogEnd(position: position, timeline: timeline, chain: chain, reason: reason)
        return nil
    }
}
