import HoldfastCore
import HoldfastWAL

/// Checks a data directory that no server uses, and writes nothing: the control file's slots, that the log ends where it
/// says, every page file from end to end, and the structure that the pages make.
///
/// The pages are the whole state only after an orderly stop. A directory that was killed, or waits for an archive, is
/// refused: what looks like damage there is what recovery is for.
///
///     let result = try DirectoryCheck(disk: RealDisk(root: path)).run()
package struct DirectoryCheck<D: Disk> {
    let disk: D

    package init(disk: D) { self.disk = disk }

    /// 2^32 pages.
    private static var mostFiles: Int { 32_768 }

    /// Holds the directory's lock while it runs.
    /// - Throws: `disk` (`EWOULDBLOCK` when the directory is in use), `notADataDirectory`, `damagedControl`, `newerFormat`,
    ///   `restoreInProgress`, `needsRecovery`, `staleControl`.
    package func run() throws -> CheckResult {
        try onDisk { () throws(DiskError) in try disk.lock() }
        defer { disk.unlock() }
        let slots = try ControlSlots(of: disk)
        let control = try slots.current()
        switch control.state {
        case .stopped: break
        case .restoring: throw EngineError.restoreInProgress(control.command)
        case .running: throw EngineError.needsRecovery("it was not stopped in order")
        case .recovering: throw EngineError.needsRecovery("it was restored, and has not replayed the archive")
        }
        for name in [BackupLabel.path, RecoverySignal.fileName, PromoteSignal.path, "standby.signal"]
        where try onDisk({ () throws(DiskError) in try disk.exists(name) }) {
            throw EngineError.needsRecovery("\(name) asks for it")
        }
        var result = CheckResult(lsn: control.redo.lsn)
        for problem in slots.problems { result.add(CheckProblem(object: ControlData.path, problem: problem)) }
        if let problem = try logProblem(control) { result.add(problem) }
        let pages = DirectoryPages(disk)
        defer { pages.close() }
        let structure = try StructureCheck.run(pages)
        result.add(try sweep(end: control.redo.lsn), structure)
        return result
    }

    /// The log must end with the checkpoint of the stop: commits behind it are what an old control file leaves out.
    private func logProblem(_ control: ControlData) throws(EngineError) -> CheckProblem? {
        let history: TimelineHistory
        do throws(EngineError) {
            history = try RecoveryPlan.history(disk, control)
        } catch {
            if case .disk = error { throw error }
            return CheckProblem(object: TimelineHistory.walPath(control.timeline), problem: Self.why(error))
        }
        let reader = LogReader(
            source: DiskSegmentSource(disk: disk), system: control.system, history: history, from: control.redo.lsn,
            chain: control.redoChain)
        let commit: LSN?
        do throws(WALError) {
            commit = try Self.commit(in: reader)
        } catch {
            if case .disk(let error) = error { throw .disk(error) }
            return CheckProblem(object: "wal at \(reader.position)", problem: Self.why(error))
        }
        if let commit { throw .staleControl(control.redo.lsn, commit: commit) }
        guard let end = reader.end, end.position < control.knownDurableEnd else { return nil }
        return CheckProblem(
            object: end.segment.walPath,
            problem: "the log ends at \(end.position), and was durable to \(control.knownDurableEnd): \(end.reason)")
    }

    private static func why(_ error: some DiagnosableError) -> String { error.diagnosis.why ?? error.diagnosis.what }

    /// Where the next commit ends; `nil`: there is none.
    private static func commit(in reader: LogReader<DiskSegmentSource<D>>) throws(WALError) -> LSN? {
        while let record = try reader.next() {
            if record.kind == .commit, record.flags.contains(.commit) { return record.end }
        }
        return nil
    }

    /// Reads every page file from end to end.
    private func sweep(end: LSN) throws -> PageSweep {
        let names = try onDisk { () throws(DiskError) in try disk.list("pages") }
        var sweep = PageSweep(pages: UInt64(names.count) * UInt64(PageNumber.pagesPerFile))
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: PageSweep.runPages * Page.bytes, alignment: 4096)
        defer { buffer.deallocate() }
        for (index, name) in names.enumerated() {
            let expected = PageNumber.filePath(index)
            guard "pages/" + name == expected, index < Self.mostFiles else {
                sweep.report(
                    CheckProblem(object: "pages/" + printable(name), problem: "\(expected) is expected in its place"))
                continue
            }
            try onDisk { () throws(DiskError) in try look(at: expected, index, buffer, end, &sweep) }
        }
        return sweep
    }

    private func look(
        at path: String, _ index: Int, _ buffer: UnsafeMutableRawBufferPointer, _ end: LSN, _ sweep: inout PageSweep
    ) throws(DiskError) {
        let file = try disk.open(path, .read)
        defer { file.close() }
        // What the device has, not what memory remembers of it.
        file.dropCache()
        let bytes = try file.size()
        if bytes % UInt64(Page.bytes) != 0 {
            sweep.report(CheckProblem(object: path, problem: "its size, \(bytes) bytes, is no whole number of pages"))
        }
        let pages = min(bytes / UInt64(Page.bytes), UInt64(PageNumber.pagesPerFile))
        if bytes / UInt64(Page.bytes) > pages {
            sweep.report(CheckProblem(object: path, problem: "its size, \(bytes) bytes, is beyond 1 GiB"))
        }
        var next: UInt64 = 0
        while next < pages {
            let count = Int(min(UInt64(PageSweep.runPages), pages - next))
            let window = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(count * Page.bytes)])
            let first = PageNumber(UInt32(index) * PageNumber.pagesPerFile + UInt32(next))
            do throws(DiskError) {
                let read = try file.read(into: window, at: next * UInt64(Page.bytes)) / Page.bytes
                guard read > 0, let base = window.baseAddress else { return }
                sweep.look(at: base, from: first, count: read, end: end)
            } catch {
                guard error.code == .inputOutput else { throw error }
                try lookOneByOne(at: file, first, window, end, &sweep)
            }
            next += UInt64(count)
        }
    }

    /// A run of pages of which some cannot be read: a bad place of the device is named, and the check goes on.
    private func lookOneByOne(
        at file: D.File, _ first: PageNumber, _ window: UnsafeMutableRawBufferPointer, _ end: LSN,
        _ sweep: inout PageSweep
    ) throws(DiskError) {
        for index in 0..<window.count / Page.bytes {
            let number = PageNumber(first.rawValue + UInt32(index))
            let place = UnsafeMutableRawBufferPointer(rebasing: window[index * Page.bytes..<(index + 1) * Page.bytes])
            do throws(DiskError) {
                guard try file.read(into: place, at: number.fileOffset) == Page.bytes else { return }
                sweep.look(at: place.baseAddress!, from: number, count: 1, end: end)
            } catch {
                guard error.code == .inputOutput else { throw error }
                sweep.cannotRead(number, error.diagnosis.why ?? "")
            }
        }
    }
}
