import HoldfastCore
import Logging

/// The log of `serve`, `agent` and `backup`: one line an event on stderr.
package enum LogOutput {
    /// To be called once, before the first logger is made.
    package static func start(_ level: Configuration.LogLevel) -> Logger {
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        var log = Logger(label: "holdfast")
        log.logLevel = Logger.Level(rawValue: level.rawValue) ?? .info
        return log
    }

    /// An error in one line.
    static func text(_ error: any Error) -> String {
        let text = (error as? any DiagnosableError)?.diagnosis.description ?? "\(error)"
        return terminalSafe(text.replacing("\n", with: "; "))
    }
}
