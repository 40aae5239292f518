import HoldfastCore
import HoldfastEngine

/// Pages in memory for tree code to read and change: no cache, log or disk, and no way back.
final class FuzzPages: PageEditor {
    private var pages: [FuzzPage]
    /// Pages that an input made can be no more than what it took and what its changes add.
    private static let most = 4096
    var hasFailed = false

    init(_ pages: [FuzzPage]) { self.pages = pages }

    var count: Int { pages.count }
    var bytes: Int { pages.count * Page.bytes }

    func page(_ n: PageNumber) throws(EngineError) -> UnsafeRawPointer {
        guard n.rawValue < pages.count else { throw .damagedPage(n, "it does not exist") }
        return UnsafeRawPointer(pages[Int(n.rawValue)].base)
    }

    func modify(_ n: PageNumber) throws(EngineError) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(mutating: try page(n))
    }

    func create(_ n: PageNumber) throws(EngineError) -> UnsafeMutableRawPointer {
        guard n.rawValue < Self.most else { throw .pageSpaceFull }
        while pages.count <= n.rawValue { pages.append(FuzzPage()) }
        let base = pages[Int(n.rawValue)].base
        base.initializeMemory(as: UInt8.self, repeating: 0, count: Page.bytes)
        return base
    }

    /// In the form that `PagesTarget` reads.
    func encoded() -> [UInt8] {
        var out = FuzzOutput()
        for page in pages {
            let view = Page(page.base), front = max(16, view.lower) - 16, back = Page.bytes - view.upper
            out.add(short: front)
            out.add(short: back)
            out.add(UnsafeRawBufferPointer(start: page.base + 16, count: front))
            out.add(UnsafeRawBufferPointer(start: page.base + view.upper, count: back))
        }
        return out.bytes
    }
}

extension FuzzPage {
    /// Puts bytes at a place, as many as fit.
    func lay(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        guard let source = bytes.baseAddress else { return }
        (base + offset).copyMemory(from: source, byteCount: min(bytes.count, Page.bytes - offset))
    }
}
