import HoldfastCore

/// Why records cannot be read or written as text.
package enum RecordError: DiagnosableError, Equatable {
    case badLine(Int, why: String)
    case cannotRead(errno: Int32)
    case cannotWrite(errno: Int32)
    case badTree(Int)

    package var diagnosis: Diagnosis {
        switch self {
        case .badLine(let number, let why):
            Diagnosis(
                "cannot load the input", at: "line \(number)", why: why,
                next: "correct the line; the lines before it are loaded, and loading them again does no harm",
                status: .dataError)
        case .cannotRead(let code):
            Diagnosis("cannot read the input", why: DiskError.reason(code), status: .inputOutput)
        case .cannotWrite(let code):
            Diagnosis("cannot write the output", why: DiskError.reason(code), status: .inputOutput)
        case .badTree(let number):
            Diagnosis(
                "tree \(number) cannot be used", why: "a server has the trees 0 to 15", next: "choose one of them",
                status: .usage)
        }
    }
}

extension DiskError {
    /// The system's words for an error number.
    static func reason(_ code: Int32) -> String {
        DiskError(operation: "", path: "", code: .init(rawValue: code)).diagnosis.why ?? ""
    }
}
