import Glibc

/// A failed call of the `Disk` seam: which, on what, and the system's reason.
public struct DiskError: DiagnosableError, Equatable {
    /// The system's error number.
    public struct Code: RawRepresentable, Hashable, Sendable {
        public let rawValue: Int32
        public init(rawValue: Int32) { self.rawValue = rawValue }
        public static let noSpace = Code(rawValue: ENOSPC)
        public static let quotaExceeded = Code(rawValue: EDQUOT)
        public static let inputOutput = Code(rawValue: EIO)
        public static let noEntry = Code(rawValue: ENOENT)
        public static let exists = Code(rawValue: EEXIST)
        public static let wouldBlock = Code(rawValue: EWOULDBLOCK)
        public static let permission = Code(rawValue: EACCES)
        public static let notPermitted = Code(rawValue: EPERM)
        public static let readOnly = Code(rawValue: EROFS)
        public static let link = Code(rawValue: ELOOP)
        public static let fileTooLarge = Code(rawValue: EFBIG)
        public static let notEmpty = Code(rawValue: ENOTEMPTY)
        public static let notDirectory = Code(rawValue: ENOTDIR)
    }

    /// `open`, `write`, `fdatasync` …
    public var operation: String
    /// As the caller gave it: relative to the data directory, or absolute.
    public var path: String
    public var code: Code
    public var detail: String?

    public init(operation: String, path: String, code: Code, detail: String? = nil) {
        self.operation = operation
        self.path = path
        self.code = code
        self.detail = detail
    }

    /// From `errno`, which is read at once.
    package init(operation: String, path: String, errno code: Int32) {
        self.init(operation: operation, path: path, code: Code(rawValue: code))
    }

    /// Full, or over quota: the one error that heals by itself.
    public var isNoSpace: Bool { code == .noSpace || code == .quotaExceeded }

    /// The directory that a command was to make, at its own place, could not be made.
    package static func cannotCreate(_ path: String, errno code: Int32) -> DiskError {
        DiskError(operation: Self.creation, path: path, errno: code)
    }
    private static let creation = "create directory"

    public var diagnosis: Diagnosis {
        let reason = detail ?? String(cString: strerror(code.rawValue))
        let (next, status): (String?, ExitStatus) =
            switch code {
            case .noSpace, .quotaExceeded: ("make room on this file system", .inputOutput)
            case .permission, .notPermitted: ("run as the user who owns it, or correct its mode", .permission)
            case .wouldBlock: ("stop the process that uses it, or wait for it", .tryAgain)
            case .noEntry where operation == Self.creation:
                ("make the directory above it first, or correct the path", .cannotCreate)
            case .notDirectory where operation == Self.creation: ("correct the path", .cannotCreate)
            case .noEntry, .notDirectory: ("check the path", .dataError)
            case .exists, .notEmpty: ("choose another place, or remove what is there", .cannotCreate)
            case .link: ("a symbolic link is never followed here: replace it by what it points to", .dataError)
            default: ("look at the kernel's log and the health of the device", .inputOutput)
            }
        return Diagnosis(
            "\(operation) failed", at: printable(path, limit: 400), why: reason, next: next, status: status)
    }
}
