import Foundation
import HoldfastCore
import HoldfastWire

extension ConfigurationGrammar {
    static func failover(_ reader: SettingsReader) throws(ConfigurationError) -> FailoverSettings? {
        let isGiven = reader.isGiven
        var failover = FailoverSettings(etcd: try reader.texts("etcd", expected: "[https://HOST:PORT, …]"))
        for url in failover.etcd where !isEndpoint(url) {
            throw .badValue(
                "failover.etcd", reader.origin(of: "etcd"),
                why: "\"\(printable(url))\" is no URL of an etcd member",
                next: "give https://HOST:PORT or http://HOST:PORT, without a path")
        }
        // etcd makes a lease of less than 2 s longer by itself; a deadline of seconds bounds a request well below it.
        failover.ttl = try reader.duration("ttl", from: "2s", to: "1h") ?? failover.ttl
        let lag = try reader.value("max_lag", expected: "a size, or none") { text -> Int? in
            text == "none" ? -1 : Quantities.bytes(text)
        }
        if let lag { failover.maximumLag = lag < 0 ? nil : lag }
        failover.authorities = try reader.path("ca_file")
        failover.certificate = try reader.path("cert_file")
        failover.key = try reader.path("key_file")
        failover.user = try reader.name("user", of: "user")
        failover.passwordFile = try reader.path("password_file")
        failover.node = try reader.name("node", of: "node")
        failover.address = try reader.address("address")?.address
        try reader.finish()
        guard isGiven else { return nil }
        guard !failover.etcd.isEmpty else {
            throw .badValue(
                "failover", reader.origin(of: "etcd"), why: "it names no member of etcd",
                next: "give etcd: [https://HOST:PORT, …]")
        }
        try checkAccess(failover, reader)
        return failover
    }

    private static func isEndpoint(_ text: String) -> Bool {
        guard let url = URLComponents(string: text), let host = url.host, !host.isEmpty, url.port != nil else {
            return false
        }
        return ["http", "https"].contains(url.scheme) && (url.path.isEmpty || url.path == "/") && url.query == nil
            && url.user == nil
    }

    private static func checkAccess(
        _ failover: FailoverSettings, _ reader: SettingsReader
    ) throws(ConfigurationError) {
        func refuse(_ key: String, _ why: String, _ next: String) -> ConfigurationError {
            .badValue("failover.\(key)", reader.origin(of: key), why: why, next: next)
        }
        guard (failover.certificate == nil) == (failover.key == nil) else {
            throw refuse(
                failover.key == nil ? "cert_file" : "key_file", "a certificate and its key go together",
                "give cert_file and key_file")
        }
        guard (failover.user == nil) == (failover.passwordFile == nil) else {
            throw refuse(
                failover.user == nil ? "password_file" : "user", "a user and a password go together",
                "give user and password_file")
        }
        let plain = failover.etcd.filter { !$0.hasPrefix("https:") }
        if plain.count == failover.etcd.count, failover.authorities != nil || failover.certificate != nil {
            throw refuse(
                failover.authorities == nil ? "cert_file" : "ca_file", "no member of etcd is reached over TLS",
                "give etcd: [https://HOST:PORT, …]")
        }
        if failover.user != nil, let open = plain.first(where: { !isLoopback($0) }) {
            throw refuse("user", "the password would go to \(printable(open)) in clear text", "give https://HOST:PORT")
        }
    }

    private static func isLoopback(_ url: String) -> Bool {
        let host = URLComponents(string: url)?.host ?? ""
        return host == "localhost" || host == "[::1]" || host == "::1" || host.hasPrefix("127.")
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
