import HoldfastCore
import Logging

/// The log of `serve`, `agent` and `backup`: one line an event on stderr. Its level may change while the process runs.
package enum LogOutput {
    private static let level = Shared(Logger.Level.info)

    /// To be called once, before the first logger is made.
    package static func start(_ level: Configuration.LogLevel) -> Logger {
        setLevel(level.rawValue)
        LoggingSystem.bootstrap { LevelledHandler(stream: .standardError(label: $0)) }
        return Logger(label: "holdfast")
    }

    /// For every logger of the process. `false`: there is no such level.
    @discardableResult
    static func setLevel(_ name: String) -> Bool {
        guard let chosen = Logger.Level(rawValue: name) else { return false }
        level.current = chosen
        return true
    }

    /// An error in one line.
    static func text(_ error: any Error) -> String {
        let text = (error as? any DiagnosableError)?.diagnosis.description ?? "\(error)"
        return terminalSafe(text.replacing("\n", with: "; "))
    }

    /// Writes as `StreamLogHandler` does, at the process's level.
    private struct LevelledHandler: LogHandler {
        var stream: StreamLogHandler

        init(stream: StreamLogHandler) {
            self.stream = stream
            // What passes this handler's level is to be written.
            self.stream.logLevel = .trace
        }

        var logLevel: Logger.Level {
            get { LogOutput.level.current }
            // One level for all: a single logger has none of its own.
            set {}
        }
        var metadata: Logger.Metadata {
            get { stream.metadata }
            set { stream.metadata = newValue }
        }
        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { stream[metadataKey: key] }
            set { stream[metadataKey: key] = newValue }
        }

        /// An event is one line, whatever is told in it.
        func log(event: LogEvent) {
            var event = event
            event.metadata = event.metadata?.mapValues { value in
                guard case .string(let text) = value, text.contains("\n") else { return value }
                return .string(text.replacing("\n", with: "; "))
            }
            stream.log(event: event)
        }
    }
}
