import Foundation

/// The `holdfast` binary that this build made, run as an operator would run it.
public enum BuiltBinary {
    /// Beside the test bundle, or where `HOLDFAST_BINARY` says.
    public static let path: String = {
        if let given = ProcessInfo.processInfo.environment["HOLDFAST_BINARY"] { return given }
        let bundle = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
        var candidates = [bundle.appending(path: "holdfast").path]
        if let executable = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") {
            candidates.append(URL(filePath: executable).deletingLastPathComponent().appending(path: "holdfast").path)
        }
        for map in (try? String(contentsOfFile: "/proc/self/maps", encoding: .utf8))?.split(separator: "\n") ?? [] {
            guard let slash = map.firstIndex(of: "/"), map.hasSuffix(".xctest") else { continue }
            candidates.append(
                URL(filePath: String(map[slash...])).deletingLastPathComponent().appending(path: "holdfast").path)
        }
        return candidates.first { FileManager.default.isExecutableFile(atPath: $0) } ?? candidates[0]
    }()

    /// What a finished command left: its exit status (128 + signal when it was killed) and its output.
    public struct Result: Sendable {
        public var status: Int32
        public var output: String
        public var errors: String
    }

    /// Runs `holdfast` with these arguments to its end.
    public static func run(
        _ arguments: [String], input: Data = Data(), environment: [String: String] = [:]
    ) throws -> Result {
        try runTool(path, arguments, input: input, environment: environment)
    }

    /// Runs any program to its end. Output beyond a pipe's size is fine: it goes to files.
    public static func runTool(
        _ program: String, _ arguments: [String], input: Data = Data(), environment: [String: String] = [:]
    ) throws -> Result {
        let started = try RunningProcess(program, arguments, input: input, environment: environment)
        let status = started.wait()
        return Result(status: status, output: started.output, errors: started.errors)
    }

    /// The path of a stock tool, or `nil` when this machine does not have it.
    public static func tool(_ name: String) -> String? {
        for directory in ["/usr/bin", "/bin", "/usr/local/bin", "/usr/lib/postgresql/15/bin", "/usr/sbin", "/sbin"] {
            let path = directory + "/" + name
            if FileManager.default.isExecutableFile(atPath: path) { return path }
        }
        return nil
    }
}

/// Waits until `condition` holds; throws when the process behind it has ended, or after `seconds`.
public func waitUntil(
    _ what: String, seconds: Int = 60, while process: RunningProcess? = nil, _ condition: () throws -> Bool
) throws {
    for _ in 0..<seconds * 50 {
        if try condition() { return }
        if let process, !process.isRunning {
            throw NeverHappened(what: what, errors: "the process ended with \(process.wait()): \(process.errors)")
        }
        usleep(20_000)
    }
    throw NeverHappened(what: what, errors: process?.errors ?? "")
}

public struct NeverHappened: Error, CustomStringConvertible {
    public let what: String
    public let errors: String

    public init(what: String, errors: String) {
        self.what = what
        self.errors = errors
    }

    public var description: String { "never happened: \(what)\n\(errors)" }
}
