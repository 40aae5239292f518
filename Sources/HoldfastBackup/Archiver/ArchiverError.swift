import HoldfastCore

/// Why a segment cannot be archived, when neither repository nor disk failed.
package enum ArchiverError: DiagnosableError, Equatable {
    /// The bytes in `wal/` are not a whole, sound segment.
    case notWhole(SegmentName, why: String)
    /// It is marked `.ready` but is not in `wal/`.
    case vanished(SegmentName)

    package var diagnosis: Diagnosis {
        switch self {
        case .notWhole(let name, let why):
            Diagnosis(
                "WAL segment \(name) is not archived, since it is damaged", at: "wal/\(name)", why: why,
                next: "take a full backup at once: no restore can pass this segment; then remove its .ready in "
                    + "wal/archive_status, which holds up the marking of those behind it", status: .dataError)
        case .vanished(let name):
            Diagnosis(
                "WAL segment \(name) waits for the archive but is gone", at: "wal/\(name)",
                next: "take a full backup at once: no restore can pass this segment; then remove its .ready in "
                    + "wal/archive_status, which holds up the marking of those behind it", status: .dataError)
        }
    }
}
