import HoldfastCore
import HoldfastWAL

/// Makes a data directory. `control` comes last, whole and under its name at once: a directory without it is no
/// data directory to anyone, so that what an interrupted call leaves is never taken for one.
struct DirectoryMaker<D: Disk> {
    let disk: D
    let options: InitializeOptions

    func make() throws -> SystemIdentifier {
        try onDisk { () throws(DiskError) in try disk.lock() }
        defer { disk.unlock() }
        try clear()
        let system = options.systemIdentifier ?? .random()
        let token = TimelineToken.random()
        try onDisk { () throws(DiskError) in
            for directory in TrustedDirectory<D>.directories { try disk.createDirectory(directory) }
        }
        try makePages()
        let (end, record) = try makeLog(LogIdentity(system: system, timeline: .first, token: token))
        try onDisk { () throws(DiskError) in
            for directory in TrustedDirectory<D>.directories + [""] { try disk.syncDirectory(directory) }
        }
        var control = ControlData(
            state: .stopped, system: system, timeline: .first, token: token, redo: LogLayout.firstPosition,
            redoChain: 0)
        control.checkpointLSN = record
        control.knownDurableEnd = end
        control.ownFrom = .init(timeline: .first, lsn: LogLayout.firstPosition)
        try onDisk { () throws(DiskError) in try ControlFile.create(on: disk, control).close() }
        return system
    }

    /// Removes what an unfinished call of this left; refuses anything else.
    private func clear() throws(EngineError) {
        let names = try onDisk { () throws(DiskError) in try disk.list("") }
        let known = Set(TrustedDirectory<D>.directories.filter { !$0.contains("/") } + [ControlData.path + ".tmp"])
        if let other = names.first(where: { !known.contains($0) }) { throw .notEmpty(disk.root + "/" + other) }
        try onDisk { () throws(DiskError) in
            for directory in TrustedDirectory<D>.directories.reversed() where try disk.exists(directory) {
                for name in try disk.list(directory) { try disk.remove(directory + "/" + name) }
                try disk.removeDirectory(directory)
            }
            let temporary = ControlData.path + ".tmp"
            if try disk.exists(temporary) { try disk.remove(temporary) }
        }
    }

    /// Pages 0 and 1, as of the log's beginning: the first change of each is logged as an image.
    private func makePages() throws(EngineError) {
        let editor = FirstPages()
        try PageSpace.format(editor)
        try onDisk { () throws(DiskError) in
            let pages = try PageFiles(disk)
            defer { pages.close() }
            try pages.extend(toCover: PageNumber(UInt32(max(options.pageFileBytes / Page.bytes, 2) - 1)))
            for (index, page) in editor.pages.enumerated() {
                Page(page).zeroHole()
                Page(page).lsn = LogLayout.firstPosition
                Page(page).stampChecksum()
                try pages.write(
                    from: PageNumber(UInt32(index)), UnsafeRawBufferPointer(start: page, count: Page.bytes))
            }
            try pages.sync()
        }
    }

    /// The log's first records, so that an empty `wal/` is never mistaken for a new one.
    private func makeLog(_ identity: LogIdentity) throws(EngineError) -> (end: LSN, checkpoint: LSN) {
        try onLog { () throws(WALError) in
            let log = try LogWriter(disk: disk, identity: identity, start: .newLog, onFatal: { _ in })
            defer { log.close() }
            let record = try log.append(
                RecordBody.checkpoint(
                    redo: LogLayout.firstPosition, redoTimeline: identity.timeline, lastTransaction: TransactionID(0),
                    time: systemClockMicroseconds()))
            try log.flush(through: record.end)
            let end = try log.appendWitness()
            try log.flush(through: end)
            return (end, record.start)
        }
    }
}

/// Pages 0 and 1 in memory.
private final class FirstPages: PageEditor {
    let pages: [UnsafeMutableRawPointer]

    init() {
        pages = (0..<2).map { _ in
            let page = UnsafeMutableRawPointer.allocate(byteCount: Page.bytes, alignment: 4096)
            page.initializeMemory(as: UInt8.self, repeating: 0, count: Page.bytes)
            return page
        }
    }

    deinit { for page in pages { page.deallocate() } }

    func page(_ n: PageNumber) throws(EngineError) -> UnsafeRawPointer { UnsafeRawPointer(try modify(n)) }
    func modify(_ n: PageNumber) throws(EngineError) -> UnsafeMutableRawPointer {
        guard n.rawValue < 2 else { throw .damagedPage(n, "a new page space has two pages") }
        return pages[Int(n.rawValue)]
    }
    func create(_ n: PageNumber) throws(EngineError) -> UnsafeMutableRawPointer { try modify(n) }
}
