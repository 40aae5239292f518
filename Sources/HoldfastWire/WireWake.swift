import CShims
import Glibc

/// Ends the wait of a `WireClient` for the next message of a stream: from any thread, also before it waits.
package final class WireWake: Sendable {
    let descriptor: Int32

    /// `nil` when the process has no descriptor left.
    package init?() {
        descriptor = hf_event_descriptor()
        if descriptor < 0 { return nil }
    }

    deinit { Glibc.close(descriptor) }

    package func wake() {
        var one: UInt64 = 1
        // A counter that is full has been told already.
        _ = write(descriptor, &one, 8)
    }

    /// Whether somebody has called `wake` since this was asked last.
    func wasWoken() -> Bool {
        var count: UInt64 = 0
        return read(descriptor, &count, 8) == 8
    }
}
