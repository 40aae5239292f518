import Foundation
import Glibc
import HoldfastCore

extension Configuration {
    /// Where the configuration is looked for when neither `--config` nor `HOLDFAST_CONFIG` says.
    package static let defaultFile = "/etc/holdfast/holdfast.yaml"

    /// Variables that begin with `HOLDFAST_` and are no keys.
    private static let reservedVariables: Set<String> = ["HOLDFAST_CONFIG", "HOLDFAST_CLOCK_RATE"]

    /// Reads and checks everything. Of the default file alone absence is no error.
    ///
    /// - Parameters:
    ///   - file: what `--config` gave.
    ///   - options: key path (`server.listen`) to the option that gives it and its text.
    package static func load(
        file: String? = nil, environment: [String: String], options: [String: (option: String, text: String)] = [:]
    ) throws(ConfigurationError) -> Configuration {
        var root: SettingNode?
        var read: String?
        var mode: UInt32 = 0
        let named = file ?? environment["HOLDFAST_CONFIG"]
        let path = WorkingDirectory.absolute(named ?? defaultFile)
        if let file = try contents(of: path, mayBeAbsent: named == nil) {
            root = try SettingNode.parse(file.bytes) { .file(path, line: $0) }
            read = path
            mode = file.mode
        }
        let sources = SettingsReader.Sources(environment: environment, options: options)
        let reader = try SettingsReader(root, prefix: "", sources: sources)
        var configuration = try ConfigurationGrammar.read(reader, state: defaultState(environment))
        configuration.file = read
        if let uri = configuration.catalog?.uri, environment["HOLDFAST_CATALOG__URI"] == nil, read != nil {
            try refuseExposedPassword(uri, path: path, mode: mode)
        }
        try refuseUnknownVariables(sources)
        return configuration
    }

    /// The configurations of a directory: each `*.yaml` in it is one cluster. The environment's keys hold for all.
    package static func loadAll(
        directory: String, environment: [String: String]
    ) throws(ConfigurationError) -> [Configuration] {
        let names: [String]
        do {
            names = try RealDisk(root: WorkingDirectory.absolute(directory)).list("")
        } catch {
            throw .cannotRead(path: directory, error.code)
        }
        var all: [Configuration] = []
        for name in names where name.hasSuffix(".yaml") {
            all.append(try load(file: directory + "/" + name, environment: environment))
        }
        guard !all.isEmpty else { throw .cannotRead(path: directory + "/*.yaml", .noEntry) }
        var seen: [String: String] = [:]
        for configuration in all {
            let cluster = try configuration.requiredCluster()
            let file = configuration.file ?? ""
            if let other = seen.updateValue(file, forKey: cluster) {
                throw .badValue(
                    "cluster", .file(file, line: 1), why: "\(printable(other, limit: 300)) is of the same cluster",
                    next: "keep one file for each cluster")
            }
        }
        return all
    }

    /// A password inside the URI makes a secret of the whole file.
    private static func refuseExposedPassword(
        _ uri: String, path: String, mode: UInt32
    ) throws(ConfigurationError) {
        let afterScheme = uri.range(of: "://").map { uri[$0.upperBound...] } ?? uri[...]
        let user = afterScheme.prefix { $0 != "@" && $0 != "/" }
        let inUser = afterScheme[user.endIndex...].first == "@" && user.contains(":")
        guard inUser || uri.contains("password="), mode & 0o007 != 0 else { return }
        throw .readableByOthers(path: path, key: "catalog.uri", mode: mode)
    }

    private static func contents(
        of path: String, mayBeAbsent: Bool
    ) throws(ConfigurationError) -> (bytes: [UInt8], mode: UInt32)? {
        do throws(DiskError) {
            return try PlainFile.read(path, limit: SettingNode.Bounds.bytes + 1)
        } catch {
            if mayBeAbsent && error.code == .noEntry { return nil }
            throw .cannotRead(path: path, error.code)
        }
    }

    /// systemd's directory, else the service's for root, else the user's.
    private static func defaultState(_ environment: [String: String]) -> String {
        if let given = environment["STATE_DIRECTORY"], given.hasPrefix("/"), !given.contains(":") { return given }
        guard geteuid() != 0, let home = environment["HOME"], home.hasPrefix("/") else {
            return "/var/lib/holdfast/state"
        }
        return home + "/.local/state/holdfast"
    }

    /// A misspelt variable must not be ignored silently: refused are those with `__`, which only keys have, and those
    /// that nearly are a key.
    private static func refuseUnknownVariables(_ sources: SettingsReader.Sources) throws(ConfigurationError) {
        let unknown = sources.environment.keys.filter {
            $0.hasPrefix("HOLDFAST_") && !sources.knownVariables.contains($0) && !reservedVariables.contains($0)
        }
        for name in unknown.sorted() {
            let nearest = Spelling.nearest(to: name, among: sources.knownVariables)
            guard name.contains("__") || nearest != nil else { continue }
            throw .unknownKey(name, .environment("the environment"), suggestion: nearest)
        }
    }
}
