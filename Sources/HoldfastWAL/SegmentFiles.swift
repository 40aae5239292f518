import HoldfastCore
import Synchronization

/// The segment files that a writer writes to: makes them ahead of it, recycles those behind it.
///
/// A segment exists under its name only whole and durable: zero-filled under a temporary name, synced, renamed;
/// or an old segment renamed. Either name is synced before the first byte is written.
/// `making` serializes whoever makes or recycles segments; `table` guards the open files and is never held
/// during I/O, so that a flush does not wait for the making of a later segment. Order: `making`, then `table`.
final class SegmentFiles<D: Disk>: Sendable {
    let disk: D
    let timeline: TimelineID
    private let making = Mutex<Void>(())
    private let table: Mutex<[OpenSegment]>
    /// Every segment from the writer's to this one exists.
    private let made: Atomic<UInt64>

    /// - Parameter position: where the writer begins. A segment begun before is opened; it must be zero from there.
    init(disk: D, timeline: TimelineID, position: LSN) throws(DiskError) {
        self.disk = disk
        self.timeline = timeline
        for name in try disk.list("wal") where name.hasSuffix(".tmp") && SegmentName(name.dropLast(4)) != nil {
            try disk.remove("wal/" + name)
        }
        let number = SegmentNumber(containing: position)
        if LogLayout.offset(position) > 0 {
            let file = try disk.open(SegmentName(timeline: timeline, segment: number).walPath, .readWrite)
            table = Mutex([OpenSegment(number: number, file: file, isZeroed: true)])
            made = Atomic(number.rawValue)
        } else {
            table = Mutex([])
            made = Atomic(number.rawValue - 1)
        }
    }

    func name(_ number: SegmentNumber) -> SegmentName { SegmentName(timeline: timeline, segment: number) }

    /// Makes every segment up to `number` exist. No space, or an error: nothing has changed but whole segments.
    func make(through number: SegmentNumber) throws(DiskError) {
        if made.load(ordering: .acquiring) >= number.rawValue { return }
        try exclusively { () throws(DiskError) in
            while made.load(ordering: .acquiring) < number.rawValue {
                let next = SegmentNumber(made.load(ordering: .acquiring) + 1)
                let path = name(next).walPath
                if try disk.exists(path) {
                    // Left by an earlier process. Its name may not be durable yet, its size not a segment's.
                    let file = try disk.open(path, .readWrite)
                    if try file.size() < UInt64(SegmentNumber.bytes) { try zeroFill(file) }
                    try disk.syncDirectory("wal")
                    add(OpenSegment(number: next, file: file, isZeroed: false))
                } else {
                    try create(next, zeroFill)
                }
            }
        }
    }

    /// Makes segment `number` of all its bytes at once, durably: so it is written once and not first with zeros.
    /// - Returns: `false` when it is not the next one to be made.
    func make(_ number: SegmentNumber, holding bytes: UnsafeRawBufferPointer) throws(DiskError) -> Bool {
        precondition(bytes.count == SegmentNumber.bytes, "a segment is made of all its bytes")
        var isMade = false
        try exclusively { () throws(DiskError) in
            let path = name(number).walPath
            guard made.load(ordering: .acquiring) + 1 == number.rawValue, try !disk.exists(path) else { return }
            try create(number) { file throws(DiskError) in
                try file.write(bytes, at: 0)
                if !planted(.receivedWithoutSync) { try file.sync() }
            }
            isMade = true
        }
        return isMade
    }

    /// The open file of a made segment.
    func segment(_ number: SegmentNumber) -> OpenSegment {
        table.withLock { segments in
            guard let found = segments.first(where: { $0.number == number }) else {
                preconditionFailure("segment \(number) is written before it was made")
            }
            return found
        }
    }

    /// Closes a segment that is complete.
    func retire(_ number: SegmentNumber) {
        let closed = table.withLock { segments -> [OpenSegment] in
            let closed = segments.filter { $0.number <= number }
            segments.removeAll { $0.number <= number }
            return closed
        }
        for segment in closed { segment.file.close() }
    }

    func closeAll() { retire(SegmentNumber(UInt64.max)) }

    /// Gives up the segments that end at or below `lsn` and may go: renames as many as are wanted up to segment
    /// `ahead` to the names that come next, removes the rest. Segments of other timelines are only removed.
    func recycle(below lsn: LSN, ahead: SegmentNumber, mayGo: (SegmentName) -> Bool) throws(DiskError) {
        try exclusively { () throws(DiskError) in
            let names = try disk.list("wal").compactMap { SegmentName($0) }.sorted()
            var removed = false
            for name in names where name.segment.end <= lsn && mayGo(name) {
                try disk.removeMarks(of: name)
                let next = SegmentNumber(made.load(ordering: .acquiring) + 1)
                if name.timeline == timeline, next <= ahead, try !disk.exists(self.name(next).walPath) {
                    try recycle(name, as: next)
                } else {
                    try disk.remove(name.walPath)
                    removed = true
                }
            }
            if removed { try disk.syncDirectory("wal") }
        }
    }

    private func recycle(_ old: SegmentName, as next: SegmentNumber) throws(DiskError) {
        let file = try disk.open(old.walPath, .read)
        guard try file.size() == UInt64(SegmentNumber.bytes) else {
            file.close()
            try disk.remove(old.walPath)
            return
        }
        file.close()
        try disk.rename(old.walPath, to: name(next).walPath)
        if !planted(.unsyncedRecycledName) { try disk.syncDirectory("wal") }
        add(OpenSegment(number: next, file: try disk.open(name(next).walPath, .readWrite), isZeroed: false))
    }

    private func create(_ number: SegmentNumber, _ fill: (D.File) throws(DiskError) -> Void) throws(DiskError) {
        let path = name(number).walPath
        let temporary = path + ".tmp"
        if try disk.exists(temporary) { try disk.remove(temporary) }
        let file = try disk.open(temporary, .create)
        do throws(DiskError) {
            try fill(file)
            try disk.rename(temporary, to: path)
        } catch {
            // Gives the space back. The first error is the one to tell.
            file.close()
            do throws(DiskError) { try disk.remove(temporary) } catch {}
            throw error
        }
        file.close()
        if !planted(.unsyncedCreatedName) { try disk.syncDirectory("wal") }
        // Opened again under its own name, which is the one that errors tell.
        add(OpenSegment(number: number, file: try disk.open(path, .readWrite), isZeroed: true))
    }

    private func zeroFill(_ file: D.File) throws(DiskError) {
        try file.writeZeros(from: 0, bytes: UInt64(SegmentNumber.bytes))
        try file.sync()
    }

    private func add(_ segment: OpenSegment) {
        table.withLock { $0.append(segment) }
        made.store(segment.number.rawValue, ordering: .releasing)
    }

    private func exclusively(_ body: () throws(DiskError) -> Void) throws(DiskError) {
        let result: Result<Void, DiskError> = making.withLock { _ in
            do throws(DiskError) { return .success(try body()) } catch { return .failure(error) }
        }
        try result.get()
    }
}

/// A segment that is being written, or will be. Of no disk in particular: so the flush, which looks one up for each
/// batch, is compiled for it as it is.
struct OpenSegment: Sendable {
    var number: SegmentNumber
    var file: any DiskFile
    /// What was not written since it was opened is zero: a filler's body need not be.
    var isZeroed: Bool
}
