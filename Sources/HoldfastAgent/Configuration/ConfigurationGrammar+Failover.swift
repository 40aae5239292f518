import Foundation
import HoldfastCore
import HoldfastWire

extension ConfigurationGrammar {
    static func failover(_ reader: SettingsReader) throws(ConfigurationError) -> FailoverSettings? {
        let isGiven = reader.isGiven
        var failover = FailoverSettings(etcd: try reader.texts("etcd", expected: "[http://HOST:PORT, …]"))
        for url in failover.etcd where !isEndpoint(url) {
            throw .badValue(
                "failover.etcd", reader.origin(of: "etcd"),
                why: "\"\(printable(url))\" is no URL of an etcd member that this release can use",
                next: "give http://HOST:PORT, without a path")
        }
        // etcd makes a lease of less than 2 s longer by itself; a deadline of seconds bounds a request well below it.
        failover.ttl = try reader.duration("ttl", from: "2s", to: "1h") ?? failover.ttl
        let lag = try reader.value("max_lag", expected: "a size, or none") { text -> Int? in
            text == "none" ? -1 : Quantities.bytes(text)
        }
        if let lag { failover.maximumLag = lag < 0 ? nil : lag }
        failover.node = try reader.name("node", of: "node")
        failover.address = try reader.address("address")?.address
        try reader.finish()
        guard isGiven else { return nil }
        guard !failover.etcd.isEmpty else {
            throw .badValue(
                "failover", reader.origin(of: "etcd"), why: "it names no member of etcd",
                next: "give etcd: [http://HOST:PORT, …]")
        }
        return failover
    }

    private static func isEndpoint(_ text: String) -> Bool {
        guard let url = URLComponents(string: text), let host = url.host, !host.isEmpty, url.port != nil else {
            return false
        }
        return url.scheme == "http" && (url.path.isEmpty || url.path == "/") && url.query == nil && url.user == nil
    }
}

extension SettingsReader {
    /// A list of texts, or a single one.
    func texts(_ key: String, expected: String) throws(ConfigurationError) -> [String] {
        guard let found = try find(key, isList: true) else { return [] }
        var elements = [found]
        if case .list(let list) = found.content { elements = list }
        var texts: [String] = []
        for element in elements {
            guard case .scalar(let text) = element.content else {
                throw .badValue(
                    prefix + key, element.origin, why: "it is not a list of texts", next: "write \(expected)")
            }
            texts.append(text)
        }
        return texts
    }
}
