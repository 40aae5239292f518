import HoldfastCore

/// The body of a commit's part. This is the one place that defines it:
///
///     the last part (flag `commit`) begins with
///          0      8  first transaction
///          8      8  last transaction: a commit may stand for several
///         16      8  time: microseconds since 1970-01-01 UTC, never below an earlier record's
///         24      8  bytes of the payload of all parts
///         32         payload
///     every other part is payload.
///
/// The payload of all parts in order is one sequence of page changes (`PageChange`); a part may end
/// anywhere in it. Between the first part (flag `begin`) and the last lie parts and fillers only.
package enum CommitFormat {
    package static let trailerBytes = 32

    /// The transactions that the last part of a commit names; `nil` for every other record.
    package static func transactions(of record: LogRecord) -> ClosedRange<TransactionID>? {
        guard record.kind == .commit, record.flags.contains(.commit), record.body.count >= trailerBytes else {
            return nil
        }
        let first = record.body.loadUnaligned(fromByteOffset: 0, as: UInt64.self)
        let last = record.body.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
        return first <= last ? TransactionID(first)...TransactionID(last) : nil
    }
}

/// A commit that has arrived whole. The payload is a view: valid until the assembler's next record.
package struct AssembledCommit {
    package let start: LSN
    /// The commit's LSN: what its pages bear.
    package let end: LSN
    package let timeline: TimelineID
    package let first: TransactionID
    package let last: TransactionID
    /// Microseconds since 1970.
    package let time: Int64
    package let payload: UnsafeRawBufferPointer

    package var changes: PageChangeIterator { PageChangeIterator(payload) }
}

/// Holds a commit's parts back until the last has arrived, so that a commit is applied whole or not at all.
/// A commit of one part is handed on without a copy. Feed it every record in order. Used by one thread at a time.
package final class CommitAssembler {
    private var base: UnsafeMutableRawPointer?
    private var capacity = 0
    private var held = 0
    private var start: LSN?

    package init() {}
    deinit { base?.deallocate() }

    /// `true` while parts wait for their last.
    package var isHolding: Bool { start != nil }
    /// Bytes held back.
    package var heldBytes: Int { held }

    /// Takes the next record. Returns the commit that it completes, if it does.
    ///
    /// A beginning, and any record that is neither part nor filler, drops parts that were held: their writer
    /// crashed. Throws `invalid` for a part that has no beginning or a sum of bytes that is not as announced.
    package func add(_ record: LogRecord) throws(WALError) -> AssembledCommit? {
        guard record.kind == .commit else {
            if record.kind != .filler, !planted(.orphanPartsKept) { drop() }
            return nil
        }
        if record.flags.contains(.begin) {
            if !planted(.orphanPartsKept) { drop() }
            start = record.start
        }
        guard let start else { throw .invalid(at: record.start, "a part of a commit without its beginning") }
        guard record.flags.contains(.commit) else {
            hold(record.body)
            return nil
        }
        let body = record.body
        guard body.count >= CommitFormat.trailerBytes else {
            throw .invalid(at: record.start, "the last part of a commit has \(body.count) bytes")
        }
        let rest = UnsafeRawBufferPointer(rebasing: body[CommitFormat.trailerBytes...])
        let payload: UnsafeRawBufferPointer
        if held == 0 {
            payload = rest
        } else {
            hold(rest)
            payload = UnsafeRawBufferPointer(start: base, count: held)
        }
        let announced = body.loadUnaligned(fromByteOffset: 24, as: UInt64.self)
        guard announced == UInt64(payload.count) else {
            throw .invalid(at: record.start, "a commit of \(payload.count) bytes where \(announced) are announced")
        }
        let first = TransactionID(body.loadUnaligned(fromByteOffset: 0, as: UInt64.self))
        let last = TransactionID(body.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        guard first <= last, last <= .last else {
            throw .invalid(at: record.start, "a commit of transactions \(first) to \(last)")
        }
        self.start = nil
        held = 0
        return AssembledCommit(
            start: start, end: record.end, timeline: record.timeline, first: first, last: last,
            time: body.loadUnaligned(fromByteOffset: 16, as: Int64.self), payload: payload)
    }

    #if PlantedFaults
        /// The changes that have arrived whole of a commit whose last part has not.
        package func partial(end: LSN, timeline: TimelineID) -> AssembledCommit? {
            guard let start, held > 0 else { return nil }
            let payload = UnsafeRawBufferPointer(start: base, count: held)
            var changes = PageChangeIterator(payload)
            while (try? changes.next()) ?? nil != nil {}
            let whole = UnsafeRawBufferPointer(rebasing: payload[..<(held - changes.rest.count)])
            return AssembledCommit(
                start: start, end: end, timeline: timeline, first: TransactionID(0), last: TransactionID(0), time: 0,
                payload: whole)
        }
    #endif

    private func drop() {
        start = nil
        held = 0
    }

    private func hold(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress, bytes.count > 0 else { return }
        if held + bytes.count > capacity {
            let grown = max(capacity * 2, held + bytes.count, 1 << 20)
            let larger = UnsafeMutableRawPointer.allocate(byteCount: grown, alignment: 16)
            if let base {
                larger.copyMemory(from: base, byteCount: held)
                base.deallocate()
            }
            base = larger
            capacity = grown
        }
        (base! + held).copyMemory(from: source, byteCount: bytes.count)
        held += bytes.count
    }
}
