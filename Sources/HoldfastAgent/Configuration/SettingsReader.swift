import HoldfastCore
import HoldfastWire

/// Reads one map of the configuration key by key. What is read here *is* the grammar: a key that nobody asked for is
/// unknown, and each key asked for has its twin in the environment, `HOLDFAST_A__B` for `a.b`.
///
/// Precedence: option over environment over file; the default is the reading code's.
final class SettingsReader {
    typealias Origin = ConfigurationError.Origin

    /// What all readers of one configuration share.
    final class Sources {
        let environment: [String: String]
        /// Key path to the option that gives it and its text.
        let options: [String: (option: String, text: String)]
        var knownVariables: Set<String> = []

        init(environment: [String: String], options: [String: (option: String, text: String)]) {
            self.environment = environment
            self.options = options
        }
    }

    private let sources: Sources
    /// `""` for the root, else `archive.` and the like.
    let prefix: String
    /// List elements have no twin of their own: the list has.
    private let hasTwins: Bool
    private let node: SettingNode?
    private let entries: [String: SettingNode.Entry]
    private var order: [String] = []
    private var known: Set<String> = []

    init(_ node: SettingNode?, prefix: String, sources: Sources, hasTwins: Bool = true) throws(ConfigurationError) {
        self.node = node
        self.prefix = prefix
        self.sources = sources
        self.hasTwins = hasTwins
        var entries: [String: SettingNode.Entry] = [:]
        switch node?.content {
        case nil, .empty: break
        case .map(let list):
            for entry in list {
                entries[entry.key] = entry
                order.append(entry.key)
            }
        case .scalar, .list:
            let name = prefix.isEmpty ? "the configuration" : String(prefix.dropLast())
            throw .badValue(
                name, node?.origin ?? .builtIn, why: "it is not a map", next: "write it as key: value lines")
        }
        self.entries = entries
    }

    private func variable(_ key: String) -> String {
        "HOLDFAST_" + (prefix + key).uppercased().replacing(".", with: "__")
    }

    /// The value of `key` from the strongest source, or `nil`.
    func find(_ key: String, isList: Bool = false) throws(ConfigurationError) -> SettingNode? {
        known.insert(key)
        if hasTwins {
            let name = variable(key)
            sources.knownVariables.insert(name)
            if let given = sources.options[prefix + key] {
                return SettingNode(content: .scalar(given.text), origin: .option(given.option))
            }
            if let text = sources.environment[name] {
                guard isList else { return SettingNode(content: .scalar(text), origin: .environment(name)) }
                return try SettingNode.parse(Array(text.utf8)) { _ in .environment(name) }
            }
        }
        guard let entry = entries[key] else { return nil }
        if case .empty = entry.value.content { return nil }
        return SettingNode(content: entry.value.content, origin: entry.origin)
    }

    private func scalar(_ key: String) throws(ConfigurationError) -> (text: String, origin: Origin)? {
        guard let found = try find(key) else { return nil }
        guard case .scalar(let text) = found.content else {
            throw .badValue(prefix + key, found.origin, why: "it is not a single value", next: "write \(key): VALUE")
        }
        return (text, found.origin)
    }

    /// `true` when anything of this map was given.
    var isGiven: Bool {
        let twin = "HOLDFAST_" + prefix.uppercased().replacing(".", with: "__")
        return !entries.isEmpty || sources.options.keys.contains { $0.hasPrefix(prefix) }
            || (hasTwins && sources.environment.keys.contains { $0.hasPrefix(twin) })
    }

    func section(_ key: String) throws(ConfigurationError) -> SettingsReader {
        known.insert(key)
        return try SettingsReader(
            entries[key]?.value, prefix: prefix + key + ".", sources: sources, hasTwins: hasTwins)
    }

    func string(_ key: String) throws(ConfigurationError) -> String? {
        guard let (text, origin) = try scalar(key) else { return nil }
        guard !text.isEmpty, text.utf8.count <= 2048, !text.unicodeScalars.contains(where: { $0.value < 32 }) else {
            throw .badValue(
                prefix + key, origin, why: "it is empty, longer than 2048 bytes, or has control characters",
                next: "correct it")
        }
        return text
    }

    /// A value that `read` must accept; `expected` says how to write it.
    func value<T>(
        _ key: String, expected: String, _ read: (String) -> T?
    ) throws(ConfigurationError) -> T? {
        guard let (text, origin) = try scalar(key) else { return nil }
        guard let value = read(text) else { throw bad(key, origin, text, expected) }
        return value
    }

    /// As `value`, and where it was given.
    func located<T>(
        _ key: String, expected: String, _ read: (String) -> T?
    ) throws(ConfigurationError) -> (value: T, origin: Origin)? {
        guard let (text, origin) = try scalar(key) else { return nil }
        guard let value = read(text) else { throw bad(key, origin, text, expected) }
        return (value, origin)
    }

    private func bad(_ key: String, _ origin: Origin, _ text: String, _ expected: String) -> ConfigurationError {
        .badValue(prefix + key, origin, why: "\"\(printable(text))\" is not \(expected)", next: "correct it")
    }

    func integer(_ key: String, in range: ClosedRange<Int>) throws(ConfigurationError) -> Int? {
        try value(key, expected: "a number from \(range.lowerBound) to \(range.upperBound)") { text in
            Int(text).flatMap { range.contains($0) ? $0 : nil }
        }
    }

    func boolean(_ key: String) throws(ConfigurationError) -> Bool? {
        try value(key, expected: "true or false") { text in
            switch text.lowercased() {
            case "true", "on", "yes": true
            case "false", "off", "no": false
            default: nil
            }
        }
    }

    /// Bytes; `minimum` and `maximum` as they are written.
    func size(_ key: String, from minimum: String, to maximum: String) throws(ConfigurationError) -> Int? {
        let low = Quantities.bytes(minimum) ?? 0
        let high = Quantities.bytes(maximum) ?? Int.max
        return try value(key, expected: "a size from \(minimum) to \(maximum), with KiB, MiB, GiB or TiB") { text in
            Quantities.bytes(text).flatMap { $0 >= low && $0 <= high ? $0 : nil }
        }
    }

    /// Milliseconds.
    func duration(_ key: String, from minimum: String, to maximum: String) throws(ConfigurationError) -> Int? {
        let low = Quantities.milliseconds(minimum) ?? 0
        let high = Quantities.milliseconds(maximum) ?? Int.max
        return try value(key, expected: "a duration from \(minimum) to \(maximum), with ms, s, m, h or d") { text in
            Quantities.milliseconds(text).flatMap { $0 >= low && $0 <= high ? $0 : nil }
        }
    }

    func choice<T: RawRepresentable & CaseIterable>(
        _ key: String, _ type: T.Type
    ) throws(ConfigurationError) -> T? where T.RawValue == String {
        let names = T.allCases.map(\.rawValue)
        let expected = names.dropLast().joined(separator: ", ") + " or " + (names.last ?? "")
        return try value(key, expected: expected) { T(rawValue: $0) }
    }

    /// An absolute path; from an option or the environment a relative one counts from the working directory.
    func path(_ key: String) throws(ConfigurationError) -> String? {
        guard let (text, origin) = try scalar(key) else { return nil }
        guard !text.isEmpty, text.utf8.count < 4096, !text.unicodeScalars.contains(where: { $0.value < 32 }) else {
            throw .badValue(prefix + key, origin, why: "it is not a path", next: "correct it")
        }
        if text.hasPrefix("/") { return text }
        if case .file = origin {
            throw .badValue(
                prefix + key, origin, why: "\"\(printable(text))\" is not an absolute path",
                next: "begin it with a slash")
        }
        return WorkingDirectory.path + "/" + text
    }

    func address(_ key: String) throws(ConfigurationError) -> (address: WireAddress, origin: Origin)? {
        guard let (text, origin) = try scalar(key) else { return nil }
        do {
            return (try WireAddress(text), origin)
        } catch {
            throw .badValue(
                prefix + key, origin, why: error.diagnosis.why ?? "it is not an address",
                next: "give HOST:PORT or unix:PATH")
        }
    }

    /// A list of addresses, or a single one.
    func addresses(_ key: String) throws(ConfigurationError) -> [WireAddress] {
        guard let found = try find(key, isList: true) else { return [] }
        var elements = [found]
        if case .list(let list) = found.content { elements = list }
        var addresses: [WireAddress] = []
        for element in elements {
            guard case .scalar(let text) = element.content else {
                throw .badValue(
                    prefix + key, element.origin, why: "it is not a list of addresses",
                    next: "write [HOST:PORT, …]")
            }
            do {
                addresses.append(try WireAddress(text))
            } catch {
                throw .badValue(
                    prefix + key, element.origin, why: error.diagnosis.why ?? "it is not an address",
                    next: "give HOST:PORT or unix:PATH")
            }
        }
        return addresses
    }

    func name(_ key: String, of thing: String) throws(ConfigurationError) -> String? {
        guard let (text, origin) = try scalar(key) else { return nil }
        guard ObjectName.isValid(text) else {
            let refusal = ObjectName.refusal(text, of: thing)
            throw .badValue(prefix + key, origin, why: refusal.why ?? "", next: refusal.next ?? "")
        }
        return text
    }

    /// A list of maps, each read by `body`.
    func maps(
        _ key: String, _ body: (SettingsReader, Origin) throws(ConfigurationError) -> Void
    ) throws(ConfigurationError) {
        guard let found = try find(key, isList: true) else { return }
        guard case .list(let elements) = found.content, !elements.isEmpty else {
            throw .badValue(
                prefix + key, found.origin, why: "it is not a list", next: "write - before each element")
        }
        for (index, element) in elements.enumerated() {
            let reader = try SettingsReader(
                element, prefix: "\(prefix)\(key)[\(index)].", sources: sources, hasTwins: false)
            try body(reader, element.origin)
            try reader.finish()
        }
    }

    /// A key of the grammar that this release cannot do.
    func notSupported(_ keys: String...) throws(ConfigurationError) {
        for key in keys {
            known.insert(key)
            let twin = variable(key)
            if hasTwins {
                sources.knownVariables.insert(twin)
                if let name = sources.environment.keys.filter({ $0 == twin || $0.hasPrefix(twin + "__") }).min() {
                    throw .notSupported(prefix + key, .environment(name))
                }
            }
            if let entry = entries[key] { throw .notSupported(prefix + key, entry.origin) }
        }
    }

    /// Where `key` was written, for an error that concerns it.
    func origin(of key: String) -> Origin {
        if sources.environment[variable(key)] != nil { return .environment(variable(key)) }
        return entries[key]?.origin ?? node?.origin ?? .builtIn
    }

    /// To be called last: refuses what was given and never asked for.
    func finish() throws(ConfigurationError) {
        for key in order where !known.contains(key) {
            guard let entry = entries[key] else { continue }
            let nearest = Spelling.nearest(to: key, among: known).map { prefix + $0 }
            throw .unknownKey(prefix + key, entry.origin, suggestion: nearest)
        }
    }
}
