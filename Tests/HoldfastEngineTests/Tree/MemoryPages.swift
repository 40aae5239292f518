import HoldfastCore

@testable import HoldfastEngine

/// A page space in memory with versions: what a transaction sees of the engine, without cache, log and disk.
/// Nothing a transaction changed is visible to readers before `commit`, and pinned versions stay.
final class MemoryPages: PageEditor {
    typealias Version = [UInt32: MemoryPage]

    private(set) var committed: Version = [:]
    private var changed: Version = [:]
    private(set) var createdPages = 0

    init() throws {
        try PageSpace.format(self)
        commit()
    }

    /// Goes on from a version, which itself stays as it is.
    init(version: Version) { committed = version }

    func page(_ n: PageNumber) throws(EngineError) -> UnsafeRawPointer {
        if let page = changed[n.rawValue] { return UnsafeRawPointer(page.base) }
        return try Self.page(n, committed)
    }

    static func page(_ n: PageNumber, _ version: Version) throws(EngineError) -> UnsafeRawPointer {
        guard let page = version[n.rawValue] else { throw .damagedPage(n, "it does not exist") }
        return UnsafeRawPointer(page.base)
    }

    func modify(_ n: PageNumber) throws(EngineError) -> UnsafeMutableRawPointer {
        if let page = changed[n.rawValue] { return page.base }
        let page = MemoryPage()
        page.base.copyMemory(from: try Self.page(n, committed), byteCount: Page.bytes)
        changed[n.rawValue] = page
        return page.base
    }

    func create(_ n: PageNumber) throws(EngineError) -> UnsafeMutableRawPointer {
        createdPages += 1
        let page = changed[n.rawValue] ?? MemoryPage()
        page.base.initializeMemory(as: UInt8.self, repeating: 0, count: Page.bytes)
        changed[n.rawValue] = page
        return page.base
    }

    /// Publishes the changes, their holes filled with what tree code must not lean on.
    func commit(hole: UInt8 = 0) {
        for (number, page) in changed {
            let view = Page(page.base)
            if view.lower < view.upper, view.upper <= Page.bytes {
                (page.base + view.lower).initializeMemory(
                    as: UInt8.self, repeating: hole, count: view.upper - view.lower)
            }
            committed[number] = page
        }
        changed.removeAll(keepingCapacity: true)
    }

    func rollBack() { changed.removeAll(keepingCapacity: true) }

    /// A reader of what is committed now, unmoved by what comes later.
    func snapshot() -> MemorySnapshot { MemorySnapshot(version: committed) }
}

/// A version of all pages.
struct MemorySnapshot: PageReader {
    var version: MemoryPages.Version

    func page(_ n: PageNumber) throws(EngineError) -> UnsafeRawPointer { try MemoryPages.page(n, version) }
}

/// 8,192 bytes, freed with their last version.
final class MemoryPage {
    let base = UnsafeMutableRawPointer.allocate(byteCount: Page.bytes, alignment: Page.bytes)
    init() { base.initializeMemory(as: UInt8.self, repeating: 0, count: Page.bytes) }
    deinit { base.deallocate() }
}
