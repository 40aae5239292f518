import HoldfastCore

/// Finds the page changes in a commit's parts as they pass, and holds none of them back: a part may end anywhere in a
/// change, so that what it leaves open is carried to the next. Used by one thread at a time.
package struct ChangeScanner {
    /// A change that begins in a part, or goes on in it.
    package struct Found: Equatable, Sendable {
        package var page: PageNumber
        package var form: PageChange.Form
        /// Of the whole change, its header left out.
        package var bytes: Int
        /// It began in an earlier part.
        package var isContinued: Bool
    }

    /// A change is open: the bytes that it still lacks.
    private var missing = 0
    private var open: Found?
    /// The bytes of a header that a part's end has cut.
    private var header: [UInt8] = []
    /// Nothing is known of changes before a commit's beginning was seen, or behind bytes that are none.
    private var isLost = true

    package init() {}

    /// The changes of the next record, which are none for a record that is no part of a commit.
    package mutating func scan(_ record: LogRecord) -> [Found] {
        guard record.kind == .commit else {
            if record.kind != .filler { isLost = true }
            return []
        }
        if record.flags.contains(.begin) { self = ChangeScanner(isLost: false) }
        guard !isLost else { return [] }
        var payload = record.body
        if record.flags.contains(.commit) {
            guard payload.count >= CommitFormat.trailerBytes else {
                isLost = true
                return []
            }
            payload = UnsafeRawBufferPointer(rebasing: payload[CommitFormat.trailerBytes...])
        }
        return scan(payload)
    }

    private init(isLost: Bool) { self.isLost = isLost }

    private mutating func scan(_ payload: UnsafeRawBufferPointer) -> [Found] {
        var found: [Found] = []
        var at = 0
        if var open, missing > 0 {
            open.isContinued = true
            found.append(open)
            at = min(missing, payload.count)
            missing -= at
        }
        while at < payload.count {
            let wanted = min(PageChange.headerBytes - header.count, payload.count - at)
            header.append(contentsOf: payload[at..<at + wanted])
            at += wanted
            guard header.count == PageChange.headerBytes else { break }
            let (page, rawForm, bytes) = header.withUnsafeBytes {
                (
                    $0.loadUnaligned(fromByteOffset: 0, as: UInt32.self),
                    $0.loadUnaligned(fromByteOffset: 4, as: UInt16.self),
                    Int($0.loadUnaligned(fromByteOffset: 6, as: UInt16.self))
                )
            }
            header.removeAll(keepingCapacity: true)
            guard let form = PageChange.Form(rawValue: rawForm) else {
                isLost = true
                return found
            }
            let change = Found(page: PageNumber(page), form: form, bytes: bytes, isContinued: false)
            found.append(change)
            open = change
            let here = min(bytes, payload.count - at)
            missing = bytes - here
            at += here
        }
        return found
    }
}
