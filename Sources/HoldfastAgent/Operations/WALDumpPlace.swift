import HoldfastCore
import HoldfastEngine
import HoldfastRepository
import HoldfastWAL

/// Where a dump finds its log: a way to read it, along which history, and when its end is no surprise.
struct WALDumpPlace<Source: SegmentSource> {
    /// For messages: a path, or what the archive is.
    var name: String
    var source: Source
    var system: SystemIdentifier
    var history: TimelineHistory
    /// The first segment's start.
    var first: LSN
    /// Behind the last segment's name; of it or of the log, whichever comes first.
    var last: LSN
    /// Below this the log may not end, whatever the reason.
    var mustReach: LSN
    /// A log that is being written ends with whatever its segment held before.
    var isLive: Bool

    /// The position to read from, so that everything from `lsn` on is met.
    func start(for lsn: LSN?) throws(WALDumpError) -> LSN {
        guard let lsn else { return first }
        guard lsn >= first, lsn < last else {
            throw .noWAL(name, "\(lsn) is asked for, and it holds \(first) to \(last)")
        }
        return SegmentNumber(containing: lsn).start
    }

    /// What is wrong with an end; `nil`: it is where it may be.
    func fault(_ end: LogEnd) -> String? {
        if end.position >= last { return nil }
        if end.position >= mustReach {
            switch end.reason {
            case .zeros, .missingSegment: return nil
            default: if isLive { return nil }
            }
        }
        return "its records end at \(end.position): \(end.reason)"
    }
}

extension WALDumpPlace where Source == MemorySegmentSource {
    /// One segment's bytes.
    /// - Parameter history: the history file of its timeline; without it a segment in which its timeline begins cannot be
    ///   read from its start, since what lies before is its parent's.
    static func segment(
        _ bytes: [UInt8], named place: String, history: (TimelineID) throws -> [UInt8]?
    ) throws -> WALDumpPlace {
        guard bytes.count >= LogLayout.segmentHeaderBytes, bytes.count <= SegmentNumber.bytes else {
            throw WALDumpError.notASegment(place, "it has \(bytes.count) bytes")
        }
        let header = try WALDump.header(bytes, place)
        let number = SegmentNumber(containing: header.firstLSN)
        let name = SegmentName(timeline: header.identity.timeline, segment: number)
        return WALDumpPlace(
            name: place, source: MemorySegmentSource([name: bytes]), system: header.identity.system,
            history: try WALDump.history(header.identity, history(header.identity.timeline)), first: number.start,
            last: number.end, mustReach: number.start, isLive: false)
    }
}

extension WALDumpPlace where Source == DiskSegmentSource<RealDisk> {
    /// A data directory's `wal/`, whoever uses it. A damaged control file is no hindrance.
    static func directory(_ path: String, timeline: UInt32?) throws -> WALDumpPlace {
        let disk = try RealDisk(root: path)
        guard try disk.exists("wal") else { throw EngineError.notADataDirectory(path) }
        let control = try? ControlSlots(of: disk).current()
        let names = try disk.list("wal").compactMap { SegmentName($0) }
        let place = printable(path, limit: 300)
        guard
            let chosen = timeline.map({ TimelineID($0) }) ?? control?.timeline ?? names.map(\.timeline).max(),
            let sample = names.first(where: { $0.timeline == chosen })
        else { throw WALDumpError.noWAL(place, "it has no segment" + (timeline.map { " of timeline \($0)" } ?? "")) }
        let file = try disk.open(sample.walPath, .read)
        defer { file.close() }
        let header = try WALDump.header(
            file.readBytes(count: LogLayout.segmentHeaderBytes, at: 0), "\(place)/\(sample.walPath)")
        let historyPath = TimelineHistory.walPath(chosen)
        let history = try WALDump.history(
            header.identity, disk.exists(historyPath) ? disk.readAll(historyPath) : nil)
        let onHistory = names.filter { $0.timeline == history.timeline(ofFile: $0.segment) }.map(\.segment)
        guard let first = onHistory.min(), let last = onHistory.max() else {
            throw WALDumpError.noWAL(place, "it has no segment of timeline \(chosen.rawValue)")
        }
        let known = control.flatMap { $0.timeline == chosen ? $0.knownDurableEnd : nil }
        return WALDumpPlace(
            name: place, source: DiskSegmentSource(disk: disk), system: header.identity.system, history: history,
            first: first.start, last: last.end, mustReach: known ?? first.start, isLive: true)
    }
}

extension WALDumpPlace where Source == ArchivedLog {
    /// The archive's segments of one timeline and of those that led to it.
    static func archive(_ configuration: Configuration, timeline: UInt32?) throws -> WALDumpPlace {
        let access = ClusterAccess(configuration)
        let repository = try access.repository()
        let archive = try access.archive(repository)
        let inventory = try archive.inventory().filter { $0.segments > 0 }
        let place = "the archive of \(try configuration.requiredCluster())"
        guard let chosen = timeline.map({ TimelineID($0) }) ?? inventory.last?.timeline,
            let own = inventory.first(where: { $0.timeline == chosen }), let sample = own.first
        else { throw WALDumpError.noWAL(place, "it has no segment" + (timeline.map { " of timeline \($0)" } ?? "")) }
        let header = try WALDump.header(archive.fetchExisting(sample), sample.description)
        let history = try WALDump.history(header.identity, repository.history(chosen))
        var first = sample.segment
        // Back along the history for as long as nothing is missing.
        while first.rawValue > 0 {
            let before = SegmentNumber(first.rawValue - 1)
            guard inventory.first(where: { $0.timeline == history.timeline(ofFile: before) })?.contains(before) == true
            else { break }
            first = before
        }
        // A gap is met by the reader, which stops there: it is what must be told.
        let last = own.last?.segment.end ?? first.end
        return WALDumpPlace(
            name: place, source: ArchivedLog(archive), system: header.identity.system, history: history,
            first: first.start, last: last, mustReach: last, isLive: false)
    }
}

/// The archive's segments, one at a time in memory. Used by one thread.
final class ArchivedLog: SegmentSource {
    private let archive: WALArchive
    private var held: (name: SegmentName, bytes: [UInt8])?
    /// Why the archive failed: the reader's own error cannot carry it.
    private(set) var failure: (any Error)?

    init(_ archive: WALArchive) { self.archive = archive }

    func read(
        _ name: SegmentName, at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(WALError) -> Int? {
        if held?.name != name {
            held = nil
            do {
                guard let bytes = try archive.fetch(name) else { return nil }
                held = (name, bytes)
            } catch {
                failure = error
                throw .invalid(at: name.segment.start, "the archive failed")
            }
        }
        guard let bytes = held?.bytes else { return nil }
        let count = max(0, min(buffer.count, bytes.count - offset))
        if count > 0 { buffer.copyBytes(from: bytes[offset..<offset + count]) }
        return count
    }
}
