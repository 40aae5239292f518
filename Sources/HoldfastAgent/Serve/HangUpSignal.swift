import Dispatch
import Glibc

/// Runs something at each SIGHUP, which would else end the process.
final class HangUpSignal {
    private let source: any DispatchSourceSignal

    init(_ body: @escaping @Sendable () -> Void) {
        // The source is told of the signal; the process must not be ended by it.
        signal(SIGHUP, SIG_IGN)
        source = DispatchSource.makeSignalSource(signal: SIGHUP, queue: .global())
        source.setEventHandler(handler: body)
        source.resume()
    }

    /// From now on the signal is ignored.
    func cancel() { source.cancel() }
}
