import Foundation
import HoldfastTestSupport

/// Waits until `condition` gives something; looks often, since what is waited for is measured. What it throws counts as
/// "not yet", and is told when the time is over.
@discardableResult
func soon<R>(
    _ what: String, seconds: Double = 300, everyMilliseconds: UInt32 = 2, while process: RunningProcess? = nil,
    _ condition: () throws -> R?
) throws -> R {
    let end = ContinuousClock.now + .seconds(seconds)
    var problem = ""
    while ContinuousClock.now < end {
        do {
            if let result = try condition() { return result }
        } catch { problem = "\(error)" }
        if let process, !process.isRunning {
            throw NeverHappened(what: what, errors: "the process ended with \(process.wait()): \(process.errors)")
        }
        usleep(everyMilliseconds * 1000)
    }
    throw NeverHappened(what: what, errors: problem + "\n" + (process?.errors ?? ""))
}

/// Wall seconds since `start`.
func elapsedSeconds(since start: ContinuousClock.Instant) -> Double { (ContinuousClock.now - start) / .seconds(1) }
