import HoldfastCore
import HoldfastWAL

/// Reads the log as its segment files hold it, for whoever has a copy of it elsewhere: along one timeline, to the place
/// where this node's history left it. Used by one thread at a time.
///
/// A segment may be recycled while it is read, when no slot keeps it. Its name goes before its first byte changes: so what
/// was read counts only if the name is still there afterwards.
///
/// Unchecked, because it is handed from the thread that made it to the one that reads, and never used by both.
package final class LogFeed: @unchecked Sendable {
    package let timeline: TimelineID
    /// Where the history goes on with another timeline; `nil`: it has not yet.
    package private(set) var end: LSN?
    private var history: TimelineHistory
    private let storage: any EngineStorage
    private let source: any SegmentSource
    private var file: SegmentName?

    /// - Parameter timeline: one of `history`.
    init(_ storage: any EngineStorage, history: TimelineHistory, timeline: TimelineID) {
        precondition(history.entry(timeline) != nil, "timeline \(timeline) is none of the history's")
        self.storage = storage
        self.history = history
        self.timeline = timeline
        end = history.end(of: timeline)
        source = storage.makeSegmentSource()
    }

    /// The node goes another way by now, which may end this timeline, or end it elsewhere.
    /// - Returns: `false` when this timeline is none of that way, or was left before `lsn`: nothing more is read.
    package func follow(_ newer: TimelineHistory, from lsn: LSN) -> Bool {
        guard newer != history else { return true }
        guard newer.entry(timeline)?.token == history.entry(timeline)?.token, lsn <= newer.end(of: timeline) ?? .max
        else { return false }
        history = newer
        end = newer.end(of: timeline)
        file = nil
        return true
    }

    /// Reads bytes from `lsn` on, to `limit` at most, until the buffer is full or the segment ends. `limit` must not
    /// lie behind what is durable.
    /// - Returns: the count, 0 where there is nothing to read; `nil` when the segment is not there any more.
    package func read(from lsn: LSN, limit: LSN, into buffer: UnsafeMutableRawBufferPointer) throws(EngineError) -> Int?
    {
        let number = SegmentNumber(containing: lsn)
        let stop = min(limit, end ?? .max, number.end)
        guard stop > lsn else { return 0 }
        let wanted = min(stop - lsn, buffer.count)
        guard let name = try name(of: number) else { return nil }
        let offset = LogLayout.offset(lsn)
        let target = UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted])
        let count = try onLog { () throws(WALError) in try source.read(name, at: offset, into: target) }
        guard let count, try onDisk({ () throws(DiskError) in try storage.hasSegment(name) }) else {
            file = nil
            return nil
        }
        guard count == wanted else {
            throw .log(
                Diagnosis(
                    "a WAL segment is short", at: "\(name.walPath) at \(offset + count)",
                    why: "the log is durable to \(limit)", next: "check the file system", status: .dataError))
        }
        if offset == 0, name.timeline != timeline { rename(UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])) }
        return count
    }

    /// Whether there is log to read at `lsn`, or it is the end, where there is none yet.
    package func hasLog(from lsn: LSN, limit: LSN) throws(EngineError) -> Bool {
        if min(limit, end ?? .max) <= lsn { return true }
        return try name(of: SegmentNumber(containing: lsn)) != nil
    }

    /// The file that holds a segment of this timeline: its own, or that of a later timeline which begins with the same
    /// bytes.
    private func name(of number: SegmentNumber) throws(EngineError) -> SegmentName? {
        if let file, file.segment == number { return file }
        file = nil
        for entry in history.entries where entry.timeline >= timeline && entry.switchLSN < number.end {
            let name = SegmentName(timeline: entry.timeline, segment: number)
            if try onDisk({ () throws(DiskError) in try storage.hasSegment(name) }) {
                file = name
                break
            }
        }
        return file
    }

    /// The header of a later timeline's copy becomes the one that this timeline's file has: all but the header is the same.
    private func rename(_ bytes: UnsafeMutableRawBufferPointer) {
        guard bytes.count >= LogLayout.segmentHeaderBytes, let base = bytes.baseAddress,
            var header = try? SegmentHeader(reading: base), let entry = history.entry(timeline)
        else { return }
        header.identity.timeline = timeline
        header.identity.token = entry.token
        header.write(to: base)
    }
}
