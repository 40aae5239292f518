import Glibc
import Synchronization

/// Progress of long work on stderr, when that is a terminal: done and total, rate, time left. Otherwise silent.
/// Any thread may report; it draws at most ten times a second.
package final class ProgressBar: Sendable {
    private struct State {
        var lastDrawn = -1.0
        var width = 0
    }

    private let label: String
    private let isVisible: Bool
    private let started: Double
    private let state = Mutex(State())

    package init(_ label: String, isVisible: Bool = isatty(STDERR_FILENO) == 1) {
        self.label = label
        self.isVisible = isVisible
        started = Self.seconds()
    }

    /// `total` 0: not known.
    package func report(done: Int, total: Int) {
        guard isVisible else { return }
        let now = Self.seconds()
        state.withLock { state in
            guard now - state.lastDrawn >= 0.1 || done == total else { return }
            state.lastDrawn = now
            let line = Self.line(label, done: done, total: total, seconds: now - started)
            let padding = String(repeating: " ", count: Swift.max(0, state.width - line.count))
            state.width = line.count
            Self.write("\r" + line + padding)
        }
    }

    /// Clears the line.
    package func finish() {
        guard isVisible else { return }
        state.withLock { state in
            if state.width > 0 { Self.write("\r" + String(repeating: " ", count: state.width) + "\r") }
            state.width = 0
        }
    }

    /// `backup  [#####-----]  50%  1.0 GiB of 2.0 GiB  512.0 MiB/s  2.0 s left`
    static func line(_ label: String, done: Int, total: Int, seconds: Double) -> String {
        let rate = seconds > 0 ? Double(done) / seconds : 0
        var line = terminalSafe(label) + "  "
        if total > 0 {
            let share = Swift.min(1, Double(done) / Double(total))
            let filled = Int(share * 20)
            line += "[" + String(repeating: "#", count: filled) + String(repeating: "-", count: 20 - filled) + "]  "
            line += "\(Int(share * 100))%  \(Quantity.bytes(done)) of \(Quantity.bytes(total))"
        } else {
            line += Quantity.bytes(done)
        }
        line += "  \(Quantity.bytes(Int(rate)))/s"
        if total > done, rate > 0 { line += "  \(Quantity.seconds(Double(total - done) / rate)) left" }
        return line
    }

    private static func write(_ text: String) {
        // A terminal that went away is no reason to stop the work.
        text.utf8CString.withUnsafeBufferPointer { _ = Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count - 1) }
    }

    private static func seconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
