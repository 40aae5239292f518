import HoldfastCore
import Synchronization

/// The log of a follower: takes bytes from a stream in their order, makes sure that they are whole records which follow
/// what is there, and makes them durable in `wal/`, where they lie as they do on the leader.
///
/// One thread at a time receives (`resume`, `receive`); another may make durable what has come while more comes
/// (`flushWhenAsked`, after `askFlush`), and anybody may at once (`flush`); yet another reads what is durable (`find`,
/// `wait`). A record is written only when it is here whole and verified, so that the file never holds more of the log than
/// records which follow, and then whatever was there before. `durableLSN` rises behind a sync and nowhere else. A write or
/// sync that fails poisons it for good, as it does a `LogWriter`.
///
/// What has come and is not durable lies in memory, in two segments at most: whoever receives more waits.
///
/// One timeline: where it is left another `ReceivedLog` begins.
package final class ReceivedLog<D: Disk>: @unchecked Sendable {
    // Sendable: `monitor` guards `segments`, `spare`, `failure`, `refusal` and `isClosed`; `requests` guards `asked`;
    // `flushing`, which is taken before both, guards `written` and what is written to the files; the atomics are what
    // they are; the rest is the receiving thread's.
    package let timeline: TimelineID
    private let files: SegmentFiles<D>
    private let onFatal: @Sendable (WALError) -> Void

    private let flushing = Monitor()
    private let monitor = Monitor()
    /// What whoever flushes beside the receiving thread waits for.
    private let requests = Monitor()
    /// The segment that is being received, last, and those before it which are not durable or a reader may still want.
    private var segments: [(number: SegmentNumber, memory: SegmentMemory)] = []
    private var spare: [SegmentMemory] = []
    private var failure: DiskError?
    /// Everything below is to be made durable by whoever flushes beside the receiving thread.
    private var asked = LSN.zero
    /// Why that could not be, for want of space: for the receiving thread, which hears of it once.
    private var refusal: DiskError?
    private var isClosed = false
    private static var kept: Int { 3 }
    /// Segments that may be in memory alone.
    private static var unwritten: Int { 2 }

    private let durableBits: Atomic<UInt64>
    private let verifiedBits: Atomic<UInt64>
    /// The next byte that is expected.
    private var next: LSN
    /// Everything below is written and synced.
    private var written: LSN
    private let checker: LogReader<CheckedSegments>

    /// - Parameters:
    ///   - history: ends with the timeline that is received.
    ///   - position: where the log goes on, in canonical form. Inside a segment, its file in `wal/` holds what lies below.
    ///   - chain: the CRC of the record that ends there; `nil` to take the first record's word for it.
    package init(
        disk: D, system: SystemIdentifier, history: TimelineHistory, position: LSN, chain: UInt32?,
        onFatal: @escaping @Sendable (WALError) -> Void
    ) throws(WALError) {
        precondition(LogLayout.canonical(position) == position, "a position between records")
        timeline = history.timeline
        self.onFatal = onFatal
        next = position
        written = position
        durableBits = Atomic(position.rawValue)
        verifiedBits = Atomic(position.rawValue)
        let timeline = timeline
        files = try onDisk { () throws(DiskError) in
            try SegmentFiles(disk: disk, timeline: timeline, position: position)
        }
        checker = LogReader(
            source: CheckedSegments(), system: system, history: history, from: position, chain: chain)
        let offset = LogLayout.offset(position)
        guard offset > 0 else { return }
        let number = SegmentNumber(containing: position)
        let memory = SegmentMemory()
        let read = try onDisk { () throws(DiskError) in
            try files.segment(number).file.read(
                into: UnsafeMutableRawBufferPointer(start: memory.base, count: offset), at: 0)
        }
        guard read == offset else { throw .invalid(at: position, "its segment's file ends before it") }
        memory.filled = offset
        segments = [(number, memory)]
        checker.source.show(SegmentName(timeline: timeline, segment: number), memory)
    }

    /// Every byte below is on the disk.
    package var durableLSN: LSN { LSN(durableBits.load(ordering: .acquiring)) }
    /// Every byte below has come, in whole records that follow.
    package var receivedLSN: LSN { LSN(verifiedBits.load(ordering: .acquiring)) }

    // MARK: The receiving thread's

    /// A stream begins: says what to ask for. What came of a record that was cut is forgotten.
    package func resume() -> (position: LSN, chain: UInt32?) {
        next = checker.position
        return (next, checker.chain)
    }

    /// Takes the bytes at `lsn`, which must be the next ones, of one segment. Waits for the disk when too much has come
    /// that is not durable.
    /// - Throws: `invalid` for bytes that do not follow: nothing of them was kept, `resume` says where to go on;
    ///   `disk` for want of space (the same), `poisoned`.
    package func receive(_ bytes: UnsafeRawBufferPointer, at lsn: LSN) throws(WALError) {
        let number = SegmentNumber(containing: next)
        let offset = LogLayout.offset(next)
        try throwRefusal()
        guard lsn == next else { throw .invalid(at: lsn, "the stream should go on at \(next)") }
        guard bytes.count > 0, offset + bytes.count <= SegmentNumber.bytes, let source = bytes.baseAddress else {
            throw .invalid(at: lsn, "\(bytes.count) bytes do not end in its segment")
        }
        // What follows is a rest too short for a header: it is zero, whatever comes, and may be on the disk already.
        if checker.position >= number.end {
            next = lsn + bytes.count
            return
        }
        if SegmentNumber(containing: durableLSN).rawValue + UInt64(Self.unwritten) <= number.rawValue {
            _ = try flush()
        }
        let memory = memoryForReceiving(number)
        (memory.base + offset).copyMemory(from: source, byteCount: bytes.count)
        memory.filled = offset + bytes.count
        checker.source.show(SegmentName(timeline: timeline, segment: number), memory)
        next = lsn + bytes.count
        while try checker.next() != nil {}
        let end = checker.end?.reason
        guard end == .shortSegment || end == .missingSegment else {
            throw .invalid(at: checker.position, end?.description ?? "nothing follows")
        }
        if checker.position >= number.end {
            (memory.base + memory.filled).initializeMemory(
                as: UInt8.self, repeating: 0, count: SegmentNumber.bytes - memory.filled)
        }
        // Up to here the memory is not written again: it may be written to the disk.
        verifiedBits.store(checker.position.rawValue, ordering: .releasing)
    }

    /// Asks whoever runs `flushWhenAsked` to make durable what has come below `lsn`, where a record ends or a segment. Does
    /// not wait.
    /// - Throws: what could not be done when it was asked for before: `disk` for want of space, `poisoned`.
    package func askFlush(through lsn: LSN) throws(WALError) {
        try throwRefusal()
        requests.lock()
        asked = max(asked, min(lsn, receivedLSN))
        requests.wakeAll()
        requests.unlock()
    }

    /// The stream is over: makes durable what has come, as far as that can be done, and ends what was asked for. Nothing
    /// more becomes durable before `receive`, `askFlush` or `flush` is called again.
    package func settle() {
        requests.lock()
        asked = .zero
        requests.unlock()
        // For want of space it stays in memory; any other failure is for good, and was told.
        do throws(WALError) { _ = try flush() } catch {}
    }

    private func throwRefusal() throws(WALError) {
        monitor.lock()
        defer {
            refusal = nil
            monitor.unlock()
        }
        if let failure { throw .poisoned(failure) }
        if let refusal { throw .disk(refusal) }
    }

    // MARK: Making durable, on any thread

    /// Waits until somebody asks for what is not durable, or the time is over, or `wake` is called; then makes durable what
    /// was asked for.
    /// - Returns: whether there is news for the receiving thread: more is durable, or cannot be.
    package func flushWhenAsked(milliseconds: Int) -> Bool {
        requests.lock()
        if asked <= durableLSN { requests.wait(milliseconds: milliseconds) }
        let target = asked
        requests.unlock()
        let before = durableLSN
        guard target > before else { return false }
        do throws(WALError) {
            _ = try flush(through: target, onlyIfAsked: true)
        } catch {
            requests.lock()
            asked = .zero
            requests.unlock()
            monitor.lock()
            if case .disk(let disk) = error { refusal = disk }
            monitor.unlock()
            return true
        }
        return durableLSN > before
    }

    /// Makes durable what has come, as far as it is whole records.
    /// - Returns: `durableLSN`.
    package func flush() throws(WALError) -> LSN {
        try flush(through: receivedLSN, onlyIfAsked: false)
    }

    /// - Parameters:
    ///   - end: where a record ends that has come.
    ///   - onlyIfAsked: does nothing when `settle` has come between.
    private func flush(through end: LSN, onlyIfAsked: Bool) throws(WALError) -> LSN {
        flushing.lock()
        defer { flushing.unlock() }
        if onlyIfAsked {
            requests.lock()
            let isAsked = asked >= end
            requests.unlock()
            guard isAsked else { return durableLSN }
        }
        while written < end {
            let number = SegmentNumber(containing: written)
            let from = LogLayout.offset(written)
            let to = end >= number.end ? SegmentNumber.bytes : LogLayout.offset(end)
            let memory = try memoryForWriting(number)
            do throws(DiskError) {
                let bytes = UnsafeRawBufferPointer(start: memory.base + from, count: to - from)
                let isMade = bytes.count == SegmentNumber.bytes ? try files.make(number, holding: bytes) : false
                if !isMade {
                    try files.make(through: number)
                    let file = files.segment(number).file
                    try file.write(bytes, at: UInt64(from))
                    if !planted(.receivedWithoutSync) { try file.sync() }
                }
            } catch {
                guard error.isNoSpace else { throw poison(error) }
                throw .disk(error)
            }
            written = min(end, number.end)
            monitor.lock()
            durableBits.store(written.rawValue, ordering: .releasing)
            monitor.wakeAll()
            monitor.unlock()
            // A segment is durable before its successor is written.
            if written == number.end { files.retire(number) }
        }
        return durableLSN
    }

    /// The memory of a segment that is being received; a new one when it begins.
    private func memoryForReceiving(_ number: SegmentNumber) -> SegmentMemory {
        monitor.lock()
        defer { monitor.unlock() }
        if let known = segments.last(where: { $0.number == number }) { return known.memory }
        let memory = spare.popLast() ?? SegmentMemory()
        memory.filled = 0
        segments.append((number, memory))
        while segments.count > Self.kept, segments[0].number.end <= durableLSN {
            let old = segments.removeFirst().memory
            if old.lent == 0 { spare.append(old) }
        }
        return memory
    }

    /// The memory of a segment that is not durable.
    private func memoryForWriting(_ number: SegmentNumber) throws(WALError) -> SegmentMemory {
        monitor.lock()
        defer { monitor.unlock() }
        if let failure { throw .poisoned(failure) }
        guard !isClosed else { throw .invalid(at: durableLSN, "nothing is received there any more") }
        guard let known = segments.last(where: { $0.number == number }) else {
            preconditionFailure("segment \(number) is written when its bytes are gone")
        }
        return known.memory
    }

    private func poison(_ error: DiskError) -> WALError {
        monitor.lock()
        let isFirst = failure == nil
        failure = failure ?? error
        monitor.wakeAll()
        monitor.unlock()
        if isFirst { onFatal(.poisoned(error)) }
        return .poisoned(error)
    }

    // MARK: Anybody's

    /// Waits until more than `lsn` is durable, or somebody calls `wake`, or the time is over.
    package func wait(beyond lsn: LSN, milliseconds: Int) {
        monitor.lock()
        if durableLSN <= lsn { monitor.wait(milliseconds: milliseconds) }
        monitor.unlock()
    }

    package func wake() {
        monitor.lock()
        monitor.wakeAll()
        monitor.unlock()
        requests.lock()
        requests.wakeAll()
        requests.unlock()
    }

    /// The durable bytes of a segment that is still in memory; `nil` when it is not. They stay while `holder` holds them.
    package func find(_ name: SegmentName, for holder: inout LentSegment?) -> UnsafeRawBufferPointer? {
        monitor.lock()
        defer { monitor.unlock() }
        guard name.timeline == timeline, let found = segments.first(where: { $0.number == name.segment }) else {
            return nil
        }
        let durable = durableLSN
        let count =
            durable >= name.segment.end
            ? SegmentNumber.bytes
            : durable > name.segment.start ? LogLayout.offset(durable) : 0
        guard count > 0 else { return nil }
        if holder?.memory !== found.memory { holder = LentSegment(found.memory) }
        return UnsafeRawBufferPointer(start: found.memory.base, count: count)
    }

    /// Makes segments ahead of the stream, so that it need not wait for that.
    package func prepareAhead() throws(WALError) {
        let number = SegmentNumber(containing: durableLSN)
        try onDisk { () throws(DiskError) in try files.make(through: number.next) }
    }

    /// Gives up segments that end at or below `lsn` and may go, those of other timelines too.
    package func recycle(below lsn: LSN, mayGo: (SegmentName) -> Bool) throws(WALError) {
        let current = SegmentNumber(containing: durableLSN)
        let bound = min(lsn, current.start)
        try onDisk { () throws(DiskError) in try files.recycle(below: bound, ahead: current.next, mayGo: mayGo) }
    }

    /// Closes the files, when a flush that runs has ended: nothing is received any more.
    package func close() {
        flushing.lock()
        monitor.lock()
        isClosed = true
        monitor.unlock()
        files.closeAll()
        flushing.unlock()
        wake()
    }
}

/// 16 MiB that a segment is received into. Bytes below what was made known are not written again.
package final class SegmentMemory: @unchecked Sendable {
    // Sendable: the receiving thread writes, others read bytes that were made known to them.
    let base = UnsafeMutableRawPointer.allocate(byteCount: SegmentNumber.bytes, alignment: 4096)
    var filled = 0
    /// Guarded by the lock of the log it belongs to: readers that look at it now.
    fileprivate let lentCount = Atomic<Int>(0)
    var lent: Int { lentCount.load(ordering: .acquiring) }
    deinit { base.deallocate() }
}

/// Keeps a segment's memory from being used for another one.
package final class LentSegment {
    let memory: SegmentMemory
    init(_ memory: SegmentMemory) {
        self.memory = memory
        memory.lentCount.wrappingAdd(1, ordering: .acquiringAndReleasing)
    }
    deinit { memory.lentCount.wrappingSubtract(1, ordering: .acquiringAndReleasing) }
}

/// What has come of the segment that is being received, durable or not, for the reader that verifies it.
private final class CheckedSegments: SegmentSource {
    private var name: SegmentName?
    private var memory: SegmentMemory?

    func show(_ name: SegmentName, _ memory: SegmentMemory) {
        self.name = name
        self.memory = memory
    }

    func find(_ name: SegmentName) throws(WALError) -> FoundSegment {
        guard name == self.name, let memory, memory.filled > 0 else { return .missing }
        return .inMemory(UnsafeRawBufferPointer(start: memory.base, count: memory.filled))
    }

    func read(
        _ name: SegmentName, at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(WALError) -> Int? { nil }
}
