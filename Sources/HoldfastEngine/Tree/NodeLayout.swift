import CShims
import Glibc
import HoldfastCore

/// The layouts of tree pages, behind the page header that `Page` defines. This is the one place that
/// defines them; all numbers are little-endian. `PageSpace` defines pages 0 and the free list,
/// `OverflowChain` the pieces of large values.
///
/// A leaf (level 0) and a branch (level 1 and above) have the same shape:
///
///     offset  bytes  field
///         18      2  flags; bit 0: a value of this leaf may lie in an overflow chain
///         24      4  previous leaf, 0 for the first; 0 in a branch
///         28      4  next leaf, 0 for the last; 0 in a branch
///         32      4  first child of a branch: the keys below its first separator; 0 in a leaf
///         36      2  count of slots
///         38      2  prefix length p
///         40      2  dead bytes between upper and the prefix
///         42      2  zero
///         44    6 n  slots in key order
///      lower         the hole
///      upper         cells, in no order, and dead bytes between them
///   8192 - p      p  the prefix: bytes that all keys of the page begin with, kept once
///
/// A slot:
///
///     offset  bytes  field
///          0      4  key head: the four bytes behind the prefix as a big-endian number, zeros behind a
///                    shorter key; stored like every number, so that it is compared as loaded
///          4      2  offset of the cell in the page
///
/// A cell, for a key whose bytes behind the prefix (its suffix) number s:
///
///     offset           bytes  field
///          0               2  s; bit 15: the value lies in an overflow chain
///          2               2  payload length v
///          4  r = max(0, s-4) the suffix behind its head
///      4 + r               v  payload
///
/// The payload of a leaf's cell is the value, or its length and the first page of its chain (4 bytes each).
/// In a branch it is a child (4 bytes): the keys at or above this separator and below the next.
struct Node {
    static let slotStart = 44
    static let slotBytes = 6
    static let cellHeaderBytes = 4
    static let headBytes = 4
    /// Slots, cells and prefix share this many bytes.
    static let capacity = Page.bytes - slotStart
    /// No cell with its slot is larger, its key counted whole: then any overfull page can be split in two.
    static let largestCell = 4040
    static let overflowReferenceBytes = 8
    /// A tree of two children per branch and 2^32 pages would not be higher.
    static let maximumLevels = 40
    static let suffixMask: UInt16 = 0x0FFF
    static let overflowBit: UInt16 = 0x8000
    static let mayOverflowFlag: UInt16 = 1

    let base: UnsafeMutableRawPointer

    @inline(__always) init(_ base: UnsafeMutableRawPointer) { self.base = base }

    /// A view for reading of a page that a tree refers to, after checking what later reads lean on:
    /// kind, level and that the slots lie below the cells.
    @inline(__always) init(reading pointer: UnsafeRawPointer, _ number: PageNumber) throws(EngineError) {
        base = UnsafeMutableRawPointer(mutating: pointer)
        let kind = page.rawKind, level = page.level, upper = page.upper
        let kindFits =
            level == 0
            ? kind == PageKind.leaf.rawValue : kind == PageKind.branch.rawValue && level < Self.maximumLevels
        guard kindFits else { throw damaged(number, "kind \(kind) at level \(level) is no tree page") }
        guard page.lower == Self.slotStart + count * Self.slotBytes, page.lower <= upper,
            upper + prefixLength <= Page.bytes, prefixLength <= Limits.keyBytes
        else { throw damaged(number, "slots, cells and prefix overlap") }
    }

    /// The transaction's copy of a tree page, checked like one that is read: a damaged free list may have
    /// handed out a page that is in use, so that it is not any more what it was a moment ago.
    @inline(__always) init(editing number: PageNumber, _ editor: some PageEditor) throws(EngineError) {
        try self.init(reading: editor.modify(number), number)
    }

    @inline(__always) var page: Page { Page(base) }
    @inline(__always) var isLeaf: Bool { page.level == 0 }
    @inline(__always) var level: Int { Int(page.level) }

    @inline(__always) private func number(at offset: Int) -> PageNumber {
        PageNumber(base.load(fromByteOffset: offset, as: UInt32.self))
    }
    @inline(__always) private func short(at offset: Int) -> Int {
        Int(base.load(fromByteOffset: offset, as: UInt16.self))
    }
    @inline(__always) private func setShort(_ value: Int, at offset: Int) {
        base.storeBytes(of: UInt16(truncatingIfNeeded: value), toByteOffset: offset, as: UInt16.self)
    }

    @inline(__always) var previous: PageNumber {
        get { number(at: 24) }
        nonmutating set { base.storeBytes(of: newValue.rawValue, toByteOffset: 24, as: UInt32.self) }
    }
    @inline(__always) var next: PageNumber {
        get { number(at: 28) }
        nonmutating set { base.storeBytes(of: newValue.rawValue, toByteOffset: 28, as: UInt32.self) }
    }
    @inline(__always) var firstChild: PageNumber {
        get { number(at: 32) }
        nonmutating set { base.storeBytes(of: newValue.rawValue, toByteOffset: 32, as: UInt32.self) }
    }
    /// Slots. Setting it moves `lower`.
    @inline(__always) var count: Int {
        get { short(at: 36) }
        nonmutating set {
            setShort(newValue, at: 36)
            page.lower = Self.slotStart + newValue * Self.slotBytes
        }
    }
    @inline(__always) var prefixLength: Int {
        get { short(at: 38) }
        nonmutating set { setShort(newValue, at: 38) }
    }
    @inline(__always) var deadBytes: Int {
        get { short(at: 40) }
        nonmutating set { setShort(newValue, at: 40) }
    }
    @inline(__always) var prefix: UnsafeRawPointer { UnsafeRawPointer(base + (Page.bytes - prefixLength)) }
    @inline(__always) var mayOverflow: Bool { page.flags & Self.mayOverflowFlag != 0 }

    /// Bytes of slots, living cells and prefix; nonsense on a damaged page, never negative.
    var usedBytes: Int { max(0, page.lower - Self.slotStart + Page.bytes - page.upper - deadBytes) }

    @inline(__always) func head(_ slot: Int) -> UInt32 {
        base.loadUnaligned(fromByteOffset: Self.slotStart &+ slot &* Self.slotBytes, as: UInt32.self)
    }
    @inline(__always) func cellOffset(_ slot: Int) -> Int {
        Int(base.loadUnaligned(fromByteOffset: Self.slotStart &+ slot &* Self.slotBytes &+ 4, as: UInt16.self))
    }
    @inline(__always) func setSlot(_ slot: Int, head: UInt32, cellOffset: Int) {
        let place = Self.slotStart &+ slot &* Self.slotBytes
        base.storeBytes(of: head, toByteOffset: place, as: UInt32.self)
        setCellOffset(slot, cellOffset)
    }
    @inline(__always) func setCellOffset(_ slot: Int, _ offset: Int) {
        let place = Self.slotStart &+ slot &* Self.slotBytes &+ 4
        base.storeBytes(of: UInt16(truncatingIfNeeded: offset), toByteOffset: place, as: UInt16.self)
    }

    /// The cell of a slot that exists, its bounds checked.
    @inline(__always) func cell(_ slot: Int, _ number: PageNumber) throws(EngineError) -> Cell {
        let offset = cellOffset(slot), end = Page.bytes - prefixLength
        guard offset >= page.upper, offset + Self.cellHeaderBytes <= end else {
            throw damaged(number, "slot \(slot) points outside the cells")
        }
        let cell = Cell(base + offset)
        guard offset + cell.bytes <= end, cell.suffixLength + prefixLength <= Limits.keyBytes else {
            throw damaged(number, "the cell of slot \(slot) is too long")
        }
        return cell
    }

    /// The child at `index` in `0 ... count` of a branch.
    @inline(__always) func child(_ index: Int, _ number: PageNumber) throws(EngineError) -> PageNumber {
        if index == 0 { return firstChild }
        let cell = try cell(index - 1, number)
        guard cell.payloadLength == 4 else { throw damaged(number, "separator \(index - 1) has no child") }
        return PageNumber(cell.payload.loadUnaligned(as: UInt32.self))
    }

    /// The first four bytes of a suffix as a number in the order of bytes.
    @inline(__always) static func head(_ suffix: UnsafeRawPointer, _ length: Int) -> UInt32 {
        if length >= 4 { return UInt32(bigEndian: suffix.loadUnaligned(as: UInt32.self)) }
        var head: UInt32 = 0
        for index in 0..<max(0, length) {
            head |= UInt32(suffix.load(fromByteOffset: index, as: UInt8.self)) << UInt32(24 - 8 * index)
        }
        return head
    }

    /// What a key with a suffix of this length needs, slot included.
    @inline(__always) static func cellBytes(suffix: Int, payload: Int) -> Int {
        slotBytes + cellHeaderBytes + max(0, suffix - headBytes) + payload
    }

    /// Brings the cell of a slot near, if there is such a slot.
    @inline(__always) func prefetchCell(_ slot: Int) {
        guard slot >= 0, slot < count else { return }
        let cell = base + cellOffset(slot)
        hf_prefetch(cell)
        hf_prefetch(cell + 64)
    }

    /// Brings header, slots and prefix near: the search reads them next.
    @inline(__always) static func prefetch(_ pointer: UnsafeRawPointer) {
        hf_prefetch(pointer + (Page.bytes - 64))
        for line in 0..<10 { hf_prefetch(pointer + line * 64) }
    }
}

/// A borrowed view of one cell, whose bounds `Node.cell` has checked.
struct Cell {
    let start: UnsafeMutableRawPointer
    @inline(__always) init(_ start: UnsafeMutableRawPointer) { self.start = start }

    @inline(__always) private var first: UInt16 { start.loadUnaligned(as: UInt16.self) }
    @inline(__always) var suffixLength: Int { Int(first & Node.suffixMask) }
    @inline(__always) var isOverflow: Bool { first & Node.overflowBit != 0 }
    @inline(__always) var restLength: Int { max(0, suffixLength - Node.headBytes) }
    @inline(__always) var rest: UnsafeRawPointer { UnsafeRawPointer(start + Node.cellHeaderBytes) }
    @inline(__always) var payload: UnsafeMutableRawPointer { start + (Node.cellHeaderBytes + restLength) }
    @inline(__always) var payloadLength: Int {
        get { Int(start.loadUnaligned(fromByteOffset: 2, as: UInt16.self)) }
        nonmutating set { start.storeBytes(of: UInt16(truncatingIfNeeded: newValue), toByteOffset: 2, as: UInt16.self) }
    }
    @inline(__always) var bytes: Int { Node.cellHeaderBytes + restLength + payloadLength }

    @inline(__always) func write(suffix: UnsafeRawPointer, length: Int, payload: Payload) {
        let restLength = max(0, length - Node.headBytes)
        let first = UInt16(truncatingIfNeeded: length) | (payload.isOverflow ? Node.overflowBit : 0)
        start.storeBytes(of: first, as: UInt16.self)
        payloadLength = payload.count
        if restLength > 0 { memcpy(start + Node.cellHeaderBytes, suffix + Node.headBytes, restLength) }
        if payload.count > 0 { memcpy(start + (Node.cellHeaderBytes + restLength), payload.bytes, payload.count) }
    }
}

/// The bytes of a key or value that somebody else keeps alive; never nil, unlike a buffer's base address.
struct Bytes {
    let bytes: UnsafeRawPointer
    let count: Int
    @inline(__always) init(_ bytes: UnsafeRawPointer, _ count: Int) {
        self.bytes = bytes
        self.count = count
    }
    /// The address of an empty buffer is never read.
    @inline(__always) init(_ buffer: UnsafeRawBufferPointer) {
        bytes = buffer.baseAddress ?? UnsafeRawPointer(bitPattern: 8).unsafelyUnwrapped
        count = buffer.count
    }

    var buffer: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: bytes, count: count) }

    /// The first `count` bytes that this and `other` have in common.
    func commonPrefix(_ other: Bytes) -> Int {
        let limit = min(count, other.count)
        var index = 0
        while index + 8 <= limit {
            let difference =
                bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
                ^ other.bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
            if difference != 0 { return index + difference.trailingZeroBitCount / 8 }
            index += 8
        }
        while index < limit,
            bytes.load(fromByteOffset: index, as: UInt8.self)
                == other.bytes.load(fromByteOffset: index, as: UInt8.self)
        { index += 1 }
        return index
    }

    /// Negative, zero or positive, as bytes compare.
    @inline(__always) func compare(_ other: Bytes) -> Int {
        let order = memcmp(bytes, other.bytes, min(count, other.count))
        return order != 0 ? Int(order) : count - other.count
    }
}

/// What a cell carries behind its key.
struct Payload {
    let bytes: UnsafeRawPointer
    let count: Int
    let isOverflow: Bool
    @inline(__always) init(_ value: Bytes, isOverflow: Bool = false) {
        bytes = value.bytes
        count = value.count
        self.isOverflow = isOverflow
    }
}

@inline(never) func damaged(_ number: PageNumber, _ why: @autoclosure () -> String) -> EngineError {
    .damagedTree(number, why())
}
