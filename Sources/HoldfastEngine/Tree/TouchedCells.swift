import HoldfastCore

/// Where a transaction has written behind the slots of its own copy of a tree page, so that a commit compares some
/// hundred bytes and not two whole pages.
///
/// Kept in the copy's bytes 0 ..< 4: a checksum is made when a page is written, so that in memory these are anybody's.
/// Whoever writes cells says so here first; what is before the slots' end is compared always. A commit of a debug build
/// checks that nothing was written in silence.
struct TouchedCells {
    private let page: UnsafeMutableRawPointer

    init(_ page: UnsafeMutableRawPointer) { self.page = page }

    var range: Range<Int> {
        let from = Int(page.load(as: UInt16.self)), to = Int(page.load(fromByteOffset: 2, as: UInt16.self))
        return from..<max(from, to)
    }

    /// A copy that is equal to the version it was made from. Of a page whose editors do not say where they write, all counts
    /// as written.
    func begin() {
        let kind = Page(page).rawKind
        if kind == PageKind.leaf.rawValue || kind == PageKind.branch.rawValue {
            set(Page.bytes, 0)
        } else {
            all()
        }
    }

    func all() { set(0, Page.bytes) }

    @inline(__always) func note(_ from: Int, _ to: Int) {
        set(
            min(Int(page.load(as: UInt16.self)), from), max(Int(page.load(fromByteOffset: 2, as: UInt16.self)), to))
    }

    @inline(__always) private func set(_ from: Int, _ to: Int) {
        page.storeBytes(of: UInt16(truncatingIfNeeded: from), as: UInt16.self)
        page.storeBytes(of: UInt16(truncatingIfNeeded: to), toByteOffset: 2, as: UInt16.self)
    }
}

extension Page {
    /// Whether two versions are equal behind the slots and the hole, but for `touched`.
    func equals(_ old: UnsafeRawPointer, outside touched: Range<Int>) -> Bool {
        for offset in upper..<Self.bytes where !touched.contains(offset) {
            if base.load(fromByteOffset: offset, as: UInt8.self) != old.load(fromByteOffset: offset, as: UInt8.self) {
                return false
            }
        }
        return true
    }
}
