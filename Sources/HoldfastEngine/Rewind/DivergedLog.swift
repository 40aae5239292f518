import HoldfastCore
import HoldfastWAL

/// What a node's own log holds behind a fork: the pages that it changed there and the transactions that did.
///
/// A commit counts when its *end* lies behind the fork: its pages bear that LSN, and no page on the disk is changed by one
/// that never became whole. One that began before the fork and ended behind it counts whole, so that a scan which meets
/// its later parts only (`beginsInsideCommit`) has missed something and must begin earlier.
struct DivergedLog {
    /// Where it ends, and why.
    private(set) var end: LogEnd
    private(set) var pages = PageSet()
    private(set) var lost = LostTransactions()
    /// One line of JSON for each commit.
    private(set) var list: [UInt8] = []
    /// The checkpoint with the greatest redo point that is not above the limit.
    private(set) var checkpoint: ReplayedCheckpoint?
    private(set) var beginsInsideCommit = false

    /// Reads the log of `reader` to its end.
    /// - Parameter limit: redo points above it are of no use.
    init<Source: SegmentSource>(_ reader: LogReader<Source>, fork: LSN, limit: LSN) throws(WALError) {
        let assembler = CommitAssembler()
        end = LogEnd(position: reader.position, timeline: reader.history.timeline, chain: nil, reason: .zeros)
        while let record = try reader.next() {
            if record.kind == .commit, !record.flags.contains(.begin), !assembler.isHolding {
                beginsInsideCommit = true
                continue
            }
            if let commit = try assembler.add(record) {
                if commit.end > fork { try add(commit) }
            } else if record.kind == .checkpoint {
                note(try ReplayedCheckpoint(record), limit)
            }
        }
        // `next` has returned nil, and says why.
        if let found = reader.end { end = found }
    }

    private mutating func note(_ found: ReplayedCheckpoint?, _ limit: LSN) {
        guard let found, found.redo <= limit, found.redo > checkpoint?.redo ?? .zero else { return }
        checkpoint = found
    }

    private mutating func add(_ commit: AssembledCommit) throws(WALError) {
        var changed: [String] = []
        var changes = commit.changes
        do throws(ImpossibleChange) {
            while let change = try changes.next() {
                _ = pages.insert(change.page)
                changed.append(change.page.description)
            }
        } catch {
            throw .invalid(at: commit.start, "\(error)")
        }
        lost.count += Int(clamping: commit.last.rawValue - commit.first.rawValue) + 1
        lost.first = lost.first ?? commit.end
        lost.last = commit.end
        let line =
            "{\"first_transaction\":\(commit.first),\"last_transaction\":\(commit.last),\"lsn\":\"\(commit.end)\","
            + "\"time\":\"\(Timestamp.text(microseconds: commit.time))\",\"timeline\":\(commit.timeline.rawValue),"
            + "\"pages\":[\(changed.joined(separator: ","))]}\n"
        list.append(contentsOf: line.utf8)
    }
}

extension ReplayedCheckpoint {
    /// `nil` for a record of another kind.
    init?(_ record: LogRecord) throws(WALError) {
        guard record.kind == .checkpoint,
            case .checkpoint(let redo, let timeline, let last, let time) = try RecordBody(decoding: record)
        else { return nil }
        self.init(
            redo: redo, timeline: timeline, start: record.start,
            end: LogPlace(lsn: record.end, chain: record.crc), lastTransaction: last, time: time)
    }
}

/// The segments of the node's own branch: its `wal/`, and below a limit the archive, which has what was recycled here. Used by
/// one thread.
final class OwnSegments<D: Disk>: SegmentSource {
    private let disk: D
    private let local: DiskSegmentSource<D>
    private let archive: (any RecoverySource)?
    /// What begins at or above it the node never knew to be durable: the archive's is not asked for.
    private let limit: LSN
    private var held: SegmentBuffer?
    /// Why the archive failed: the reader's own error cannot carry it.
    private(set) var failure: (any Error)?

    init(_ disk: D, _ archive: (any RecoverySource)?, below limit: LSN) {
        self.disk = disk
        self.archive = archive
        self.limit = limit
        local = DiskSegmentSource(disk: disk)
    }

    func find(_ name: SegmentName) throws(WALError) -> FoundSegment {
        do throws(DiskError) {
            if try disk.exists(name.walPath) { return .byReading }
        } catch { throw .disk(error) }
        guard let archive, name.segment.start < limit else { return .missing }
        do {
            held = nil
            guard let segment = try archive.segment(name, reusing: nil) else { return .missing }
            held = segment
            return .inMemory(segment.bytes)
        } catch {
            failure = error
            throw .invalid(at: name.segment.start, "the archive failed")
        }
    }

    func read(
        _ name: SegmentName, at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(WALError) -> Int? { try local.read(name, at: offset, into: buffer) }
}
