import HoldfastCore
import HoldfastWAL

/// Why a directory is not rewound. Nothing in it was changed, unless the error says so.
package enum RewindError: DiagnosableError {
    case foreign(path: String, found: SystemIdentifier, expected: SystemIdentifier, source: String)
    case nothingInCommon(path: String, source: String)
    case onlyTimeline(path: String, TimelineID)
    case aheadOfLeader(own: LSN, leader: LSN, source: String)
    case unfinished(path: String, why: String)
    case noRedoPoint(fork: LSN, why: String)
    case logMissing(at: LSN, why: String)
    case backupTooLate(stop: LSN, fork: LSN)
    case savedMissing(path: String)
    case savedDamaged(path: String, why: String)
    case savedExists(path: String)
    case otherFork(expected: LSN, found: LSN, source: String)
    case badPage(PageNumber, source: String, why: String)

    private static let anew = "restore this node anew: holdfast restore --follow LEADER into an empty directory"

    package var diagnosis: Diagnosis {
        switch self {
        case .foreign(let path, let found, let expected, let source):
            Diagnosis(
                "the directory belongs to another cluster", at: printable(path, limit: 300),
                why: "its system identifier is \(found), that of \(printable(source, limit: 200)) is \(expected)",
                next: "give this cluster's leader, or the right directory", status: .dataError)
        case .nothingInCommon(let path, let source):
            Diagnosis(
                "the directory has no history in common with \(printable(source, limit: 200))",
                at: printable(path, limit: 300), why: "their first timelines bear different tokens", next: Self.anew,
                status: .dataError)
        case .onlyTimeline(let path, let timeline):
            Diagnosis(
                "there is nothing to rewind to", at: printable(path, limit: 300),
                why: "the repository knows no timeline that branched off this node's timeline \(timeline.rawValue)",
                next: "start it with holdfast serve, or give the leader with --from LEADER", status: .dataError)
        case .aheadOfLeader(let own, let leader, let source):
            Diagnosis(
                "this node's log goes on behind the leader's", at: "LSN \(own)",
                why: "both are on one timeline, and the log of \(printable(source, limit: 200)) ends at \(leader)",
                next: "find out which of the two is the leader: this node has what the other lacks", status: .dataError)
        case .unfinished(let path, let why):
            Diagnosis(
                "this directory cannot be rewound", at: printable(path, limit: 300), why: why,
                next: "let holdfast serve finish it, or restore it anew", status: .dataError)
        case .noRedoPoint(let fork, let why):
            Diagnosis(
                "no redo point before the fork is left", at: "LSN \(fork)", why: why, next: Self.anew,
                status: .dataError)
        case .logMissing(let lsn, let why):
            Diagnosis(
                "this node's own log cannot be read, and so not what it changed since the fork", at: "LSN \(lsn)",
                why: why, next: Self.anew, status: .dataError)
        case .backupTooLate(let stop, let fork):
            Diagnosis(
                "this node is whole only behind the fork", at: "LSN \(fork)",
                why: "the backup that it was restored from ends at \(stop)", next: Self.anew, status: .dataError)
        case .savedMissing(let path):
            Diagnosis(
                "an interrupted rewind cannot go on", at: printable(path, limit: 300),
                why: "what it had saved there is gone, and the directory no longer tells which pages differ",
                next: "put it back, or restore this node anew", status: .dataError)
        case .savedDamaged(let path, let why):
            Diagnosis(
                "an interrupted rewind cannot go on", at: printable(path, limit: 300), why: why,
                next: "put back what the rewind had saved there, or restore this node anew", status: .dataError)
        case .savedExists(let path):
            Diagnosis(
                "the place for what is thrown away is taken", at: printable(path, limit: 300),
                why: "an earlier rewind of another log saved its transactions there",
                next: "move it away", status: .cannotCreate)
        case .otherFork(let expected, let found, let source):
            Diagnosis(
                "an interrupted rewind must go on with the branch that it was begun for",
                at: printable(source, limit: 200),
                why: "its branch leaves this node's at \(found), and the rewind was begun for \(expected)",
                next: "repeat it with the leader that it was begun with, or restore this node anew", status: .dataError)
        case .badPage(let page, let source, let why):
            Diagnosis(
                "page \(page) came damaged", at: printable(source, limit: 200), why: why,
                next: "repeat the rewind; if it happens again, check the source with holdfast check",
                status: .dataError)
        }
    }
}
