import HoldfastCore

/// The pages of a directory that nobody has open, read when they are asked for and checked as the cache checks them.
/// A page stays for the next `capacity - 1` reads of others. Used by one thread.
final class DirectoryPages<D: Disk>: PageReader {
    private let disk: D
    private var files: [Int: D.File] = [:]
    private var held: [PageNumber?]
    private let memory: UnsafeMutableRawPointer
    private var next = 0
    private static var capacity: Int { 8 }

    init(_ disk: D) {
        self.disk = disk
        held = Array(repeating: nil, count: Self.capacity)
        memory = .allocate(byteCount: Self.capacity * Page.bytes, alignment: 4096)
    }

    deinit {
        close()
        memory.deallocate()
    }

    func close() {
        for file in files.values { file.close() }
        files = [:]
    }

    func page(_ n: PageNumber) throws(EngineError) -> UnsafeRawPointer {
        if let place = held.firstIndex(of: n) { return UnsafeRawPointer(memory + place * Page.bytes) }
        let place = next
        next = (next + 1) % Self.capacity
        held[place] = nil
        let window = UnsafeMutableRawBufferPointer(start: memory + place * Page.bytes, count: Page.bytes)
        let count: Int
        do throws(DiskError) {
            count = try file(n.fileIndex).read(into: window, at: n.fileOffset)
        } catch {
            if error.code == .noEntry { throw .damagedPage(n, "its file does not exist") }
            if error.code == .inputOutput { throw .damagedPage(n, "it cannot be read: \(error.diagnosis.why ?? "")") }
            throw .disk(error)
        }
        guard count == Page.bytes else { throw .damagedPage(n, "its file ends before it") }
        let page = Page(memory + place * Page.bytes)
        if let fault = page.fault(expected: n) { throw .damagedPage(n, "\(fault)") }
        // Whoever asks for a page has been referred to it.
        if page.kind == nil { throw .damagedPage(n, "\(PageFault.neverWritten)") }
        held[place] = n
        return UnsafeRawPointer(page.base)
    }

    private func file(_ index: Int) throws(DiskError) -> D.File {
        if let file = files[index] { return file }
        let file = try disk.open(PageNumber.filePath(index), .read)
        files[index] = file
        return file
    }
}
