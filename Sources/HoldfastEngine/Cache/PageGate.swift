import HoldfastCore

/// Keeps reads and writes of the same pages in the page files apart, and lets one thread load a page that several
/// want. Guards only I/O; nothing is held while it is waited for but the reader's own announcement.
final class PageGate: @unchecked Sendable {
    // Sendable: everything below is guarded by `monitor`.
    private let monitor = Monitor()
    private var loading: Set<UInt32> = []
    private var reading: [Range<UInt32>] = []
    private var writing: [Range<UInt32>] = []
    private var isClosed = false

    /// Waits for the I/O that runs; further loads and reads throw `closed`.
    func close() {
        monitor.lock()
        isClosed = true
        while !(loading.isEmpty && reading.isEmpty && writing.isEmpty) { monitor.wait() }
        monitor.unlock()
    }

    /// Waits until nobody loads or writes `page`, asks again whether it is still missing, and claims the load.
    /// - Returns: whether this thread loads it; end that with `endLoad`.
    func beginLoad(_ page: PageNumber, isMissing: () -> Bool) throws(EngineError) -> Bool {
        monitor.lock()
        defer { monitor.unlock() }
        if isClosed { throw .closed }
        while loading.contains(page.rawValue) || writing.contains(where: { $0.contains(page.rawValue) }) {
            monitor.wait()
        }
        guard isMissing() else { return false }
        loading.insert(page.rawValue)
        return true
    }

    func endLoad(_ page: PageNumber) {
        monitor.lock()
        loading.remove(page.rawValue)
        monitor.broadcast()
        monitor.unlock()
    }

    /// Claims pages for reading them from their file while nobody writes them (a backup does).
    func beginRead(_ pages: Range<UInt32>) throws(EngineError) {
        monitor.lock()
        defer { monitor.unlock() }
        if isClosed { throw .closed }
        while writing.contains(where: { $0.overlaps(pages) }) { monitor.wait() }
        reading.append(pages)
    }

    func endRead(_ pages: Range<UInt32>) {
        monitor.lock()
        reading.remove(at: reading.firstIndex(of: pages)!)
        monitor.broadcast()
        monitor.unlock()
    }

    /// Claims pages for writing them to their file.
    func beginWrite(_ pages: Range<UInt32>) {
        monitor.lock()
        while reading.contains(where: { $0.overlaps(pages) }) || writing.contains(where: { $0.overlaps(pages) })
            || loading.contains(where: { pages.contains($0) })
        { monitor.wait() }
        writing.append(pages)
        monitor.unlock()
    }

    func endWrite(_ pages: Range<UInt32>) {
        monitor.lock()
        writing.remove(at: writing.firstIndex(of: pages)!)
        monitor.broadcast()
        monitor.unlock()
    }
}
