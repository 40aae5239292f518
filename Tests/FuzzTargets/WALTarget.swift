import CShims
import HoldfastCore
import HoldfastWAL

/// A log of two segments and up to two timelines, read to its end by everything that reads records. Input:
///
///     0  1  choices: 1 checksums are put right; 2 the log begins near the first segment's end; 4, without
///           2 and the three top bits, the source hands bytes over by reading; 8 a second timeline;
///           16 no chain value is known at the start
///     1  2  where in the first part the second timeline begins, in bytes
///     3  2  bytes of the first segment's part; the second segment gets the rest
///     5     the parts: records
///
/// Putting right walks the parts as a writer lays records out, and stamps place, chain and checksum where a header
/// claims a length that could be one; all else stays as it is.
package enum WALTarget: FuzzTarget {
    package static let name = "wal"

    private static let system = SystemIdentifier(rawValue: 0x1122_3344_5566_7788)
    private static let tokens = [TimelineToken(rawValue: 0xA1), TimelineToken(rawValue: 0xB2)]
    private static let first = SegmentNumber(1)

    package static func run(_ input: UnsafeRawBufferPointer) {
        var input = FuzzInput(input)
        let choices = input.byte(), switchOffset = input.short(), split = input.short()
        let log = FuzzLog.shared
        log.lay(input.take(split), input.rest, atEnd: choices & 2 != 0)
        var history = TimelineHistory(first: tokens[0])
        if choices & 8 != 0,
            let branched = try? history.branching(
                .init(timeline: TimelineID(2), switchLSN: log.start + switchOffset, token: tokens[1], reason: "fuzz"))
        {
            history = branched
        }
        if choices & 1 != 0 { log.stamp(system, history) } else { log.writeHeaders(system, history, chains: [0, 0]) }
        let from = choices & 2 != 0 ? log.start : first.start
        // Seldom: a reader that reads takes a segment's memory, which a sanitizer is slow to prepare.
        if choices & 0xE6 == 4 {
            read(log.copies(history), history, from, choices)
        } else {
            read(log, history, from, choices)
        }
    }

    private static func read(
        _ source: some SegmentSource, _ history: TimelineHistory, _ from: LSN, _ choices: UInt8
    ) {
        let reader = LogReader(
            source: source, system: system, history: history, from: from,
            chain: choices & 18 != 0 ? nil : 0)
        let assembler = CommitAssembler()
        let pages = FuzzPageSet()
        var last = from, taken = 0
        do throws(WALError) {
            while let record = try reader.next() {
                expect(record.start >= last && record.end > record.start, "\(record.start) after \(last)")
                expect(record.mark <= record.start, "a mark \(record.mark) behind its record \(record.start)")
                expect(record.body.count <= record.end - record.start, "a body larger than its record")
                last = record.end
                let dump = RecordDump(record)
                _ = (dump.line, dump.json)
                if record.kind == .commit { taken += record.body.count }
                guard let commit = try assembler.add(record) else { continue }
                expect(commit.payload.count <= taken, "more was assembled than was read")
                pages.apply(commit.changes, commitEnd: commit.end)
            }
        } catch { _ = error.description }
        expect(assembler.heldBytes <= taken, "more is held than was read")
        if let end = reader.end { _ = (end.reason.description, end.segment, end.segmentOffset) }
    }

    // MARK: Seeds

    package static func seeds() throws -> [[UInt8]] {
        let bodies: [RecordBody] = [
            .checkpoint(redo: LSN(16 << 20), redoTimeline: .first, lastTransaction: TransactionID(3), time: 5),
            .restorePoint(name: "before-upgrade", time: 6),
            .backupEnd(
                start: LSN(16 << 20), startTimeline: .first, token: 4, time: 7),
            .timelineSwitch(
                switchLSN: LSN(17 << 20), previous: .first, timeline: TimelineID(2), token: tokens[1], time: 8),
            .endOfRecovery(recoveredTo: LSN(17 << 20), time: .min),
        ]
        let payload = ApplyTarget.examplePayload()
        var records: [[UInt8]] = bodies.map { record($0.kind, [], $0.encoded()) }
        records.append(record(.witness, [], []))
        records.append(record(.segmentSwitch, [], []))
        var trailer = FuzzOutput()
        for number in [7, 7, 1_795_000_000_000_000, UInt64(payload.count)] { trailer.add(long: number) }
        records.append(record(.commit, [.begin, .commit], trailer.bytes + payload))
        records.append(record(.commit, .begin, Array(payload.prefix(100))))
        records.append(record(.commit, .commit, trailer.bytes + payload.dropFirst(100)))
        let all = records.flatMap { $0 }
        return [UInt8](0..<32).map { choices in
            var out = FuzzOutput()
            // Of those that read, only the first does so as it stands: the others are for the fuzzer to find.
            out.add(byte: choices & 4 != 0 && choices != 4 ? choices | 0x21 : choices | 1)
            out.add(short: choices & 8 != 0 ? 200 : 0)
            out.add(short: choices & 2 != 0 ? all.count : all.count / 2)
            out.add(all)
            return out.bytes
        } + [Array(records[0].prefix(40))]
    }

    /// A record without the fields that are stamped.
    private static func record(_ kind: RecordKind, _ flags: RecordFlags, _ body: [UInt8]) -> [UInt8] {
        var out = FuzzOutput()
        out.add(long: UInt64(LogLayout.recordHeaderBytes + body.count) << 32)
        out.add(long: 0)
        out.add(long: 0)
        out.add(long: UInt64(kind.rawValue) << 32 | UInt64(flags.rawValue) << 40)
        out.add(body)
        out.add([UInt8](repeating: 0, count: LogLayout.aligned(out.bytes.count) - out.bytes.count))
        return out.bytes
    }
}

/// Two segments' memory, made once: what an input wrote is zeroed again before the next.
final class FuzzLog: SegmentSource {
    nonisolated(unsafe) static let shared = FuzzLog()  // Fuzzer and tests run one input at a time.

    private let memory: [UnsafeMutableRawPointer]
    private var written: [Range<Int>] = [0..<0, 0..<0]
    private var owners: [TimelineID] = [.first, .first]
    private(set) var start = LSN.zero

    private init() {
        memory = (0..<2).map { _ in
            let base = UnsafeMutableRawPointer.allocate(byteCount: SegmentNumber.bytes, alignment: 4096)
            base.initializeMemory(as: UInt8.self, repeating: 0, count: SegmentNumber.bytes)
            return base
        }
    }

    private func number(_ index: Int) -> SegmentNumber { SegmentNumber(UInt64(index + 1)) }

    /// Puts the parts behind the segments' headers, or the first one at its segment's very end.
    func lay(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer, atEnd: Bool) {
        let head = LogLayout.segmentHeaderBytes
        for (index, part) in [first, second].enumerated() {
            let old = written[index]
            (memory[index] + old.lowerBound).initializeMemory(as: UInt8.self, repeating: 0, count: old.count)
            let bytes = LogLayout.aligned(part.count)
            let offset = index == 0 && atEnd ? SegmentNumber.bytes - bytes : head
            if let source = part.baseAddress {
                (memory[index] + offset).copyMemory(from: source, byteCount: part.count)
            }
            written[index] = offset..<offset + bytes
            if index == 0 { start = number(0).start + offset }
        }
    }

    func writeHeaders(_ system: SystemIdentifier, _ history: TimelineHistory, chains: [UInt32]) {
        for index in 0..<2 {
            owners[index] = history.timeline(ofFile: number(index))
            let token = history.entry(owners[index])?.token ?? TimelineToken(rawValue: 0)
            SegmentHeader(
                identity: LogIdentity(system: system, timeline: owners[index], token: token),
                firstLSN: number(index).start, chain: chains[index]
            ).write(to: memory[index])
        }
    }

    /// Stamps whatever could be a record: its place, the chain, and its checksum on the timeline that owns it.
    func stamp(_ system: SystemIdentifier, _ history: TimelineHistory) {
        var chains: [UInt32] = [0, 0], chain: UInt32 = 0
        for index in 0..<2 {
            chains[index] = chain
            var at = written[index].lowerBound
            while at + LogLayout.recordHeaderBytes <= min(SegmentNumber.bytes, written[index].upperBound) {
                let base = memory[index] + at, place = number(index).start + at
                let length = Int(base.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
                let room = SegmentNumber.bytes - at
                guard length >= LogLayout.recordHeaderBytes, LogLayout.aligned(length) <= room else { break }
                base.storeBytes(of: place.rawValue, toByteOffset: 8, as: UInt64.self)
                base.storeBytes(of: chain, toByteOffset: 24, as: UInt32.self)
                var seed = (system.rawValue.littleEndian, history.timeline(at: place).rawValue.littleEndian)
                let crc = hf_crc32c(
                    hf_crc32c(hf_crc32c(0, &seed.0, 8), &seed.1, 4), base + 4, LogLayout.aligned(length) - 4)
                base.storeBytes(of: crc, as: UInt32.self)
                chain = crc
                at += LogLayout.aligned(length)
            }
            // What is too short for a header is zero in a segment that is full.
            if SegmentNumber.bytes - at < LogLayout.recordHeaderBytes {
                (memory[index] + at).initializeMemory(as: UInt8.self, repeating: 0, count: SegmentNumber.bytes - at)
            }
        }
        writeHeaders(system, history, chains: chains)
    }

    /// The same as short files, which end where what was written does.
    func copies(_ history: TimelineHistory) -> MemorySegmentSource {
        var segments: [SegmentName: [UInt8]] = [:]
        for index in 0..<2 {
            segments[SegmentName(timeline: owners[index], segment: number(index))] = Array(
                UnsafeRawBufferPointer(start: memory[index], count: written[index].upperBound))
        }
        return MemorySegmentSource(segments)
    }

    func find(_ name: SegmentName) throws(WALError) -> FoundSegment {
        for index in 0..<2 where name == SegmentName(timeline: owners[index], segment: number(index)) {
            return .inMemory(UnsafeRawBufferPointer(start: memory[index], count: SegmentNumber.bytes))
        }
        return .missing
    }

    func read(
        _ name: SegmentName, at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(WALError) -> Int? { nil }
}
