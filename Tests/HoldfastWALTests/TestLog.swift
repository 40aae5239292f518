import HoldfastCore
import HoldfastTestSupport
import Synchronization
import Testing

@testable import HoldfastWAL

let testSystem = SystemIdentifier(rawValue: 0x1122_3344_5566_7788)
let testToken = TimelineToken(rawValue: 0xA1A2_A3A4_A5A6_A7A8)
let testIdentity = LogIdentity(system: testSystem, timeline: .first, token: testToken)
let testHistory = TimelineHistory(first: testToken)

/// A simulated disk with the directories of a log.
func makeDisk(seed: UInt64 = 1) throws -> SimulatedDisk {
    let disk = SimulatedDisk(seed: seed)
    try disk.createDirectory("wal")
    try disk.createDirectory("wal/archive_status")
    try disk.syncDirectory("")
    try disk.syncDirectory("wal")
    return disk
}

func makeWriter(
    _ disk: SimulatedDisk, _ start: LogStart = .newLog, identity: LogIdentity = testIdentity,
    archiving: Bool = false, fatal: FatalLog = FatalLog()
) throws(WALError) -> LogWriter<SimulatedDisk> {
    var options = LogOptions()
    options.bufferBytes = 2 << 20
    options.segmentsAhead = 1
    options.isArchiving = archiving
    return try LogWriter(disk: disk, identity: identity, start: start, options: options) { fatal.note($0) }
}

/// What `onFatal` was told.
final class FatalLog: Sendable {
    private let errors = Mutex<[String]>([])
    func note(_ error: WALError) { errors.withLock { $0.append(error.description) } }
    var count: Int { errors.withLock { $0.count } }
}

/// One page's worth of a change: an image of page `number` whose body begins with `text`.
func commit(_ number: Int, pages: Int = 1, fill: Int = 8) -> CommitBuilder {
    let builder = CommitBuilder()
    let memory = UnsafeMutableRawPointer.allocate(byteCount: Page.bytes, alignment: 8)
    defer { memory.deallocate() }
    for index in 0..<pages {
        let page = Page(memory)
        page.format(number: PageNumber(UInt32(index)), kind: .leaf)
        page.lower = Page.headerBytes + fill
        for at in 0..<fill {
            memory.storeBytes(of: UInt8(truncatingIfNeeded: number + at), toByteOffset: 24 + at, as: UInt8.self)
        }
        builder.addImage(page: PageNumber(UInt32(index)), of: memory)
    }
    return builder
}

extension LogWriter {
    @discardableResult
    func appendCommit(_ number: Int, pages: Int = 1, fill: Int = 8) throws(WALError) -> AppendedRecord {
        let id = TransactionID(UInt64(number))
        return try append(
            commit: commit(number, pages: pages, fill: fill), first: id, last: id, time: Int64(number) * 1000)
    }
}

/// What a reader of a whole log found.
struct Reading {
    var kinds: [RecordKind] = []
    var starts: [LSN] = []
    var ends: [LSN] = []
    var marks: [LSN] = []
    /// Transaction numbers of whole commits.
    var commits: [UInt64] = []
    var commitEnds: [LSN] = []
    var end: LogEnd
    var greatestMark: LSN
    var start: LogStart { LogStart(position: end.position, chain: end.chain ?? 0, durableMark: .zero, lastTime: 0) }
}

/// Segments that are lent in one piece of memory, which holds something else as soon as another one is asked for.
final class LentSegments: SegmentSource {
    private let segments: [SegmentName: [UInt8]]
    private var lent: SegmentBuffer?

    init(_ segments: [SegmentName: [UInt8]]) { self.segments = segments }

    func find(_ name: SegmentName) throws(WALError) -> FoundSegment {
        lent?.fill(SegmentNumber.bytes) { $0.initializeMemory(as: UInt8.self, repeating: 0xA5) }
        lent = segments[name].map { SegmentBuffer($0) }
        return lent.map { .inMemory($0.bytes) } ?? .missing
    }

    func read(_ name: SegmentName, at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(WALError) -> Int?
    {
        preconditionFailure("it is in memory")
    }
}

/// Reads a log from its segments twice, as files are read and where they lie in memory: both must say the same.
func read(
    _ source: MemorySegmentSource, from: LSN = LogLayout.firstPosition, chain: UInt32? = 0,
    history: TimelineHistory = testHistory, system: SystemIdentifier = testSystem
) throws(WALError) -> Reading {
    func outcome(_ body: () throws(WALError) -> Reading) -> Result<Reading, WALError> {
        do throws(WALError) { return .success(try body()) } catch { return .failure(error) }
    }
    let lent = LentSegments(source.segments)
    let one = outcome { () throws(WALError) in
        try readAll(source, from: from, chain: chain, history: history, system: system)
    }
    let other = outcome { () throws(WALError) in
        try readAll(lent, from: from, chain: chain, history: history, system: system)
    }
    #expect("\(one)" == "\(other)")
    return try one.get()
}

func readAll<S: SegmentSource>(
    _ source: S, from: LSN = LogLayout.firstPosition, chain: UInt32? = 0, history: TimelineHistory = testHistory,
    system: SystemIdentifier = testSystem
) throws(WALError) -> Reading {
    let reader = LogReader(source: source, system: system, history: history, from: from, chain: chain)
    let assembler = CommitAssembler()
    var kinds: [RecordKind] = [], starts: [LSN] = [], ends: [LSN] = [], marks: [LSN] = []
    var commits: [UInt64] = [], commitEnds: [LSN] = []
    while let record = try reader.next() {
        kinds.append(record.kind)
        starts.append(record.start)
        ends.append(record.end)
        marks.append(record.mark)
        if let whole = try assembler.add(record) {
            commits.append(whole.last.rawValue)
            commitEnds.append(whole.end)
            var changes = whole.changes
            do throws(ImpossibleChange) { while try changes.next() != nil {} } catch {
                throw .invalid(at: whole.start, error.why)
            }
        }
    }
    return Reading(
        kinds: kinds, starts: starts, ends: ends, marks: marks, commits: commits, commitEnds: commitEnds,
        end: reader.end!, greatestMark: reader.greatestMark)
}

func read(_ disk: SimulatedDisk, from: LSN = LogLayout.firstPosition, chain: UInt32? = 0) throws(WALError) -> Reading {
    try readAll(DiskSegmentSource(disk: disk), from: from, chain: chain)
}

func judge(_ disk: SimulatedDisk, _ end: LogEnd, known: LSN = .zero, own: Bool = true) throws(WALError) -> EndVerdict {
    try EndOfLog(disk: disk, system: testSystem).judge(
        end,
        EndEvidence(
            knownDurableEnd: known,
            ownFrom: own ? .init(timeline: .first, lsn: LogLayout.firstPosition) : nil))
}

func segmentPath(_ number: UInt64, _ timeline: TimelineID = .first) -> String {
    SegmentName(timeline: timeline, segment: SegmentNumber(number)).walPath
}

func isDamage(_ body: () throws(WALError) -> some Any) -> Bool {
    do throws(WALError) {
        _ = try body()
        return false
    } catch {
        if case .damaged = error { return true }
        return false
    }
}
