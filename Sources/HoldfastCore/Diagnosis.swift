/// How a command ends: the exit statuses of `sysexits.h` that Holdfast uses.
public enum ExitStatus: Int32, Sendable {
    case done = 0
    case usage = 64
    /// Bad input or corrupt data: missing, damaged, unknown, another cluster's, newer, out of reach.
    case dataError = 65
    /// A leader, store or catalog cannot be reached.
    case unavailable = 69
    case internalError = 70
    /// The target exists, is not empty, or cannot be made.
    case cannotCreate = 73
    case inputOutput = 74
    /// In use or locked by another: try again later.
    case tryAgain = 75
    case permission = 77
    case configuration = 78
}

/// An error as an operator reads it: what failed, where, why, and what to do next.
public struct Diagnosis: Sendable, Equatable, CustomStringConvertible {
    /// What was being done or what is wrong, without a full stop: `cannot read page 17`.
    public var what: String
    /// The path, LSN, page, segment or object concerned.
    public var place: String?
    /// The reason: `checksum does not match`.
    public var why: String?
    /// What the operator can do now: `restore page 17 from a backup`.
    public var next: String?
    public var status: ExitStatus

    public init(_ what: String, at place: String? = nil, why: String? = nil, next: String? = nil, status: ExitStatus) {
        self.what = what
        self.place = place
        self.why = why
        self.next = next
        self.status = status
    }

    /// One line, with a second one for the hint:
    ///
    ///     cannot read page 17 (pages/00000000 at 139264): checksum does not match
    ///     hint: restore page 17 from a backup
    public var description: String {
        var line = what
        if let place { line += " (\(place))" }
        if let why { line += ": \(why)" }
        if let next { line += "\nhint: \(next)" }
        return line
    }
}

/// An error that can say what happened in the operator's terms. Each target's error type conforms;
/// the command line prints the diagnosis and exits with its status.
public protocol DiagnosableError: Error, CustomStringConvertible {
    var diagnosis: Diagnosis { get }
}

extension DiagnosableError {
    public var description: String { diagnosis.description }
}
