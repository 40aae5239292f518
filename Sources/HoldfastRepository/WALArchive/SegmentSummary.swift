import CShims
import HoldfastCore

/// What a segment holds, kept beside it as `<segment>.summary` and written before it. It depends on the segment's
/// plain bytes alone, so that a push that is repeated makes the same summary. This is the one place that defines it
/// (little-endian; times are microseconds since 1970-01-01 UTC; 0 where there is no commit):
///
///     offset  bytes  field
///          0      8  "HOLDFSUM"
///          8      4  format version: 2 (1, without the CRC32C of the segment, was never released)
///         12      4  CRC32C over bytes 16 ..< end
///         16      8  system identifier
///         24      8  the timeline's token
///         32      8  segment number
///         40      4  timeline
///         44      4  bytes of the segment: 16,777,216
///         48     32  SHA-256 of the segment's plain bytes
///         80      4  CRC32C of the segment's plain bytes
///         84      4  0
///         88      8  start of the first record in it (0: none)
///         96      8  end of the last record in it (0: none)
///        104      8  commits that end in it
///        112      8  first transaction committed in it
///        120      8  last transaction
///        128      8  time of the first commit
///        136      8  time of the last commit
///        144      8  end of the first commit
///        152      8  end of the last commit
///        160      4  number of page runs
///        164      4  number of restore points
///        168         page runs, ascending, neither touching nor overlapping: first page 4, pages 4
///                    restore points, in order: end LSN 8, time 8, length of the name 2, the name
package struct SegmentSummary: Equatable, Sendable {
    package static let version: UInt32 = 2
    private static let magic: UInt64 = 0x4D55_5346_444C_4F48  // "HOLDFSUM", little-endian
    private static let headBytes = 168
    /// More than any summary has: a run for every second page that 16 MiB of records can name, and the names.
    package static let limitBytes = 32 << 20

    package var segment: SegmentName
    package var systemIdentifier: SystemIdentifier
    package var token: TimelineToken
    package var bytes: Int
    package var sha256: SHA256Digest
    package var crc32c: UInt32
    /// `nil` when there is no record in the segment.
    package var records: Records?
    /// `nil` when no commit ends in the segment.
    package var commits: Commits?
    package var pageRuns: [PageRun]
    package var restorePoints: [RestorePoint]

    /// Start of the first record, end of the last.
    package struct Records: Equatable, Sendable {
        package var first: LSN
        package var end: LSN

        package init(first: LSN, end: LSN) {
            self.first = first
            self.end = end
        }
    }

    package struct Commits: Equatable, Sendable {
        package var count: UInt64
        package var firstTransaction: TransactionID
        package var lastTransaction: TransactionID
        package var firstTime: Timestamp
        package var lastTime: Timestamp
        package var firstEnd: LSN
        package var lastEnd: LSN

        package init(
            count: UInt64, firstTransaction: TransactionID, lastTransaction: TransactionID, firstTime: Timestamp,
            lastTime: Timestamp, firstEnd: LSN, lastEnd: LSN
        ) {
            self.count = count
            self.firstTransaction = firstTransaction
            self.lastTransaction = lastTransaction
            self.firstTime = firstTime
            self.lastTime = lastTime
            self.firstEnd = firstEnd
            self.lastEnd = lastEnd
        }
    }

    /// Pages with neighbouring numbers that the segment's records change.
    package struct PageRun: Equatable, Sendable {
        package var first: PageNumber
        package var count: UInt32

        package init(first: PageNumber, count: UInt32) {
            self.first = first
            self.count = count
        }
    }

    package struct RestorePoint: Equatable, Sendable {
        package var name: String
        /// The end of its record.
        package var lsn: LSN
        package var time: Timestamp

        package init(name: String, lsn: LSN, time: Timestamp) {
            self.name = name
            self.lsn = lsn
            self.time = time
        }
    }

    package init(
        segment: SegmentName, systemIdentifier: SystemIdentifier, token: TimelineToken, bytes: Int,
        sha256: SHA256Digest, crc32c: UInt32, records: Records?, commits: Commits?, pageRuns: [PageRun],
        restorePoints: [RestorePoint]
    ) {
        self.segment = segment
        self.systemIdentifier = systemIdentifier
        self.token = token
        self.bytes = bytes
        self.sha256 = sha256
        self.crc32c = crc32c
        self.records = records
        self.commits = commits
        self.pageRuns = pageRuns
        self.restorePoints = restorePoints
    }

    /// What `crc32c` is of a segment's plain bytes.
    package static func checksum(of plaintext: UnsafeRawBufferPointer) -> UInt32 {
        hf_crc32c(0, plaintext.baseAddress, plaintext.count)
    }

    /// Ascending runs of ascending, distinct page numbers.
    package static func runs(ofSorted pages: some Sequence<UInt32>) -> [PageRun] {
        var runs: [PageRun] = []
        for page in pages {
            if let last = runs.last, last.first.rawValue + last.count == page {
                runs[runs.count - 1].count += 1
            } else {
                runs.append(PageRun(first: PageNumber(page), count: 1))
            }
        }
        return runs
    }

    package func encoded() -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(Self.headBytes + pageRuns.count * 8 + restorePoints.count * 40)
        func add(_ value: some FixedWidthInteger) {
            withUnsafeBytes(of: value.littleEndian) { out.append(contentsOf: $0) }
        }
        add(Self.magic)
        add(Self.version)
        add(UInt32(0))
        add(systemIdentifier.rawValue)
        add(token.rawValue)
        add(segment.segment.rawValue)
        add(segment.timeline.rawValue)
        add(UInt32(bytes))
        out.append(contentsOf: sha256.bytes)
        add(crc32c)
        add(UInt32(0))
        add(records?.first.rawValue ?? 0)
        add(records?.end.rawValue ?? 0)
        add(commits?.count ?? 0)
        add(commits?.firstTransaction.rawValue ?? 0)
        add(commits?.lastTransaction.rawValue ?? 0)
        add(commits?.firstTime.microseconds ?? 0)
        add(commits?.lastTime.microseconds ?? 0)
        add(commits?.firstEnd.rawValue ?? 0)
        add(commits?.lastEnd.rawValue ?? 0)
        add(UInt32(pageRuns.count))
        add(UInt32(restorePoints.count))
        for run in pageRuns {
            add(run.first.rawValue)
            add(run.count)
        }
        for point in restorePoints {
            add(point.lsn.rawValue)
            add(point.time.microseconds)
            add(UInt16(point.name.utf8.count))
            out.append(contentsOf: point.name.utf8)
        }
        let crc = out.withUnsafeBytes { hf_crc32c(0, $0.baseAddress! + 16, $0.count - 16) }
        withUnsafeBytes(of: crc.littleEndian) { out.replaceSubrange(12..<16, with: $0) }
        return out
    }

    /// Reads what `encoded` wrote. Throws `newerFormat`, or `damaged` with the reason; nothing is allocated for what
    /// the bytes claim before it is known to be there.
    package init(decoding input: [UInt8], at object: String) throws {
        func damaged(_ why: String) -> RepositoryError { .damaged(object, why: why) }
        guard input.count >= Self.headBytes else { throw damaged("it has \(input.count) bytes") }
        func load<T: FixedWidthInteger>(_ offset: Int, _ type: T.Type = T.self) -> T {
            input.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self)) }
        }
        guard load(0, UInt64.self) == Self.magic else { throw damaged("it is not a summary") }
        let version: UInt32 = load(8)
        guard version >= Self.version else {
            throw damaged("it is of version \(version), which only unreleased builds wrote")
        }
        guard version == Self.version else {
            throw RepositoryError.newerFormat(object, version: Int(load(8, UInt32.self)))
        }
        let crc = input.withUnsafeBytes { hf_crc32c(0, $0.baseAddress! + 16, $0.count - 16) }
        guard crc == load(12, UInt32.self) else { throw damaged("its checksum does not match") }
        guard let system = SystemIdentifier(String(load(16, UInt64.self))) else {
            throw damaged("its system identifier is impossible")
        }
        let number: UInt64 = load(32)
        guard number <= UInt64.max / UInt64(SegmentNumber.bytes) - 1 else { throw damaged("its segment is impossible") }
        let runCount = Int(load(160, UInt32.self))
        let pointCount = Int(load(164, UInt32.self))
        guard runCount <= (input.count - Self.headBytes) / 8 else { throw damaged("it is cut") }
        systemIdentifier = system
        token = TimelineToken(rawValue: load(24))
        segment = SegmentName(timeline: TimelineID(load(40, UInt32.self)), segment: SegmentNumber(number))
        bytes = Int(load(44, UInt32.self))
        sha256 = SHA256Digest(input[48..<80])!  // 32 bytes.
        crc32c = load(80)
        let end = LSN(load(96))
        records = end == .zero ? nil : Records(first: LSN(load(88)), end: end)
        let count: UInt64 = load(104)
        commits =
            count == 0
            ? nil
            : Commits(
                count: count, firstTransaction: TransactionID(load(112)), lastTransaction: TransactionID(load(120)),
                firstTime: Timestamp(microseconds: load(128)), lastTime: Timestamp(microseconds: load(136)),
                firstEnd: LSN(load(144)), lastEnd: LSN(load(152)))
        pageRuns = []
        pageRuns.reserveCapacity(runCount)
        var at = Self.headBytes
        var next: UInt64 = 0
        for _ in 0..<runCount {
            let run = PageRun(first: PageNumber(load(at)), count: load(at + 4))
            let first = UInt64(run.first.rawValue)
            guard run.count > 0, first >= next, first + UInt64(run.count) <= 1 << 32 else {
                throw damaged("its page runs are out of order")
            }
            next = first + UInt64(run.count) + 1
            pageRuns.append(run)
            at += 8
        }
        restorePoints = []
        for _ in 0..<pointCount {
            guard input.count - at >= 18 else { throw damaged("it is cut") }
            let length = Int(load(at + 16, UInt16.self))
            guard input.count - at - 18 >= length,
                let name = String(validating: input[at + 18..<at + 18 + length], as: UTF8.self)
            else { throw damaged("it is cut, or a restore point's name is not UTF-8") }
            restorePoints.append(
                RestorePoint(name: name, lsn: LSN(load(at)), time: Timestamp(microseconds: load(at + 8))))
            at += 18 + length
        }
        guard at == input.count else { throw damaged("\(input.count - at) bytes follow its end") }
    }
}
