import Glibc
import HoldfastCore
import Synchronization

/// The page space on a disk, as the cache and the checkpoint use it.
protocol PageStore: AnyObject, Sendable {
    /// Reads `count` pages from `first` on; what lies behind the end of the files is zero ("never written").
    func read(from first: PageNumber, count: Int, into buffer: UnsafeMutableRawPointer) throws(DiskError)
    /// Writes a run of pages that lies in one file. Not durable before `sync`.
    func write(from first: PageNumber, _ bytes: UnsafeRawBufferPointer) throws(DiskError)
    /// Brings what was written since the last call to the device, and waits for that. Not durable before `sync`; a failure
    /// is as fatal.
    func writeBack() throws(DiskError)
    /// Makes what was written or grown before the call durable. A failure is fatal.
    func sync() throws(DiskError)
    /// Gives the files allocated space through `page`, and some ahead: writing there cannot run out of it.
    func extend(toCover page: PageNumber) throws(DiskError)
    /// Pages that have space.
    var allocatedPages: UInt64 { get }
    func close()
}

/// Files of 1 GiB, `pages/00000000` and on, opened when needed.
final class PageFiles<D: Disk>: PageStore {
    static var directory: String { "pages" }
    private static var largestStep: UInt64 { 8192 }  // 64 MiB
    private static var smallestStep: UInt64 { 128 }  // 1 MiB

    private struct State {
        var files: [Int: D.File] = [:]
        /// Written or grown since the last sync began.
        var touched: Set<Int> = []
        var directoryTouched = false
        /// Bytes of each file that were written since the last write-back began, from the first to the last.
        var written: [Int: Range<UInt64>] = [:]
    }

    private let disk: D
    private let state: Mutex<State>
    private let allocated: Atomic<UInt64>
    /// Guards growth: one at a time.
    private let growth = Monitor()

    /// Opens the page space. A file that ends inside a page, or a gap in the numbers, is what a crash leaves
    /// behind or damage; both show when a page is read.
    init(_ disk: D) throws(DiskError) {
        self.disk = disk
        var pages: UInt64 = 0
        var index = 0
        var files: [Int: D.File] = [:]
        while try disk.exists(PageNumber.filePath(index)) {
            let file = try disk.open(PageNumber.filePath(index), .readWrite)
            files[index] = file
            pages = UInt64(index) * UInt64(PageNumber.pagesPerFile) + (try file.size()) / UInt64(Page.bytes)
            index += 1
        }
        allocated = Atomic(pages)
        state = Mutex(State(files: files))
    }

    var allocatedPages: UInt64 { allocated.load(ordering: .acquiring) }

    func read(from first: PageNumber, count: Int, into buffer: UnsafeMutableRawPointer) throws(DiskError) {
        var page = UInt64(first.rawValue)
        var left = count
        var out = buffer
        while left > 0 {
            let inFile = Int(UInt64(PageNumber.pagesPerFile) - page % UInt64(PageNumber.pagesPerFile))
            let pages = min(left, inFile)
            let target = UnsafeMutableRawBufferPointer(start: out, count: pages * Page.bytes)
            let number = PageNumber(UInt32(page))
            var got = 0
            if let file = state.withLock({ $0.files[number.fileIndex] }) {
                got = try file.read(into: target, at: number.fileOffset)
            }
            if got < target.count {
                memset(out + got, 0, target.count - got)
            }
            page += UInt64(pages)
            left -= pages
            out += target.count
        }
    }

    func write(from first: PageNumber, _ bytes: UnsafeRawBufferPointer) throws(DiskError) {
        let file = try openOrCreate(first.fileIndex)
        // Behind the write, so that a sync that began meanwhile does not count for it.
        defer {
            let range = first.fileOffset..<first.fileOffset + UInt64(bytes.count)
            state.withLock { state in
                state.touched.insert(first.fileIndex)
                let known = state.written[first.fileIndex] ?? range
                state.written[first.fileIndex] =
                    min(known.lowerBound, range.lowerBound)..<max(known.upperBound, range.upperBound)
            }
        }
        try file.write(bytes, at: first.fileOffset)
    }

    func writeBack() throws(DiskError) {
        let ranges = state.withLock { state in
            defer { state.written = [:] }
            return state.written.map { (file: state.files[$0]!, range: $1) }
        }
        for (file, range) in ranges {
            try file.writeBack(from: range.lowerBound, bytes: range.upperBound - range.lowerBound)
        }
    }

    private func markTouched(_ index: Int) { _ = state.withLock { $0.touched.insert(index) } }

    func sync() throws(DiskError) {
        let (touched, directory) = state.withLock { state in
            defer {
                state.touched = []
                state.directoryTouched = false
                state.written = [:]
            }
            return (state.touched.sorted().map { state.files[$0]! }, state.directoryTouched)
        }
        for file in touched { try file.sync() }
        if directory { try disk.syncDirectory(Self.directory) }
    }

    func extend(toCover page: PageNumber) throws(DiskError) {
        if UInt64(page.rawValue) < allocatedPages { return }
        growth.lock()
        defer { growth.unlock() }
        let perFile = UInt64(PageNumber.pagesPerFile)
        while UInt64(page.rawValue) >= allocatedPages {
            let from = allocatedPages
            let fileEnd = (from / perFile + 1) * perFile
            let needed = min(UInt64(page.rawValue) + 1, fileEnd)
            let ahead = min(max(from / 8, Self.smallestStep), Self.largestStep)
            let wished = min(max(needed, from + ahead), fileEnd)
            let file = try create(Int(from / perFile))
            defer { markTouched(Int(from / perFile)) }
            do throws(DiskError) {
                try grow(file, from, wished)
            } catch {
                guard error.isNoSpace, needed < wished else { throw error }
                try grow(file, from, needed)
            }
        }
    }

    private func grow(_ file: D.File, _ from: UInt64, _ to: UInt64) throws(DiskError) {
        let offset = from % UInt64(PageNumber.pagesPerFile) * UInt64(Page.bytes)
        try file.allocate(from: offset, bytes: (to - from) * UInt64(Page.bytes))
        allocated.store(to, ordering: .releasing)
    }

    func close() {
        let files = state.withLock { state in
            defer { state.files = [:] }
            return Array(state.files.values)
        }
        for file in files { file.close() }
    }

    private func openOrCreate(_ index: Int) throws(DiskError) -> D.File {
        if let known = state.withLock({ $0.files[index] }) { return known }
        growth.lock()
        defer { growth.unlock() }
        return try create(index)
    }

    /// Under `growth`.
    private func create(_ index: Int) throws(DiskError) -> D.File {
        if let known = state.withLock({ $0.files[index] }) { return known }
        let file = try disk.open(PageNumber.filePath(index), .createOrOpen)
        state.withLock { state in
            state.files[index] = file
            state.touched.insert(index)
            state.directoryTouched = true
        }
        return file
    }
}
