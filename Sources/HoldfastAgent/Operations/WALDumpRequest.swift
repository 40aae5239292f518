import HoldfastCore
import HoldfastWAL

/// What `holdfast wal dump` is asked for, as it was typed; checked before anything is read.
package struct WALDumpRequest: Sendable {
    /// A file, or the name of a segment in the archive; `nil`: a directory's WAL, or the archive's.
    package var segment: String?
    package var data: String?
    package var timeline: UInt32?
    package var kinds: [String]
    package var page: UInt32?
    package var transaction: UInt64?
    package var from: String?
    package var to: String?
    package var showsStatistics: Bool
    package var asJSON: Bool

    package init(
        segment: String? = nil, data: String? = nil, timeline: UInt32? = nil, kinds: [String] = [], page: UInt32? = nil,
        transaction: UInt64? = nil, from: String? = nil, to: String? = nil, showsStatistics: Bool = false,
        asJSON: Bool = false
    ) {
        self.segment = segment
        self.data = data
        self.timeline = timeline
        self.kinds = kinds
        self.page = page
        self.transaction = transaction
        self.from = from
        self.to = to
        self.showsStatistics = showsStatistics
        self.asJSON = asJSON
    }

    func filter() throws(WALDumpError) -> WALDumpFilter {
        if segment != nil, data != nil { throw .usage("--data and a segment exclude each other", next: "give one") }
        if segment != nil, timeline != nil {
            throw .usage(
                "--timeline and a segment exclude each other", next: "a segment is of one timeline: leave it out")
        }
        var filter = WALDumpFilter()
        for name in kinds { filter.kinds.insert(try Self.kind(name)) }
        filter.page = page.map { PageNumber($0) }
        filter.transaction = transaction.map { TransactionID($0) }
        if let from { filter.from = try Self.lsn(from, "--from") }
        if let to { filter.to = try Self.lsn(to, "--to") }
        if let from = filter.from, let to = filter.to, from >= to {
            throw .usage("--from \(from) does not lie before --to \(to)", next: "exchange them")
        }
        return filter
    }

    private static func lsn(_ text: String, _ option: String) throws(WALDumpError) -> LSN {
        if let lsn = LSN(text) { return lsn }
        throw .usage("\(option) \"\(printable(text))\" is not an LSN", next: "write it as in 0/3000028")
    }

    /// `segmentSwitch`, `segment-switch` and `SEGMENT_SWITCH` are one.
    private static func kind(_ text: String) throws(WALDumpError) -> RecordKind {
        func plain(_ text: String) -> String { text.lowercased().filter { $0 != "-" && $0 != "_" } }
        if let kind = RecordKind.allCases.first(where: { plain("\($0)") == plain(text) }) { return kind }
        let known = RecordKind.allCases.map { "\($0)" }.joined(separator: ", ")
        throw .usage("--kind \"\(printable(text))\" is no kind of record", next: "give one of \(known)")
    }
}

/// Which records are shown.
struct WALDumpFilter: Sendable {
    /// Empty: all.
    var kinds: Set<RecordKind> = []
    /// Commits that change this page; of a commit of several parts, those in which the change lies.
    var page: PageNumber?
    /// The commit that bears this transaction, whole.
    var transaction: TransactionID?
    /// Records that begin at or behind it.
    var from: LSN?
    /// Records that begin before it.
    var to: LSN?

    /// Whether the record is wanted for what it is; the range and the transaction are the reader's business.
    func wants(_ record: LogRecord, _ changes: [ChangeScanner.Found]) -> Bool {
        if let from, record.start < from { return false }
        if !kinds.isEmpty, !kinds.contains(record.kind) { return false }
        if let page { return changes.contains { $0.page == page } }
        return true
    }
}

/// Why WAL cannot be shown.
package enum WALDumpError: DiagnosableError, Equatable {
    case usage(String, next: String)
    /// Something that should be a segment is none.
    case notASegment(String, String)
    /// Nothing of the log is there, at this place or at all.
    case noWAL(String, String)
    /// The records end before they should.
    case damaged(String, String)

    package var diagnosis: Diagnosis {
        switch self {
        case .usage(let what, let next): Diagnosis(what, next: next, status: .usage)
        case .notASegment(let place, let why):
            Diagnosis(
                "this is no WAL segment", at: place, why: why, next: "see holdfast wal list for what the archive has",
                status: .dataError)
        case .noWAL(let place, let why):
            Diagnosis(
                "there is no such WAL", at: place, why: why,
                next: "see holdfast wal list for what the archive has", status: .dataError)
        case .damaged(let place, let why):
            Diagnosis(
                "the WAL breaks off", at: place, why: why,
                next: "fetch the segment from the archive (holdfast wal fetch), or see holdfast info",
                status: .dataError)
        }
    }
}
