import HoldfastCore
import HoldfastWAL

/// `apply(change, to: page)`: a commit's payload, and the page that it meets. Input:
///
///     0  1  choices: 1 the page bears the number that the change names; 2 its LSN is below the commit's;
///           4 its bounds are made sound, and its hole zero, as those of every stored page are
///     1  2  bytes of the page that follow; what is missing is zero
///     3     the page, then the payload
package enum ApplyTarget: FuzzTarget {
    package static let name = "apply"

    package static func seeds() -> [[UInt8]] {
        let payload = examplePayload()
        return [UInt8](0..<8).map { choices in
            var out = FuzzOutput()
            out.add(byte: choices)
            out.add(short: 200)
            out.add((0..<200).map { UInt8($0) })
            out.add(payload)
            return out.bytes
        }
    }

    /// Images and differences of every kind, as a transaction makes them.
    static func examplePayload() -> [UInt8] {
        let old = FuzzPage(), new = FuzzPage(), builder = CommitBuilder()
        Page(old.base).format(number: PageNumber(7), kind: .leaf)
        let page = Page(old.base)
        for at in 24..<200 { page.base.storeBytes(of: UInt8(at), toByteOffset: at, as: UInt8.self) }
        page.lower = 200
        page.upper = 8000
        new.base.copyMemory(from: old.base, byteCount: Page.bytes)
        // A slot is put in, which shifts the others; some bytes change.
        (new.base + 56).copyMemory(from: old.base + 50, byteCount: 150)
        Page(new.base).lower = 206
        new.base.storeBytes(of: 0xEE, toByteOffset: 8100, as: UInt8.self)
        _ = builder.addDifference(page: PageNumber(7), old: old.base, new: new.base)
        Page(new.base).number = PageNumber(8)
        builder.addImage(page: PageNumber(8), of: new.base)
        return Array(builder.payload)
    }

    package static func run(_ input: UnsafeRawBufferPointer) {
        var input = FuzzInput(input)
        let choices = input.byte(), page = FuzzPage()
        page.fill(input.take(input.short()))
        let view = Page(page.base)
        if choices & 4 != 0 {
            view.lower = Page.headerBytes + view.lower % 4000
            view.upper = view.lower + view.upper % (Page.bytes - view.lower + 1)
            view.zeroHole()
        }
        var changes = PageChangeIterator(input.rest)
        var left = input.rest.count
        let commitEnd = LSN(1 << 32)
        do throws(ImpossibleChange) {
            while let change = try changes.next() {
                expect(change.payload.count < left, "a change of \(change.payload.count) bytes in \(left)")
                left -= PageChange.headerBytes + change.payload.count
                if choices & 1 != 0 { view.number = change.page }
                if choices & 2 != 0 { view.lsn = LSN(1) }
                let isApplied = try apply(change, to: page.base, commitEnd: commitEnd)
                guard isApplied else { continue }
                expect(
                    view.number == change.page && view.lsn == commitEnd, "what was applied is not page \(change.page)")
                view.stampChecksum()
                let fault = view.fault(expected: change.page)
                if case .bounds = fault { expect(false, "it leaves bounds \(view.lower), \(view.upper)") }
                // A difference need not: no writer makes one that names bytes of the hole, and redo does not look.
                if change.isImage { expect(page.hasZeroHole, "an image leaves a hole that is not zero") }
            }
        } catch { _ = error.description }
    }
}

/// 8,192 bytes of their own, so that a sanitizer sees whoever leaves them.
final class FuzzPage {
    let base = UnsafeMutableRawPointer.allocate(byteCount: Page.bytes, alignment: 16)
    init() { base.initializeMemory(as: UInt8.self, repeating: 0, count: Page.bytes) }
    deinit { base.deallocate() }

    func fill(_ bytes: UnsafeRawBufferPointer) {
        if let source = bytes.baseAddress { base.copyMemory(from: source, byteCount: min(bytes.count, Page.bytes)) }
    }

    var hasZeroHole: Bool {
        let page = Page(base)
        return UnsafeRawBufferPointer(start: base + page.lower, count: page.upper - page.lower).allSatisfy { $0 == 0 }
    }
}

/// The few pages to which a log's commits are applied.
final class FuzzPageSet {
    private var pages: [PageNumber: FuzzPage] = [:]

    func apply(_ changes: PageChangeIterator, commitEnd: LSN) {
        var changes = changes
        do throws(ImpossibleChange) {
            while let change = try changes.next() {
                let number = PageNumber(change.page.rawValue % 16)
                let page = pages[number] ?? FuzzPage()
                pages[number] = page
                // What follows an impossible change is never applied.
                try HoldfastWAL.apply(change, to: page.base, commitEnd: commitEnd)
            }
        } catch { _ = error.description }
    }
}
