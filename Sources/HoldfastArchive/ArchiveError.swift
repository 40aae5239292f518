import HoldfastCore

/// What can go wrong between pages and an archive's bytes. Errors of a sink, a source or a page
/// source pass through as they were thrown.
package enum ArchiveError: DiagnosableError, Equatable {
    /// A page stayed bad after re-reading, also through the server where one was given.
    case damagedPage(PageNumber, path: String, fault: PageFault)
    /// A member that the strict reader refuses; `name` is as it stands in the archive, unescaped.
    case badMember(name: String, why: String)
    /// The tar stream itself is malformed at `offset` of `archive` (0: not known which).
    case badTar(archive: Int, offset: UInt64, why: String)
    /// An archive, `frames.idx`, `pages.crc` or `backup_manifest` does not hold what it must.
    case damaged(object: String, why: String)
    case newerFormat(object: String, version: UInt32, supported: UInt32)
    /// The compressor or decompressor refused.
    case codec(String)
    /// The caller asked for something that cannot be done: a length that is no multiple of a page, a bad name.
    case invalid(String)
    case system(DiskError)
    case cancelled

    package var diagnosis: Diagnosis {
        let another =
            "use another backup, or another copy of the repository; `holdfast verify` names all that is damaged"
        switch self {
        case .damagedPage(let page, let path, let fault):
            return Diagnosis(
                "page \(page) is damaged", at: "\(path) at \(page.fileOffset)", why: fault.description,
                next: "restore from an earlier backup; `holdfast check --data` lists every damaged page",
                status: .dataError)
        case .badMember(let name, let why):
            return Diagnosis(
                "archive member \"\(printable(name))\" is refused", why: why, next: another, status: .dataError)
        case .badTar(let archive, let offset, let why):
            let place = archive > 0 ? "archive \(archive), tar offset \(offset)" : "tar offset \(offset)"
            return Diagnosis("the tar stream is malformed", at: place, why: why, next: another, status: .dataError)
        case .damaged(let object, let why):
            return Diagnosis("\(object) is damaged", why: why, next: another, status: .dataError)
        case .newerFormat(let object, let version, let supported):
            return Diagnosis(
                "\(object) has format version \(version)", why: "this program reads versions up to \(supported)",
                next: "use a newer holdfast", status: .dataError)
        case .codec(let why):
            return Diagnosis("compression failed", why: why, status: .internalError)
        case .invalid(let why):
            return Diagnosis("an archive cannot be made or read like this", why: why, status: .usage)
        case .system(let error):
            return error.diagnosis
        case .cancelled:
            return Diagnosis("cancelled", next: "run it again", status: .tryAgain)
        }
    }
}
