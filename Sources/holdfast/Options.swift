import ArgumentParser
import Foundation
import Glibc
import HoldfastAgent
import HoldfastCore
import HoldfastWire
import Logging

/// `--config` and `--cluster`, which every command that needs a configuration has.
struct ConfigurationOptions: ParsableArguments {
    @Option(help: "The configuration file.") var config: String?
    @Option(help: "The cluster's name; default: the file's.") var cluster: String?

    /// Reads the configuration with these options, and `more` (key path to option and text), over it.
    func load(
        _ more: [String: (option: String, text: String?)] = [:]
    ) throws -> Configuration {
        var options: [String: (option: String, text: String)] = [:]
        for (key, given) in more {
            if let text = given.text { options[key] = (option: given.option, text: text) }
        }
        if let cluster { options["cluster"] = (option: "--cluster", text: cluster) }
        return try Configuration.load(
            file: config, environment: ProcessInfo.processInfo.environment, options: options)
    }
}

/// `--connect`: which server is meant.
struct ConnectOptions: ParsableArguments {
    @Option(help: "HOST:PORT or unix:PATH of the server; default: the configuration's leader.") var connect: String?

    func server(_ configuration: ConfigurationOptions) throws -> WireServer {
        guard let connect else { return try configuration.load().leaderServer() }
        let address = try WireAddress(connect)
        // A socket needs nothing that a configuration says.
        if case .unix = address { return WireServer(address) }
        return try configuration.load().server(at: address)
    }
}

enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
    case text, json
}

/// `--format`.
struct OutputOptions: ParsableArguments {
    @Option(help: "text for people, json for programs.") var format = OutputFormat.text

    /// Prints a report, and ends with its status when it tells of problems.
    func print(_ report: Report) throws {
        try write(format == .json ? report.json.text(indented: true) + "\n" : report.text)
        if report.status != .done { throw ExitCode(report.status.rawValue) }
    }

    func write(_ text: String) throws {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            // Nobody reads any more: that is their choice.
            if count < 0 && errno == EPIPE { return }
            guard count >= 0 else { throw RecordError.cannotWrite(errno: errno) }
            bytes = bytes.dropFirst(count)
        }
    }
}

/// Checks a count that must be at least 1.
func requirePositive(_ value: Int?, _ option: String) throws {
    guard let value, value < 1 else { return }
    throw UsageError(what: "\(option) must be at least 1", next: "give a larger number")
}
