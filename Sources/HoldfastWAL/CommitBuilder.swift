import HoldfastCore

/// Collects the page changes of one commit in one growing buffer, which is kept between commits.
/// Owned and used by one thread at a time. No allocation per page.
package final class CommitBuilder {
    /// Bytes of the changes so far: what `LogWriter.reserve` needs.
    package private(set) var bytes = 0
    /// Changes so far.
    package private(set) var pages = 0
    private var base: UnsafeMutableRawPointer
    private var capacity: Int
    /// Kept by `reset`; a larger buffer of one large commit is given back.
    private static let keptCapacity = 1 << 20

    package init() {
        capacity = 64 << 10
        base = .allocate(byteCount: capacity, alignment: 16)
    }

    deinit { base.deallocate() }

    /// The changes, for `LogWriter.append`; valid until the next call that changes the builder.
    package var payload: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: bytes) }

    /// Forgets the changes.
    package func reset() {
        bytes = 0
        pages = 0
        if capacity > Self.keptCapacity {
            base.deallocate()
            capacity = Self.keptCapacity
            base = .allocate(byteCount: capacity, alignment: 16)
        }
    }

    /// Adds what turns `old` into `new`, two versions of `page`: the differing ranges, or the image where
    /// that is not larger (then returns `false`). `old` is a stored, normalized version with sound bounds;
    /// the hole of `new` counts as zero. Each page at most once in a commit.
    /// - Parameter touched: behind the hole, bytes outside are known to be equal, and are not looked at.
    @discardableResult
    package func addDifference(
        page: PageNumber, old: UnsafeRawPointer, new: UnsafeRawPointer, touched: Range<Int> = 0..<Page.bytes
    ) -> Bool {
        let imageBytes = Self.imageBytes(Page(reading: new))
        // The difference never outgrows the image: it stops as soon as it would.
        makeRoom(PageChange.headerBytes + Page.bytes)
        var writer = DifferenceWriter(
            out: base + bytes + PageChange.headerBytes, limit: imageBytes, old: old, new: new, touched: touched)
        guard let length = writer.run() else {
            addImage(page: page, of: new)
            return false
        }
        writeHeader(page, .difference, length)
        return true
    }

    /// Adds a full-page image of `page` without its hole. The bounds of `image` must be sound.
    package func addImage(page: PageNumber, of image: UnsafeRawPointer) {
        let view = Page(reading: image)
        let lower = view.lower, upper = view.upper
        precondition(
            lower >= Page.headerBytes && lower <= upper && upper <= Page.bytes, "page \(page) without sound bounds")
        makeRoom(PageChange.headerBytes + Page.bytes)
        let out = base + bytes + PageChange.headerBytes
        let front = lower - PageChange.loggedFrom
        out.copyMemory(from: image + PageChange.loggedFrom, byteCount: front)
        (out + front).copyMemory(from: image + upper, byteCount: Page.bytes - upper)
        writeHeader(page, .image, front + Page.bytes - upper)
    }

    private static func imageBytes(_ page: Page) -> Int {
        page.lower - PageChange.loggedFrom + Page.bytes - page.upper
    }

    private func writeHeader(_ page: PageNumber, _ form: PageChange.Form, _ length: Int) {
        let out = base + bytes
        out.storeBytes(of: page.rawValue, toByteOffset: 0, as: UInt32.self)
        out.storeBytes(of: form.rawValue, toByteOffset: 4, as: UInt16.self)
        out.storeBytes(of: UInt16(length), toByteOffset: 6, as: UInt16.self)
        bytes += PageChange.headerBytes + length
        pages += 1
    }

    private func makeRoom(_ more: Int) {
        guard bytes + more > capacity else { return }
        let grown = max(capacity * 2, bytes + more)
        let larger = UnsafeMutableRawPointer.allocate(byteCount: grown, alignment: 16)
        larger.copyMemory(from: base, byteCount: bytes)
        base.deallocate()
        base = larger
        capacity = grown
    }
}

/// Finds and writes the ranges in which two versions of a page differ.
///
/// A slot put into (or taken from) the array at the page's front shifts all slots behind it: what precedes
/// `lower` in both versions is first compared from the back, and a long equal run is logged as one move.
private struct DifferenceWriter {
    let out: UnsafeMutableRawPointer
    /// Bytes that must not be reached: the image is as good then.
    let limit: Int
    let old: UnsafeRawPointer
    let new: UnsafeRawPointer
    let touched: Range<Int>
    var count = 0
    /// The open range, none when `from` is negative.
    var from = -1
    var to = 0

    init(
        out: UnsafeMutableRawPointer, limit: Int, old: UnsafeRawPointer, new: UnsafeRawPointer, touched: Range<Int>
    ) {
        self.out = out
        self.limit = limit
        self.old = old
        self.new = new
        self.touched = touched
    }

    /// Bytes written; `nil` when they would not be fewer than the image's.
    mutating func run() -> Int? {
        let newPage = Page(reading: new), oldPage = Page(reading: old)
        let lower = newPage.lower, upper = newPage.upper
        var frontEnd = lower
        if lower != oldPage.lower {
            let equal = equalBefore(lower, oldPage.lower)
            if equal >= 2 * PageChange.moveBytes {
                frontEnd = lower - equal
                guard move(to: frontEnd, length: equal, from: oldPage.lower - equal) else { return nil }
            }
        }
        // Closed in between, so that no range covers the hole.
        guard compare(PageChange.loggedFrom, frontEnd), close(),
            compare(max(upper, touched.lowerBound), min(Page.bytes, touched.upperBound)), close()
        else { return nil }
        return count
    }

    /// How many bytes before `a` in the new version equal those before `b` in the old, headers left out.
    private func equalBefore(_ a: Int, _ b: Int) -> Int {
        let most = min(a, b) - Page.headerBytes
        var equal = 0
        while equal + 8 <= most,
            (new + (a - equal - 8)).loadUnaligned(as: UInt64.self)
                == (old + (b - equal - 8)).loadUnaligned(as: UInt64.self)
        { equal += 8 }
        while equal < most, (new + (a - equal - 1)).load(as: UInt8.self) == (old + (b - equal - 1)).load(as: UInt8.self)
        { equal += 1 }
        return equal
    }

    private mutating func move(to offset: Int, length: Int, from source: Int) -> Bool {
        guard count + PageChange.moveBytes < limit else { return false }
        let place = out + count
        place.storeBytes(of: UInt16(offset), toByteOffset: 0, as: UInt16.self)
        place.storeBytes(of: UInt16(length) | PageChange.moveFlag, toByteOffset: 2, as: UInt16.self)
        place.storeBytes(of: UInt16(source), toByteOffset: 4, as: UInt16.self)
        count += PageChange.moveBytes
        return true
    }

    /// Compares `start ..< end`, eight bytes at a time.
    private mutating func compare(_ start: Int, _ end: Int) -> Bool {
        var at = start
        while at + 8 <= end {
            let difference =
                (old + at).loadUnaligned(as: UInt64.self) ^ (new + at).loadUnaligned(as: UInt64.self)
            if difference != 0 {
                let first = at + difference.trailingZeroBitCount / 8
                let last = at + 8 - difference.leadingZeroBitCount / 8
                guard extend(first, last) else { return false }
            }
            at += 8
        }
        while at < end {
            if (old + at).load(as: UInt8.self) != (new + at).load(as: UInt8.self) {
                guard extend(at, at + 1) else { return false }
            }
            at += 1
        }
        return true
    }

    /// Adds `first ..< last` to the open range when the gap costs no more than a range's header.
    @inline(__always)
    private mutating func extend(_ first: Int, _ last: Int) -> Bool {
        if from >= 0, first - to <= PageChange.rangeHeaderBytes {
            to = last
            return true
        }
        guard close() else { return false }
        from = first
        to = last
        return true
    }

    private mutating func close() -> Bool {
        guard from >= 0 else { return true }
        let length = to - from
        guard count + PageChange.rangeHeaderBytes + length < limit else { return false }
        let place = out + count
        place.storeBytes(of: UInt16(from), toByteOffset: 0, as: UInt16.self)
        place.storeBytes(of: UInt16(length), toByteOffset: 2, as: UInt16.self)
        (place + PageChange.rangeHeaderBytes).copyMemory(from: new + from, byteCount: length)
        count += PageChange.rangeHeaderBytes + length
        from = -1
        return true
    }
}
