import ArgumentParser
import Glibc
import HoldfastAgent
import HoldfastCore

/// How a command ends that did not simply succeed.
enum Exit {
    /// Prints the error as `holdfast: what (where): why` with its hint, and ends the process with its status.
    static func end(with error: any Error) -> Never {
        if let error = error as? any DiagnosableError {
            complain(error.diagnosis.description)
            exit(error.diagnosis.status.rawValue)
        }
        if let code = error as? ExitCode { exit(code.rawValue) }
        // Help and the version are "errors" with status 0, and belong on stdout.
        let code = Holdfast.exitCode(for: error)
        let message = Holdfast.fullMessage(for: error)
        if code.isSuccess {
            print(message)
            exit(0)
        }
        complain(message.hasPrefix("Error: ") ? String(message.dropFirst(7)) : message)
        exit(code == .validationFailure ? ExitStatus.usage.rawValue : ExitStatus.internalError.rawValue)
    }

    static func complain(_ text: String) {
        let safe = "holdfast: " + terminalSafe(text, keepingLines: true) + "\n"
        safe.utf8CString.withUnsafeBufferPointer { _ = write(STDERR_FILENO, $0.baseAddress, $0.count - 1) }
    }
}

/// A combination of arguments that means nothing.
struct UsageError: DiagnosableError {
    var what: String
    var next: String

    var diagnosis: Diagnosis { Diagnosis(what, next: next, status: .usage) }
}
