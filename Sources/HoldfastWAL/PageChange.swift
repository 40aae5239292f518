import HoldfastCore

/// How a commit says what became of a page. A commit's payload is a sequence of these, each page once:
///
///     offset  bytes  field
///          0      4  page number
///          4      2  form: 1 difference, 2 full-page image
///          6      2  bytes that follow
///          8         a difference: ranges; an image: the page's bytes 16 ..< lower and upper ..< 8192
///
/// A range of a difference is `offset (2), length (2), the bytes`; with the top bit of the length set it
/// is a move, `offset (2), length | 0x8000 (2), source offset (2)`: that many bytes of the page as it then is.
/// Ranges are carried out in order. Nothing names bytes 0 ..< 16 of a page: the CRC is stamped when the page
/// is written, the number is the change's, the pageLSN is the commit's end. The hole is not logged; it is zero.
///
/// Public, and so its iterator, for the sake of replay, in which they run millions of times a second: into another module
/// the compiler inlines what is public and inlinable, and not (Swift 6.3) what is `package`.
public struct PageChange {
    @inlinable public static var headerBytes: Int { 8 }
    /// Bytes 0 ..< 16 of a page are never logged.
    static var loggedFrom: Int { 16 }
    static var rangeHeaderBytes: Int { 4 }
    static var moveBytes: Int { 6 }
    static var moveFlag: UInt16 { 0x8000 }

    public enum Form: UInt16, Sendable {
        case difference = 1
        case image = 2
    }

    public let page: PageNumber
    public let form: Form
    /// Owned by whoever owns the commit's payload.
    public let payload: UnsafeRawBufferPointer

    @inlinable public var isImage: Bool { form == .image }

    @inlinable @inline(__always)
    init(page: PageNumber, form: Form, payload: UnsafeRawBufferPointer) {
        self.page = page
        self.form = form
        self.payload = payload
    }
}

/// Walks the changes of a commit's payload.
public struct PageChangeIterator {
    @usableFromInline var rest: UnsafeRawBufferPointer

    package init(_ payload: UnsafeRawBufferPointer) { rest = payload }

    /// The next change, `nil` at the end. Throws where the bytes cannot be one.
    @inlinable @inline(__always)
    public mutating func next() throws(ImpossibleChange) -> PageChange? {
        guard let base = rest.baseAddress, rest.count > 0 else { return nil }
        guard rest.count >= PageChange.headerBytes else {
            throw ImpossibleChange(PageNumber(UInt32.max), "a change is cut after \(rest.count) bytes")
        }
        let page = PageNumber(base.loadUnaligned(fromByteOffset: 0, as: UInt32.self))
        let bytes = Int(base.loadUnaligned(fromByteOffset: 6, as: UInt16.self))
        guard let form = PageChange.Form(rawValue: base.loadUnaligned(fromByteOffset: 4, as: UInt16.self)) else {
            throw ImpossibleChange(page, "its form is unknown")
        }
        let taken = PageChange.headerBytes + bytes
        guard taken <= rest.count else {
            throw ImpossibleChange(page, "\(bytes) bytes are announced and \(rest.count - 8) are there")
        }
        rest = UnsafeRawBufferPointer(start: base + taken, count: rest.count - taken)
        return PageChange(
            page: page, form: form,
            payload: UnsafeRawBufferPointer(start: base + PageChange.headerBytes, count: bytes))
    }
}

/// A change that cannot be read, or not be applied to the page that it names.
public struct ImpossibleChange: DiagnosableError, Equatable {
    public let page: PageNumber
    public let why: String

    /// Out of line: what calls it is inlined into loops.
    @inline(never) @usableFromInline
    init(_ page: PageNumber, _ why: @autoclosure () -> String) {
        self.page = page
        self.why = why()
    }

    public var diagnosis: Diagnosis {
        Diagnosis(
            "a logged change of page \(page) cannot be applied", why: why,
            next: "the data directory cannot be trusted: restore the cluster from a backup (holdfast restore)",
            status: .dataError)
    }
}

/// Redo: makes `page` (8,192 bytes) what the commit that ends at `commitEnd` made it. Pure; knows nothing of trees.
///
/// An image is applied whatever the page holds, which may be torn; a difference only when the page's LSN is below
/// `commitEnd`. Sets the page's number and LSN, leaves a zero hole; the CRC is stamped when the page is written.
/// - Returns: `false` when the page was left as it is, since it is as new or newer.
/// - Throws: for ranges outside the page or a page that cannot be meant. A page that was
///   being changed is then in an undefined state.
@discardableResult
package func apply(
    _ change: PageChange, to page: UnsafeMutableRawPointer, commitEnd: LSN
) throws(ImpossibleChange) -> Bool {
    switch change.form {
    case .image:
        try applyImage(change, to: Page(page))
    case .difference:
        if Page(page).lsn >= commitEnd { return false }
        try applyDifference(change, to: Page(page))
    }
    Page(page).lsn = commitEnd
    return true
}

private func applyImage(_ change: PageChange, to page: Page) throws(ImpossibleChange) {
    let count = change.payload.count
    guard let source = change.payload.baseAddress, count >= Page.headerBytes - PageChange.loggedFrom else {
        throw ImpossibleChange(change.page, "an image of \(count) bytes")
    }
    let header = Page(reading: source - PageChange.loggedFrom)
    let lower = header.lower, upper = header.upper
    guard lower >= Page.headerBytes, lower <= upper, upper <= Page.bytes,
        count == lower - PageChange.loggedFrom + Page.bytes - upper
    else { throw ImpossibleChange(change.page, "an image of \(count) bytes, lower \(lower), upper \(upper)") }
    let front = lower - PageChange.loggedFrom
    page.checksum = 0
    page.number = change.page
    (page.base + PageChange.loggedFrom).copyMemory(from: source, byteCount: front)
    (page.base + lower).initializeMemory(as: UInt8.self, repeating: 0, count: upper - lower)
    (page.base + upper).copyMemory(from: source + front, byteCount: Page.bytes - upper)
}

private func applyDifference(_ change: PageChange, to page: Page) throws(ImpossibleChange) {
    guard page.number == change.page else {
        throw ImpossibleChange(change.page, "a difference meets the bytes of page \(page.number)")
    }
    let oldLower = page.lower, oldUpper = page.upper
    guard oldLower >= Page.headerBytes, oldLower <= oldUpper, oldUpper <= Page.bytes else {
        throw ImpossibleChange(change.page, "a difference meets a page without sound bounds")
    }
    var at = 0
    let count = change.payload.count
    while at < count {
        let base = change.payload.baseAddress!
        guard count - at >= PageChange.rangeHeaderBytes else {
            throw ImpossibleChange(change.page, "a range is cut")
        }
        let offset = Int(base.loadUnaligned(fromByteOffset: at, as: UInt16.self))
        let raw = base.loadUnaligned(fromByteOffset: at + 2, as: UInt16.self)
        let length = Int(raw & ~PageChange.moveFlag)
        guard offset >= PageChange.loggedFrom, offset + length <= Page.bytes else {
            throw ImpossibleChange(change.page, "a range \(offset) ..< \(offset + length)")
        }
        if raw & PageChange.moveFlag == 0 {
            guard count - at - PageChange.rangeHeaderBytes >= length else {
                throw ImpossibleChange(change.page, "a range of \(length) bytes is cut")
            }
            (page.base + offset).copyMemory(from: base + at + PageChange.rangeHeaderBytes, byteCount: length)
            at += PageChange.rangeHeaderBytes + length
        } else {
            guard count - at >= PageChange.moveBytes else {
                throw ImpossibleChange(change.page, "a move is cut")
            }
            let source = Int(base.loadUnaligned(fromByteOffset: at + 4, as: UInt16.self))
            guard source >= PageChange.loggedFrom, source + length <= Page.bytes else {
                throw ImpossibleChange(change.page, "a move from \(source) ..< \(source + length)")
            }
            // `copyMemory` is a memmove: the two may overlap.
            (page.base + offset).copyMemory(from: page.base + source, byteCount: length)
            at += PageChange.moveBytes
        }
    }
    let lower = page.lower, upper = page.upper
    guard lower >= Page.headerBytes, lower <= upper, upper <= Page.bytes else {
        throw ImpossibleChange(change.page, "the change leaves bounds \(lower), \(upper)")
    }
    // The old hole is zero already (every stored version is normalized), so what the hole gained is zeroed.
    zero(page, lower, min(oldLower, upper))
    zero(page, max(oldUpper, lower), upper)
}

@inline(__always)
private func zero(_ page: Page, _ from: Int, _ to: Int) {
    if from < to { (page.base + from).initializeMemory(as: UInt8.self, repeating: 0, count: to - from) }
}
