import HoldfastCore
import HoldfastWAL

/// The segments that a follower replays: what it is receiving, from memory; what lies in its `wal/`; else the archive's.
/// Used by the replaying thread.
final class FollowerSegments<D: Disk>: SegmentSource {
    private let disk: D
    private let local: DiskSegmentSource<D>
    let source: any FollowerSource
    /// What is received now.
    var received: ReceivedLog<D>?
    private var lent: LentSegment?
    /// A segment of the archive, in memory; a local file of the same segment is not looked at while it is.
    private var held: (name: SegmentName, segment: SegmentBuffer)?
    /// The segment whose local file ends too early.
    private var fromArchive: SegmentNumber?
    /// Why the archive failed: the reader's own error cannot carry it.
    private var failure: (any Error)?
    /// Notes durably that the log was here up to there: from now on the archive alone has it.
    var willLeaveToArchive: ((LSN) throws(EngineError) -> Void)?

    init(_ disk: D, _ source: any FollowerSource) {
        self.disk = disk
        self.source = source
        local = DiskSegmentSource(disk: disk)
    }

    /// The archive's failure behind an error of the reader; told once, so that a later error is not taken for one of it.
    func takeFailure() -> (any Error)? {
        defer { failure = nil }
        return failure
    }

    func find(_ name: SegmentName) throws(WALError) -> FoundSegment {
        if let held, held.name == name { return .inMemory(held.segment.bytes) }
        if let bytes = received?.find(name, for: &lent) { return .inMemory(bytes) }
        if fromArchive != name.segment, try isLocal(name) { return .byReading }
        // While a stream brings the log the archive is not asked: replay would pass what is being received, and leave a file
        // of it that is never whole.
        if received != nil { return .missing }
        return try fetch(name).map { .inMemory($0.bytes) } ?? .missing
    }

    func read(
        _ name: SegmentName, at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(WALError) -> Int? { try local.read(name, at: offset, into: buffer) }

    private func isLocal(_ name: SegmentName) throws(WALError) -> Bool {
        do throws(DiskError) { return try disk.exists(name.walPath) } catch { throw .disk(error) }
    }

    private func fetch(_ name: SegmentName) throws(WALError) -> SegmentBuffer? {
        // The reader, which asks for another one, looks at the one before no longer. One of the same number, under another
        // timeline's name, may yet be the one that is read.
        var spent: SegmentBuffer?
        if held?.name.segment != name.segment {
            spent = held?.segment
            held = nil
        }
        failure = nil
        do {
            guard let segment = try source.segment(name, reusing: spent) else { return nil }
            held = (name, segment)
            return segment
        } catch {
            failure = error
            throw .invalid(at: name.segment.start, "the archive failed")
        }
    }

    /// The log ended inside a segment, or before it: takes the archive's, if it has one that goes on along this history.
    func takeFromArchive(at position: LSN, _ history: TimelineHistory) throws -> Bool {
        local.forget()
        let number = SegmentNumber(containing: position)
        // An older timeline's file of the segment goes another way from here on.
        let timeline = history.timeline(at: position)
        // What ended is the archive's own, or it was asked for a moment ago.
        if let held, held.name.segment == number { return false }
        do {
            for entry in history.entries.reversed()
            where entry.timeline >= timeline && entry.switchLSN < number.end {
                guard let found = try fetch(SegmentName(timeline: entry.timeline, segment: number)) else { continue }
                // Of this timeline, and not of another node's that has the number in the archive: only then the local file may
                // go.
                guard found.bytes.count >= LogLayout.segmentHeaderBytes, let base = found.bytes.baseAddress,
                    let header = try? SegmentHeader(reading: base),
                    header.identity.token == entry.token
                else {
                    held = nil
                    continue
                }
                try willLeaveToArchive?(position)
                fromArchive = number
                try removeLocal(number)
                return true
            }
        } catch let error as WALError {
            throw takeFailure() ?? error
        }
        return false
    }

    /// The file in `wal/` was made ahead of a stream, or came in part, and the archive has it whole: so every segment there
    /// that was read, and is not the one being received, is whole. Later ones stay: they may hold log that was confirmed.
    private func removeLocal(_ number: SegmentNumber) throws {
        try onDisk { () throws(DiskError) in
            let names = try disk.list("wal").compactMap { SegmentName($0) }.filter { $0.segment == number }
            for name in names {
                // Of an earlier life of this node as a leader.
                try disk.removeMarks(of: name)
                try disk.remove(name.walPath)
            }
            if !names.isEmpty { try disk.syncDirectory("wal") }
        }
    }

    /// Nothing of the archive is looked at any more: the log goes on behind it.
    func forgetArchive() {
        held = nil
        fromArchive = nil
        lent = nil
        local.forget()
    }
}
