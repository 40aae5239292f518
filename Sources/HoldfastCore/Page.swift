import CShims

/// The layout of an 8 KiB page. This is the one place that defines its header:
///
///     offset  bytes  field
///          0      4  CRC32C over bytes 4 ..< 8192, seeded with the page number
///          4      4  page number
///          8      8  pageLSN: the end LSN of the commit that made this version
///         16      1  kind (`PageKind`)
///         17      1  level: height above the leaves, for tree pages; else 0
///         18      2  flags, by kind
///         20      2  lower: end of what is used from the front
///         22      2  upper: start of what is used from the back; 24 <= lower <= upper <= 8192
///         24         the body, as the kind defines it
///
/// All numbers are little-endian. The *hole* `lower ..< upper` of a stored page is zero, on the
/// leader and after redo, so that equal content means equal bytes everywhere.
/// A page of zeros is one that was never written.
///
/// Public so that its accessors are inlined into other modules; not meant for embedders.
/// `Page` is a borrowed view of 8,192 bytes that somebody else owns and keeps alive.
public struct Page {
    @inlinable public static var bytes: Int { 8192 }
    @inlinable public static var headerBytes: Int { 24 }

    public let base: UnsafeMutableRawPointer

    @inlinable @inline(__always) public init(_ base: UnsafeMutableRawPointer) { self.base = base }
    /// A view for reading; writing through it is a mistake that nothing catches.
    @inlinable @inline(__always) public init(reading base: UnsafeRawPointer) {
        self.base = UnsafeMutableRawPointer(mutating: base)
    }

    @inlinable @inline(__always) public var checksum: UInt32 {
        get { base.loadUnaligned(fromByteOffset: 0, as: UInt32.self) }
        nonmutating set { base.storeBytes(of: newValue, toByteOffset: 0, as: UInt32.self) }
    }
    @inlinable @inline(__always) public var number: PageNumber {
        get { PageNumber(base.loadUnaligned(fromByteOffset: 4, as: UInt32.self)) }
        nonmutating set { base.storeBytes(of: newValue.rawValue, toByteOffset: 4, as: UInt32.self) }
    }
    @inlinable @inline(__always) public var lsn: LSN {
        get { LSN(base.loadUnaligned(fromByteOffset: 8, as: UInt64.self)) }
        nonmutating set { base.storeBytes(of: newValue.rawValue, toByteOffset: 8, as: UInt64.self) }
    }
    /// The kind's raw byte: what is read from a disk need not be a `PageKind`.
    @inlinable @inline(__always) public var rawKind: UInt8 {
        get { base.load(fromByteOffset: 16, as: UInt8.self) }
        nonmutating set { base.storeBytes(of: newValue, toByteOffset: 16, as: UInt8.self) }
    }
    @inlinable @inline(__always) public var kind: PageKind? { PageKind(rawValue: rawKind) }
    @inlinable @inline(__always) public var level: UInt8 {
        get { base.load(fromByteOffset: 17, as: UInt8.self) }
        nonmutating set { base.storeBytes(of: newValue, toByteOffset: 17, as: UInt8.self) }
    }
    @inlinable @inline(__always) public var flags: UInt16 {
        get { base.loadUnaligned(fromByteOffset: 18, as: UInt16.self) }
        nonmutating set { base.storeBytes(of: newValue, toByteOffset: 18, as: UInt16.self) }
    }
    @inlinable @inline(__always) public var lower: Int {
        get { Int(base.loadUnaligned(fromByteOffset: 20, as: UInt16.self)) }
        nonmutating set { base.storeBytes(of: UInt16(truncatingIfNeeded: newValue), toByteOffset: 20, as: UInt16.self) }
    }
    @inlinable @inline(__always) public var upper: Int {
        get { Int(base.loadUnaligned(fromByteOffset: 22, as: UInt16.self)) }
        nonmutating set { base.storeBytes(of: UInt16(truncatingIfNeeded: newValue), toByteOffset: 22, as: UInt16.self) }
    }

    /// Zeroes the whole page and writes an empty header; the CRC is not stamped.
    package func format(number: PageNumber, kind: PageKind, level: UInt8 = 0) {
        base.initializeMemory(as: UInt8.self, repeating: 0, count: Self.bytes)
        self.number = number
        rawKind = kind.rawValue
        self.level = level
        lower = Self.headerBytes
        upper = Self.bytes
    }

    /// Zeroes the hole. Every version is normalized before it is logged, written or compared.
    @inlinable @inline(__always) public func zeroHole() {
        let lower = self.lower, upper = self.upper
        if lower < upper { (base + lower).initializeMemory(as: UInt8.self, repeating: 0, count: upper - lower) }
    }

    /// The CRC32C that belongs in `checksum`, were this page number `number`.
    package func computedChecksum(as number: PageNumber) -> UInt32 {
        hf_crc32c(number.rawValue, base + 4, Self.bytes - 4)
    }

    /// Stamps the CRC; the last thing that happens to a page before it is written.
    package func stampChecksum() { checksum = computedChecksum(as: number) }

    package var isAllZero: Bool {
        // Eight bytes at a time: a page is 8-byte aligned wherever it is held.
        for offset in stride(from: 0, to: Self.bytes, by: 8)
        where base.loadUnaligned(fromByteOffset: offset, as: UInt64.self) != 0 { return false }
        return true
    }

    /// What is wrong with these bytes, read at the place of page `expected`; `nil` when they are a
    /// valid page, or zeros (a page never written: whether that is damage only its reader knows).
    package func fault(expected: PageNumber) -> PageFault? {
        if checksum != computedChecksum(as: expected) {
            if isAllZero { return nil }
            if number != expected, checksum == computedChecksum(as: number) { return .misplaced(found: number) }
            return .checksum(stored: checksum, computed: computedChecksum(as: expected))
        }
        if number != expected { return .misplaced(found: number) }
        if kind == nil { return .unknownKind(rawKind) }
        if lower < Self.headerBytes || lower > upper || upper > Self.bytes {
            return .bounds(lower: lower, upper: upper)
        }
        return nil
    }
}

/// What a page holds. Stored: never renumber.
public enum PageKind: UInt8, Sendable {
    /// Page 0: the size of the page space, the head of the free list.
    case meta = 1
    case leaf = 2
    case branch = 3
    /// A piece of a value too large for its leaf.
    case overflow = 4
    /// A page of the free list: page numbers that may be allocated.
    case freeList = 5
    /// Freed, listed in the free list, its content gone.
    case free = 6
}

/// Why bytes that should be a page are not.
package enum PageFault: Equatable, Sendable, CustomStringConvertible {
    case checksum(stored: UInt32, computed: UInt32)
    case misplaced(found: PageNumber)
    case unknownKind(UInt8)
    case bounds(lower: Int, upper: Int)
    case neverWritten

    package var description: String {
        switch self {
        case .checksum(let stored, let computed):
            "checksum \(hexadecimal(UInt64(stored), digits: 8)) does not match its bytes (\(hexadecimal(UInt64(computed), digits: 8)))"
        case .misplaced(let found): "these are the bytes of page \(found)"
        case .unknownKind(let kind): "unknown page kind \(kind)"
        case .bounds(let lower, let upper): "impossible bounds lower=\(lower) upper=\(upper)"
        case .neverWritten: "the page is all zeros but something refers to it"
        }
    }
}
