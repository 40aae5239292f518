import HoldfastCore

/// What the engine refuses or fails at.
public enum EngineError: DiagnosableError {
    case disk(DiskError)
    /// A page that is damaged or not what its place says.
    case damagedPage(PageNumber, String)
    /// The structure of a tree contradicts itself at this page.
    case damagedTree(PageNumber, String)
    case keyTooLong(Int)
    case valueTooLong(Int)
    /// The page space is full: 2^32 pages.
    case pageSpaceFull
    /// Another thread's page is needed from disk, and this reader may not wait for one.
    case notResident
    /// The version that this snapshot sees is no longer in memory.
    case snapshotTooOld
    /// The transaction's private pages exceed its budget, in bytes.
    case transactionTooLarge(limit: Int)

    public var diagnosis: Diagnosis {
        switch self {
        case .disk(let error): error.diagnosis
        case .damagedPage(let page, let why):
            Diagnosis(
                "page \(page) is damaged", at: "\(PageNumber.filePath(page.fileIndex)) at \(page.fileOffset)", why: why,
                next: "restore this data directory from a backup", status: .dataError)
        case .damagedTree(let page, let why):
            Diagnosis(
                "a tree is damaged at page \(page)", at: "\(PageNumber.filePath(page.fileIndex)) at \(page.fileOffset)",
                why: why, next: "run holdfast check, then restore from a backup", status: .dataError)
        case .keyTooLong(let bytes):
            Diagnosis(
                "the key is too long", why: "\(bytes) bytes where at most \(Limits.keyBytes) are allowed",
                next: "shorten the key", status: .dataError)
        case .valueTooLong(let bytes):
            Diagnosis(
                "the value is too long", why: "\(bytes) bytes where at most \(Limits.valueBytes) are allowed",
                next: "split the value over several keys", status: .dataError)
        case .pageSpaceFull:
            Diagnosis("the page space is full", why: "it holds 2^32 pages", next: "delete records", status: .inputOutput)
        case .notResident:
            Diagnosis("a page is not in memory", status: .internalError)
        case .snapshotTooOld:
            Diagnosis(
                "the snapshot is too old", why: "versions it needs exceeded the memory for old versions",
                next: "read again from a new snapshot, or raise server.versions", status: .tryAgain)
        case .transactionTooLarge(let limit):
            Diagnosis(
                "the transaction is too large", why: "its changed pages exceed \(limit) bytes",
                next: "split it, or raise server.transaction", status: .dataError)
        }
    }
}

/// What a record may measure.
public enum Limits {
    public static let keyBytes = 2048
    public static let valueBytes = 64 << 20
}
