import Glibc
import HoldfastCore

/// Values too large for their leaf: a chain of pages (kind overflow), behind the page header:
///
///     offset  bytes  field
///         24      4  next page of the chain, 0 in the last
///         28      4  zero
///         32         the value's next bytes, up to lower; every page but the last is full
///
/// The leaf holds the reference: the value's length and the chain's first page, four bytes each. The length
/// bounds every walk, so that a damaged chain cannot lead in circles.
struct OverflowChain {
    static let dataStart = 32
    static let pageBytes = Page.bytes - dataStart

    let length: Int
    let first: PageNumber

    var pages: Int { (length + Self.pageBytes - 1) / Self.pageBytes }

    init(length: Int, first: PageNumber) {
        self.length = length
        self.first = first
    }

    /// Reads the reference in a cell of leaf `number`.
    @inline(__always) init(_ cell: Cell, _ number: PageNumber) throws(EngineError) {
        guard cell.payloadLength == Node.overflowReferenceBytes else {
            throw damaged(number, "a reference to an overflow chain has \(cell.payloadLength) bytes")
        }
        length = Int(cell.payload.loadUnaligned(as: UInt32.self))
        first = PageNumber(cell.payload.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        guard length > 0, length <= Limits.valueBytes else {
            throw damaged(number, "a value of \(length) bytes")
        }
    }

    /// The reference as it stands in the cell.
    var reference: (UInt32, UInt32) { (UInt32(length), first.rawValue) }

    /// Writes a value to fresh pages.
    static func write(_ value: Bytes, _ editor: some PageEditor) throws(EngineError) -> OverflowChain {
        var first = PageNumber(0)
        var last: Page?
        var offset = 0
        while offset < value.count {
            let bytes = min(pageBytes, value.count - offset)
            let (number, page) = try PageSpace.allocate(editor, kind: .overflow)
            memcpy(page.base + dataStart, value.bytes + offset, bytes)
            page.lower = dataStart + bytes
            if let last { setNext(last, number) } else { first = number }
            last = page
            offset += bytes
        }
        return OverflowChain(length: value.count, first: first)
    }

    private static func setNext(_ page: Page, _ number: PageNumber) {
        page.base.storeBytes(of: number.rawValue, toByteOffset: 24, as: UInt32.self)
    }

    /// The page that holds the bytes from `offset` on, checked, and the one behind it.
    static func read(
        _ number: PageNumber, expecting bytes: Int, _ reader: some PageReader
    ) throws(EngineError) -> (data: UnsafeRawPointer, next: PageNumber) {
        let pointer = try reader.page(number), page = Page(reading: pointer)
        guard page.kind == .overflow, page.lower == dataStart + bytes else {
            throw damaged(number, "it is not the expected piece of a large value")
        }
        return (pointer + dataStart, PageNumber(pointer.load(fromByteOffset: 24, as: UInt32.self)))
    }

    /// Copies the bytes `offset ..< offset + buffer.count` of the value, which must exist.
    func copy(
        from offset: Int, to buffer: UnsafeMutableRawBufferPointer, _ reader: some PageReader
    ) throws(EngineError) {
        precondition(offset >= 0 && offset + buffer.count <= length)
        guard let target = buffer.baseAddress, buffer.count > 0 else { return }
        var number = first, position = 0, copied = 0
        while copied < buffer.count {
            let bytes = min(Self.pageBytes, length - position)
            let (data, next) = try Self.read(number, expecting: bytes, reader)
            if next.rawValue != 0 { reader.willRead(next) }
            let start = max(0, offset - position)
            if start < bytes {
                let part = min(bytes - start, buffer.count - copied)
                memcpy(target + copied, data + start, part)
                copied += part
            }
            position += bytes
            number = next
        }
    }

    /// Gives the chain's pages back, at most `budget` of them.
    /// - Returns: what is left of the chain, or nil.
    func free(_ editor: some PageEditor, budget: Int = .max) throws(EngineError) -> OverflowChain? {
        var number = first, left = length, budget = budget
        while left > 0 {
            if budget == 0 { return OverflowChain(length: left, first: number) }
            let bytes = min(Self.pageBytes, left)
            let next = try Self.read(number, expecting: bytes, editor).next
            try PageSpace.free(number, editor)
            left -= bytes
            number = next
            budget -= 1
        }
        return nil
    }
}
