import HoldfastCore

/// Which pages exist and which are free. Page 0 (kind meta), behind the page header:
///
///     offset  bytes  field
///         24      4  page count: pages at and above it were never allocated
///         28      4  head of the free list: a page of kind freeList, or 0
///         32      4  free pages, those that hold the list included
///         36      4  zero
///         40      8  the next tree's id
///
/// A page of the free list (kind freeList), which is itself free and handed out when it is empty:
///
///     offset  bytes  field
///         24      4  next page of the list, or 0
///         28      4  count n
///         32    4 n  free page numbers
///
/// Allocating and freeing are edits of these pages in the caller's transaction: they commit, roll back and
/// are redone with it. A freed page keeps its bytes, so that a reader of an older version still finds them.
package enum PageSpace {
    static let catalogRoot = PageNumber(1)
    static let listStart = 32
    static let listCapacity = (Page.bytes - listStart) / 4
    /// Page numbers are below this.
    static let maximumPages = UInt32.max

    /// Writes page 0 and page 1, the empty root catalog, of a new page space.
    package static func format(_ editor: some PageEditor) throws(EngineError) {
        let page = Page(try editor.create(PageNumber(0)))
        page.format(number: PageNumber(0), kind: .meta)
        let meta = Meta(page.base)
        meta.pageCount = 2
        meta.nextTreeID = 1
        page.lower = Meta.end
        let catalog = Page(try editor.create(catalogRoot))
        catalog.format(number: catalogRoot, kind: .leaf)
        Node(catalog.base).clear(level: 0)
    }

    /// Pages that were ever allocated, pages 0 and 1 included: the length of the page space.
    package static func pageCount(_ reader: some PageReader) throws(EngineError) -> UInt32 {
        try Meta(reading: reader.page(PageNumber(0))).pageCount
    }

    /// Pages that may be allocated before the page space grows.
    package static func freePages(_ reader: some PageReader) throws(EngineError) -> UInt32 {
        try Meta(reading: reader.page(PageNumber(0))).freePages
    }

    /// A page that nothing refers to, zeroed, with an empty header of this kind.
    static func allocate(
        _ editor: some PageEditor, kind: PageKind, level: Int = 0
    ) throws(EngineError) -> (number: PageNumber, page: Page) {
        let number = try takeNumber(editor)
        let page = Page(try editor.create(number))
        page.format(number: number, kind: kind, level: UInt8(level))
        TouchedCells(page.base).all()
        return (number, page)
    }

    private static func takeNumber(_ editor: some PageEditor) throws(EngineError) -> PageNumber {
        let meta = try Meta(editing: editor)
        let head = meta.freeHead
        if head.rawValue == 0 {
            let number = meta.pageCount
            guard number < maximumPages else { throw .pageSpaceFull }
            meta.pageCount = number + 1
            return PageNumber(number)
        }
        let list = FreeListPage(try editor.page(head))
        try list.check(head)
        meta.freePages &-= 1
        guard list.count > 0 else {
            meta.freeHead = list.next
            return head
        }
        let changed = FreeListPage(try editor.modify(head))
        let number = changed.entry(changed.count - 1)
        changed.count -= 1
        guard number > catalogRoot, number.rawValue < meta.pageCount else {
            throw damaged(head, "free page \(number) is outside the page space")
        }
        return number
    }

    /// Gives a page back. Its bytes may be overwritten at once in this transaction: pointers to them end here.
    static func free(_ number: PageNumber, _ editor: some PageEditor) throws(EngineError) {
        let meta = try Meta(editing: editor)
        guard number > catalogRoot, number.rawValue < meta.pageCount else {
            throw damaged(number, "a page outside the page space cannot be freed")
        }
        let head = meta.freeHead
        meta.freePages &+= 1
        if head.rawValue != 0 {
            let list = FreeListPage(try editor.page(head))
            try list.check(head)
            guard head != number else { throw damaged(number, "the page is free already") }
            if list.count < listCapacity {
                FreeListPage(try editor.modify(head)).push(number)
                return
            }
        }
        let page = Page(try editor.create(number))
        page.format(number: number, kind: .freeList)
        TouchedCells(page.base).all()
        let list = FreeListPage(page.base)
        list.next = head
        list.count = 0
        meta.freeHead = number
    }

    /// A number for a new tree that no other tree of this page space ever had.
    static func takeTreeID(_ editor: some PageEditor) throws(EngineError) -> UInt64 {
        let meta = try Meta(editing: editor)
        let id = meta.nextTreeID
        guard id < .max else { throw .damagedPage(PageNumber(0), "the next tree's id is the last possible") }
        meta.nextTreeID = id + 1
        return id
    }
}

/// Page 0.
struct Meta {
    static let end = 48
    let base: UnsafeMutableRawPointer

    init(_ base: UnsafeMutableRawPointer) { self.base = base }

    init(reading pointer: UnsafeRawPointer) throws(EngineError) {
        base = UnsafeMutableRawPointer(mutating: pointer)
        guard Page(base).kind == .meta, pageCount >= 2 else { throw damaged(PageNumber(0), "it is no meta page") }
    }

    init(editing editor: some PageEditor) throws(EngineError) {
        try self.init(reading: editor.modify(PageNumber(0)))
    }

    private func number(_ offset: Int) -> UInt32 { base.load(fromByteOffset: offset, as: UInt32.self) }

    var pageCount: UInt32 {
        get { number(24) }
        nonmutating set { base.storeBytes(of: newValue, toByteOffset: 24, as: UInt32.self) }
    }
    var freeHead: PageNumber {
        get { PageNumber(number(28)) }
        nonmutating set { base.storeBytes(of: newValue.rawValue, toByteOffset: 28, as: UInt32.self) }
    }
    var freePages: UInt32 {
        get { number(32) }
        nonmutating set { base.storeBytes(of: newValue, toByteOffset: 32, as: UInt32.self) }
    }
    var nextTreeID: UInt64 {
        get { base.load(fromByteOffset: 40, as: UInt64.self) }
        nonmutating set { base.storeBytes(of: newValue, toByteOffset: 40, as: UInt64.self) }
    }
}

/// A borrowed view of a page of the free list.
struct FreeListPage {
    let base: UnsafeMutableRawPointer

    init(_ base: UnsafeMutableRawPointer) { self.base = base }
    init(_ base: UnsafeRawPointer) { self.base = UnsafeMutableRawPointer(mutating: base) }

    func check(_ number: PageNumber) throws(EngineError) {
        guard Page(base).kind == .freeList, count <= PageSpace.listCapacity else {
            throw damaged(number, "it is no page of the free list")
        }
    }

    var next: PageNumber {
        get { PageNumber(base.load(fromByteOffset: 24, as: UInt32.self)) }
        nonmutating set { base.storeBytes(of: newValue.rawValue, toByteOffset: 24, as: UInt32.self) }
    }
    /// Free page numbers here. Setting it moves `lower`.
    var count: Int {
        get { Int(base.load(fromByteOffset: 28, as: UInt32.self)) }
        nonmutating set {
            base.storeBytes(of: UInt32(newValue), toByteOffset: 28, as: UInt32.self)
            Page(base).lower = PageSpace.listStart + 4 * newValue
        }
    }
    func entry(_ index: Int) -> PageNumber {
        PageNumber(base.load(fromByteOffset: PageSpace.listStart + 4 * index, as: UInt32.self))
    }
    func push(_ number: PageNumber) {
        let count = self.count
        base.storeBytes(of: number.rawValue, toByteOffset: PageSpace.listStart + 4 * count, as: UInt32.self)
        self.count = count + 1
    }
}
