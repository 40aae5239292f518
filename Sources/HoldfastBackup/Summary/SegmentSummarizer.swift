import HoldfastCore
import HoldfastRepository
import HoldfastWAL

/// Reads a complete segment from end to end and says what is in it. Every record must verify and follow the one
/// before it up to the segment's last byte: a segment that does not is refused, since archiving it would only look
/// like safety.
///
/// A commit belongs to the segment in which it ends, with all its pages. Its parts may begin in earlier segments;
/// those are read as well. When one of them is not to be had any more, the summary says that every page may have
/// changed: never too little.
package struct SegmentSummarizer {
    private let name: SegmentName
    private let bytes: [UInt8]
    private let header: SegmentHeader
    private let history: TimelineHistory

    /// - Parameters:
    ///   - history: the bytes of the timeline's history, `nil` when it has none (a first timeline).
    package init(_ name: SegmentName, _ bytes: [UInt8], history: [UInt8]?) throws {
        guard bytes.count == SegmentNumber.bytes else {
            throw ArchiverError.notWhole(name, why: "it has \(bytes.count) bytes instead of \(SegmentNumber.bytes)")
        }
        do throws(SegmentHeaderFault) {
            let read: Result<SegmentHeader, SegmentHeaderFault> = bytes.withUnsafeBytes { buffer in
                // The segment is not empty.
                do throws(SegmentHeaderFault) {
                    return .success(try SegmentHeader(reading: buffer.baseAddress!))
                } catch { return .failure(error) }
            }
            header = try read.get()
        } catch {
            if case .newerVersion(let version) = error {
                throw WALError.newerFormat(place: name.walPath, version: version)
            }
            throw ArchiverError.notWhole(name, why: "it does not begin with a segment's header")
        }
        guard header.identity.timeline == name.timeline, header.firstLSN == name.segment.start else {
            throw ArchiverError.notWhole(
                name, why: "its header says timeline \(header.identity.timeline), first LSN \(header.firstLSN)")
        }
        self.name = name
        self.bytes = bytes
        self.history =
            try history.map { try TimelineHistory(decoding: $0) }
            ?? TimelineHistory(first: header.identity.token, timeline: name.timeline)
        guard let entry = self.history.entry(name.timeline), entry.token == header.identity.token else {
            throw ArchiverError.notWhole(name, why: "its token is not the one in its timeline's history")
        }
    }

    /// What its header says of where it comes from.
    package var identity: LogIdentity { header.identity }

    /// - Parameter earlier: the bytes of an earlier segment on the history; `nil` when it is not to be had.
    package func summarize(earlier: (SegmentName) throws -> [UInt8]?) throws -> SegmentSummary {
        var source = MemorySegmentSource([name: bytes])
        var start = name.segment
        var isPartial = false
        // Back to where the commit begins of which the segment's first part is a continuation.
        if try !beginsCommit(first: name.segment, source) {
            repeat {
                let before = SegmentNumber(start.rawValue - 1)
                let candidate = SegmentName(timeline: history.timeline(ofFile: before), segment: before)
                guard before.rawValue > 0, let found = try earlier(candidate) else {
                    isPartial = true
                    start = name.segment
                    source.segments = [name: bytes]
                    break
                }
                source.segments[candidate] = found
                start = before
            } while try !holdsBeginning(start, source)
        }
        return try read(from: start, source, isPartial: isPartial)
    }

    private func reader(from segment: SegmentNumber, _ source: MemorySegmentSource) -> LogReader<MemorySegmentSource> {
        LogReader(source: source, system: header.identity.system, history: history, from: segment.start, chain: nil)
    }

    /// `false` when the segment's first part of a commit continues one of an earlier segment.
    private func beginsCommit(first segment: SegmentNumber, _ source: MemorySegmentSource) throws -> Bool {
        let reader = reader(from: segment, source)
        while let record = try reader.next(), record.start < segment.end {
            if record.kind == .commit { return record.flags.contains(.begin) }
            if record.kind != .filler { return true }
        }
        return true
    }

    private func holdsBeginning(_ segment: SegmentNumber, _ source: MemorySegmentSource) throws -> Bool {
        let reader = reader(from: segment, source)
        while let record = try reader.next(), record.start < segment.end {
            if record.kind == .commit && record.flags.contains(.begin) { return true }
        }
        return false
    }

    private func read(
        from start: SegmentNumber, _ source: MemorySegmentSource, isPartial: Bool
    ) throws -> SegmentSummary {
        let reader = reader(from: start, source)
        let assembler = CommitAssembler()
        var pages: Set<UInt32> = []
        var commits: SegmentSummary.Commits?
        var records: SegmentSummary.Records?
        var points: [SegmentSummary.RestorePoint] = []
        var hasBegun = false
        while let record = try reader.next() {
            if record.kind == .commit && record.flags.contains(.begin) { hasBegun = true }
            // Parts whose beginning is not to be had belong to nothing that could be assembled.
            let orphan = record.kind == .commit && !hasBegun
            let commit = orphan ? nil : try assembler.add(record)
            guard record.start >= name.segment.start else { continue }
            records = SegmentSummary.Records(first: records?.first ?? record.start, end: record.end)
            if let commit {
                var changes = commit.changes
                while let change = try changes.next() { pages.insert(change.page.rawValue) }
                note(
                    first: commit.first, last: commit.last, time: commit.time, end: commit.end, in: &commits)
            } else if orphan, record.flags.contains(.commit) {
                try noteOrphan(record, in: &commits)
            } else if record.kind == .restorePoint,
                case .restorePoint(let point, let time) = try RecordBody(decoding: record)
            {
                points.append(.init(name: point, lsn: record.end, time: Timestamp(microseconds: time)))
            }
        }
        guard let end = reader.end, end.position == name.segment.end, end.reason == .missingSegment else {
            let place = reader.end.map { "\($0.position): \($0.reason)" } ?? "an unknown place"
            throw ArchiverError.notWhole(name, why: "its records end at \(place)")
        }
        return SegmentSummary(
            segment: name, systemIdentifier: header.identity.system, token: header.identity.token,
            bytes: bytes.count, sha256: SHA256Digest(of: bytes),
            crc32c: bytes.withUnsafeBytes { SegmentSummary.checksum(of: $0) }, records: records, commits: commits,
            pageRuns: isPartial
                ? [.init(first: PageNumber(0), count: UInt32.max)]
                : SegmentSummary.runs(ofSorted: pages.sorted()),
            restorePoints: points)
    }

    /// The last part of a commit whose beginning is gone still says which transactions it was.
    private func noteOrphan(_ record: LogRecord, in commits: inout SegmentSummary.Commits?) throws {
        guard record.body.count >= CommitFormat.trailerBytes else {
            throw ArchiverError.notWhole(name, why: "the commit that ends at \(record.end) has no trailer")
        }
        note(
            first: TransactionID(record.body.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
            last: TransactionID(record.body.loadUnaligned(fromByteOffset: 8, as: UInt64.self)),
            time: record.body.loadUnaligned(fromByteOffset: 16, as: Int64.self), end: record.end, in: &commits)
    }

    private func note(
        first: TransactionID, last: TransactionID, time: Int64, end: LSN, in commits: inout SegmentSummary.Commits?
    ) {
        let time = Timestamp(microseconds: time)
        var next =
            commits
            ?? .init(
                count: 0, firstTransaction: first, lastTransaction: last, firstTime: time, lastTime: time,
                firstEnd: end, lastEnd: end)
        next.count += 1
        next.lastTransaction = last
        next.lastTime = time
        next.lastEnd = end
        commits = next
    }
}
