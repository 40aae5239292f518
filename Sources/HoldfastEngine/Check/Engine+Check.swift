import HoldfastCore

extension Engine {
    /// Checks this engine's pages while it is used: the structure of a snapshot of now, then checksum and identity of
    /// every page as it lies on the disk. Waits for no writer, and no writer waits for it. Blocking, and it reads
    /// everything: run it on a thread of its own. Memory: two bits for each page, and the versions that the snapshot keeps.
    ///
    /// - Parameter goesOn: asked before each step (a page of the structure, 1 MiB of the files); `false` ends the check.
    /// - Throws: `snapshotTooOld` when the writes of meanwhile need more memory for old versions than there is; `closed`
    ///   when the engine was closed or `goesOn` said no; `disk`.
    package func check(while goesOn: () -> Bool = { true }) throws -> CheckResult {
        let handle = try makeSnapshot()
        defer { handle.close() }
        var result = CheckResult(lsn: handle.lsn)
        let structure = try handle.read { snapshot in
            try snapshot.inSteps(while: goesOn) { try StructureCheck.run($0) }
        }
        // The files are read at whatever moment they are in: versions are needed no longer.
        handle.close()
        result.add(try sweep(while: goesOn), structure)
        return result
    }

    private func sweep(while goesOn: () -> Bool) throws -> PageSweep {
        let all = cache.store.allocatedPages
        var sweep = PageSweep(pages: all)
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: PageSweep.runPages * Page.bytes, alignment: 4096)
        defer { buffer.deallocate() }
        var next: UInt64 = 0
        while next < all {
            guard goesOn() else { throw EngineError.closed }
            let count = Int(min(UInt64(PageSweep.runPages), all - next)), first = PageNumber(UInt32(next))
            try readPages(
                from: first, count: count,
                into: UnsafeMutableRawBufferPointer(start: buffer, count: count * Page.bytes))
            // Read behind the pages: none was written before its log was durable.
            sweep.look(at: buffer, from: first, count: count, end: durableLSN)
            next += UInt64(count)
        }
        return sweep
    }
}

extension Snapshot {
    /// Runs `body` with a reader that lets go of the page before with each page it is asked for: what reads the whole
    /// page space that way holds one page in memory. `body` must not use a page behind the next call for one.
    func inSteps<R>(while goesOn: () -> Bool, _ body: (SteppedReader) throws -> R) throws -> R {
        try withoutActuallyEscaping(goesOn) { goesOn in
            try operation { view in
                try body(SteppedReader(view: view, readers: readers, slot: slot, goesOn: goesOn))
            }
        }
    }
}

/// A snapshot's pages, one at a time.
struct SteppedReader: PageReader {
    let view: VersionView
    let readers: Unmanaged<ReaderSlots>
    let slot: UnsafeMutablePointer<ReaderSlots.Slot>
    let goesOn: () -> Bool

    func page(_ n: PageNumber) throws(EngineError) -> UnsafeRawPointer {
        guard goesOn() else { throw .closed }
        readers._withUnsafeGuaranteedRef { $0.refresh(slot) }
        return try view.page(n)
    }
}
