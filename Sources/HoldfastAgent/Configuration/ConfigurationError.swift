import HoldfastCore

/// Why a configuration is refused. Nothing was started.
package enum ConfigurationError: DiagnosableError, Equatable {
    /// Where a setting was given.
    package enum Origin: Sendable, Equatable, Hashable, CustomStringConvertible {
        case file(String, line: Int)
        case environment(String)
        case option(String)
        /// Nobody gave it.
        case builtIn

        package var description: String {
            switch self {
            case .file(let path, let line): "\(printable(path, limit: 300)):\(line)"
            case .environment(let name): name
            case .option(let name): name
            case .builtIn: "the default"
            }
        }
    }

    case cannotRead(path: String, DiskError.Code)
    case notYAML(Origin, String)
    /// The file is larger, deeper or more entangled than any configuration.
    case outOfBounds(Origin, String)
    case unknownKey(String, Origin, suggestion: String?)
    case duplicateKey(String, Origin)
    /// A value of the wrong kind, or out of range: the key, where, what is wrong, how to write it.
    case badValue(String, Origin, why: String, next: String)
    /// The key is part of the grammar, but this release cannot do it.
    case notSupported(String, Origin)
    /// A key without which the command cannot work.
    case missing(String, why: String, next: String)
    case readableByOthers(path: String, key: String, mode: UInt32)

    package var diagnosis: Diagnosis {
        switch self {
        case .cannotRead(let path, let code):
            let reason = DiskError(operation: "read", path: path, code: code).diagnosis
            return Diagnosis(
                "cannot read the configuration", at: printable(path, limit: 300), why: reason.why,
                next: "give the file with --config or HOLDFAST_CONFIG", status: .configuration)
        case .notYAML(let origin, let why):
            return Diagnosis(
                "this is not YAML", at: origin.description, why: printable(why, limit: 300), next: "correct this line",
                status: .configuration)
        case .outOfBounds(let origin, let why):
            return Diagnosis(
                "the configuration is refused", at: origin.description, why: why, next: "write it plainly",
                status: .configuration)
        case .unknownKey(let key, let origin, let suggestion):
            return Diagnosis(
                "unknown key \"\(printable(key))\"", at: origin.description,
                next: suggestion.map { "did you mean \"\($0)\"?" } ?? "remove it", status: .configuration)
        case .duplicateKey(let key, let origin):
            return Diagnosis(
                "key \"\(printable(key))\" is given twice", at: origin.description, next: "keep one of the two",
                status: .configuration)
        case .badValue(let key, let origin, let why, let next):
            return Diagnosis(
                "\(key) cannot be used", at: origin.description, why: why, next: next, status: .configuration)
        case .notSupported(let key, let origin):
            return Diagnosis(
                "\(key) is not supported yet by this release", at: origin.description, next: "remove it",
                status: .configuration)
        case .missing(let key, let why, let next):
            return Diagnosis("\(key) is not configured", why: why, next: next, status: .configuration)
        case .readableByOthers(let path, let key, let mode):
            return Diagnosis(
                "\(key) holds a password that is not safe", at: printable(path, limit: 300),
                why: "other users may read it (mode \(String(mode, radix: 8)))",
                next: "chmod 600 the file and change the password, or give it as password_file", status: .configuration)
        }
    }
}
