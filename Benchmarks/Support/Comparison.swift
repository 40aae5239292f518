import Foundation
import HoldfastTestSupport

/// Two ways to do the same work, measured in turn in one run: A B A B …, so that a drift of the machine
/// meets both. Prints each median and the median of the ratios of neighbours.
public struct Comparison {
    public enum Better { case higher, lower }

    public let title: String
    public let unit: String
    public let better: Better
    public var ours: [Double] = []
    public var theirs: [Double] = []
    public let peer: String

    public init(_ title: String, unit: String, better: Better, peer: String) {
        self.title = title
        self.unit = unit
        self.better = better
        self.peer = peer
    }

    /// Measures both `rounds` times, each in turn.
    public mutating func run(rounds: Int, ours: () throws -> Double, theirs: () throws -> Double) rethrows {
        for _ in 0..<rounds {
            self.ours.append(try ours())
            self.theirs.append(try theirs())
        }
    }

    /// Without figures of the peer: only ours.
    public func print() {
        let padding = String(repeating: " ", count: max(0, 46 - title.count))
        let ratios = zip(ours, theirs).map { $0 / $1 }
        let digits = median(ours) < 100 ? 2 : 0
        guard !theirs.isEmpty else {
            Swift.print("\(title)\(padding) holdfast " + String(format: "%12.\(digits)f %@", median(ours), unit))
            fflush(nil)
            return
        }
        let figures = String(
            format: "%12.\(digits)f %@   %@ %12.\(digits)f %@   ratio %.2f (%.2f to %.2f; %@ is better)", median(ours),
            unit, peer, median(theirs), unit, median(ratios), ratios.min() ?? 0, ratios.max() ?? 0,
            better == .higher ? "higher" : "lower")
        Swift.print("\(title)\(padding) holdfast \(figures)")
        fflush(nil)
    }
}

public func median(_ values: [Double]) -> Double {
    guard !values.isEmpty else { return .nan }
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/// Wall seconds of `body`.
public func seconds(_ body: () throws -> Void) rethrows -> Double {
    let clock = ContinuousClock()
    let time = try clock.measure(body)
    return Double(time.components.seconds) + Double(time.components.attoseconds) / 1e18
}

/// Runs a shell command to its end; ends the benchmark with its output when it fails.
@discardableResult
public func shell(_ command: String) throws -> String {
    let result = try BuiltBinary.runTool("/bin/bash", ["-o", "pipefail", "-c", command])
    guard result.status == 0 else {
        throw CommandFailed(command: command, status: result.status, errors: result.errors + result.output)
    }
    return result.output
}

public struct CommandFailed: Error, CustomStringConvertible {
    public let command: String
    public let status: Int32
    public let errors: String

    public init(command: String, status: Int32, errors: String) {
        self.command = command
        self.status = status
        self.errors = errors
    }

    public var description: String { "\(command): exit \(status)\n\(errors)" }
}

/// Runs a program to its end; returns its wall seconds and the most memory it held, in MiB.
public func measured(_ program: String, _ arguments: [String]) throws -> (seconds: Double, peakMiB: Double) {
    var peak = 0.0
    let time = try seconds {
        let process = try RunningProcess(program, arguments)
        while process.isRunning {
            peak = max(peak, peakMiB(of: "\(process.pid)") ?? 0)
            usleep(5_000)
        }
        let status = process.wait()
        guard status == 0 else {
            throw CommandFailed(command: arguments.joined(separator: " "), status: status, errors: process.errors)
        }
    }
    return (time, peak)
}

/// The most memory that a process has held, in MiB; nil when it is gone.
public func peakMiB(of process: String = "self") -> Double? {
    let status = (try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)) ?? ""
    let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
    return line.flatMap { Double($0.split(whereSeparator: { $0 == " " || $0 == "\t" })[1]) }.map { $0 / 1024 }
}
