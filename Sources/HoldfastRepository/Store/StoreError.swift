import Glibc
import HoldfastCore

/// A failed call to a store: which, on what, and why.
package struct StoreError: DiagnosableError, Equatable {
    package enum Reason: Equatable, Sendable {
        /// The root itself is not there: moved away, or its file system is not mounted.
        case away
        case missing
        case noSpace
        case permission
        case readOnly
        /// Something on the way is a symbolic link, or not the kind of thing it should be.
        case link
        case tooLarge(limit: Int)
        /// Shorter than what was asked of it.
        case cutShort(bytes: UInt64)
        /// The system's error number.
        case system(Int32)
        /// A planted fault.
        case injected(String)
    }

    package var operation: String
    /// The absolute path or the address.
    package var place: String
    package var reason: Reason

    package init(_ operation: String, _ place: String, _ reason: Reason) {
        self.operation = operation
        self.place = place
        self.reason = reason
    }

    package init(_ operation: String, _ place: String, errno code: Int32) {
        let reason: Reason =
            switch code {
            case ENOENT: .missing
            case ENOSPC, EDQUOT: .noSpace
            case EACCES, EPERM: .permission
            case EROFS: .readOnly
            case ELOOP, ENOTDIR, EXDEV: .link
            case ESTALE, ENODEV, ENXIO, ENOTCONN: .away
            default: .system(code)
            }
        self.init(operation, place, reason)
    }

    /// Of one object: it is damaged, or its place on the disk is. All else hinders whatever is asked next too.
    package var isOfOneObject: Bool {
        switch reason {
        case .tooLarge, .cutShort, .link, .system(EIO): true
        default: false
        }
    }

    package var diagnosis: Diagnosis {
        let (why, next, status): (String, String?, ExitStatus) =
            switch reason {
            case .away:
                (
                    "the repository is not there", "mount it, give it back, or correct the repository's path",
                    .unavailable
                )
            case .missing: ("it does not exist", "check the name; `holdfast info` lists what there is", .dataError)
            case .noSpace: ("no space left", "make room on the repository's file system", .inputOutput)
            case .permission:
                ("permission denied", "run as the user who owns the repository, or correct its mode", .permission)
            case .readOnly: ("the file system is read-only", "mount it writable", .permission)
            case .link:
                (
                    "a symbolic link or not a plain file", "replace it by what it points to: links are never followed",
                    .dataError
                )
            case .tooLarge(let limit): ("longer than the \(limit) bytes that it may have", nil, .dataError)
            case .cutShort(let bytes): ("it ends after \(bytes) bytes", "verify the repository", .dataError)
            case .system(let code):
                (String(cString: strerror(code)), "look at the health of the repository's device", .inputOutput)
            case .injected(let text): (text, nil, .inputOutput)
            }
        return Diagnosis(
            "the repository cannot \(operation)", at: printable(place, limit: 400), why: why, next: next,
            status: status)
    }
}
