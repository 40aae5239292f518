import ArgumentParser
import HoldfastCore

/// A command or option of the design that this release does not have. It says so, with the status of a usage error.
struct NotInThisRelease: DiagnosableError {
    private let name: String
    init(_ name: String) { self.name = name }

    var diagnosis: Diagnosis {
        Diagnosis("\(name) is not in this release", next: "see holdfast --help", status: .usage)
    }
}

/// A command that only names itself. Whatever follows it is taken and not looked at.
protocol AbsentCommand: ParsableCommand {
    static var name: String { get }
    var rest: [String] { get }
}

extension AbsentCommand {
    static var configuration: CommandConfiguration { CommandConfiguration(commandName: name, shouldDisplay: false) }
    func run() throws { throw NotInThisRelease(Self.name) }
}

struct VerifyCommand: AbsentCommand {
    static let name = "verify"
    @Argument(parsing: .captureForPassthrough) var rest: [String] = []
}

struct ExpireCommand: AbsentCommand {
    static let name = "expire"
    @Argument(parsing: .captureForPassthrough) var rest: [String] = []
}

struct AnnotateCommand: AbsentCommand {
    static let name = "annotate"
    @Argument(parsing: .captureForPassthrough) var rest: [String] = []
}

struct KeepCommand: AbsentCommand {
    static let name = "keep"
    @Argument(parsing: .captureForPassthrough) var rest: [String] = []
}
