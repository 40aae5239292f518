import Foundation
import HoldfastCore
import HoldfastServer
import HoldfastWire

/// The grammar of the configuration: each key, its kind, its bounds. DESIGN's section 9 is its manual.
enum ConfigurationGrammar {
    static func read(_ root: SettingsReader, state: String) throws(ConfigurationError) -> Configuration {
        var configuration = Configuration(state: state)
        configuration.cluster = try root.name("cluster", of: "cluster")
        configuration.data = try root.path("data")
        configuration.leader = try root.address("leader")?.address
        configuration.state = try root.path("state") ?? state
        configuration.logLevel = try root.choice("log", Configuration.LogLevel.self) ?? .info
        configuration.server = try server(root.section("server"))
        configuration.client = try client(root.section("client"))
        configuration.repositories = try repositories(root)
        configuration.catalog = try catalog(root.section("catalog"))
        configuration.archive = try archive(root.section("archive"))
        configuration.follow = try root.addresses("follow")
        configuration.schedule = try schedule(root.section("schedule"))
        configuration.synchronous = try synchronous(root.section("synchronous"))
        configuration.failover = try failover(root.section("failover"))
        try root.notSupported("http", "retention")
        try root.finish()
        return configuration
    }

    private static func server(_ reader: SettingsReader) throws(ConfigurationError) -> ServerSettings {
        var server = ServerSettings()
        server.listen = try reader.address("listen")?.address
        server.socket = try reader.path("socket")
        if let socket = server.socket, socket.utf8.count > 107 {
            throw .badValue(
                "server.socket", reader.origin(of: "socket"), why: "a socket's path has at most 107 bytes",
                next: "choose a shorter path")
        }
        server.cacheBytes = try reader.size("cache", from: "1MiB", to: "64TiB") ?? server.cacheBytes
        server.versionBytes = try reader.size("versions", from: "1MiB", to: "64TiB") ?? server.versionBytes
        server.transactionBytes = try reader.size("transaction", from: "1MiB", to: "64TiB") ?? server.transactionBytes
        let checkpoint = try reader.section("checkpoint")
        server.checkpointWALBytes =
            try checkpoint.size("wal", from: "32MiB", to: "64TiB") ?? server.checkpointWALBytes
        server.checkpointEvery = try checkpoint.duration("every", from: "1s", to: "30d") ?? server.checkpointEvery
        try checkpoint.finish()
        server.slotWALBytes = try reader.size("max_slot_wal", from: "64MiB", to: "64TiB") ?? server.slotWALBytes
        server.tls = try tls(reader.section("tls"))
        server.usersFile = try reader.path("users_file")
        server.requiresUser = try reader.boolean("require_user") ?? false
        try reader.finish()
        return server
    }

    private static func repositories(_ root: SettingsReader) throws(ConfigurationError) -> [RepositorySettings] {
        var all: [RepositorySettings] = []
        try root.maps("repositories") { (reader, origin) throws(ConfigurationError) in
            guard let name = try reader.name("name", of: "repository") else {
                throw .badValue("repositories", origin, why: "an element has no name", next: "give it name: NAME")
            }
            guard !all.contains(where: { $0.name == name }) else {
                throw .badValue("repositories", origin, why: "two are named \"\(name)\"", next: "rename one")
            }
            // Several, each with a queue of its own, are not in this release: one must not be ignored silently.
            guard all.isEmpty else { throw .notSupported("a second repository", origin) }
            all.append(try repository(reader, name: name, origin: origin))
        }
        let single = try root.section("repository")
        if single.isGiven {
            guard all.isEmpty else {
                throw .badValue(
                    "repository", root.origin(of: "repository"), why: "repositories: is given too",
                    next: "keep one of the two")
            }
            all = [try repository(single, name: "repository", origin: root.origin(of: "repository"))]
            try single.finish()
        } else {
            // Read all the same, so that the environment's names are known.
            _ = try? repository(single, name: "repository", origin: .builtIn)
        }
        return all
    }

    private static func repository(
        _ reader: SettingsReader, name: String, origin: ConfigurationError.Origin
    ) throws(ConfigurationError) -> RepositorySettings {
        let path = try reader.path("path")
        var repository = RepositorySettings(name: name, path: path ?? "")
        let compression = try reader.section("compression")
        repository.codec = try compression.choice("codec", RepositorySettings.Codec.self) ?? .zstd
        let levels =
            switch repository.codec {
            case .zstd: 1...19
            case .gzip: 0...9
            case .none: 0...19
            }
        repository.level = try compression.integer("level", in: levels) ?? 1
        repository.workers = try compression.integer("workers", in: 1...64) ?? 2
        try compression.finish()
        try reader.notSupported("s3", "encryption", "signing")
        guard path != nil else {
            // An unknown key explains better why the path is missing.
            try reader.finish()
            throw .badValue(
                name == "repository" ? "repository" : "repository \(name)", origin, why: "it has no path",
                next: "give path: DIR")
        }
        return repository
    }

    private static func catalog(_ reader: SettingsReader) throws(ConfigurationError) -> CatalogSection? {
        let given = reader.isGiven
        let uri = try reader.string("uri")
        let passwordFile = try reader.path("password_file")
        try reader.finish()
        guard given else { return nil }
        guard let uri else {
            throw .badValue(
                "catalog", reader.origin(of: "password_file"), why: "it has no uri",
                next: "give uri: \"postgresql://USER@HOST/DATABASE\"")
        }
        return CatalogSection(uri: uri, passwordFile: passwordFile)
    }

    private static func archive(_ reader: SettingsReader) throws(ConfigurationError) -> ArchiveSettings {
        var archive = ArchiveSettings()
        let timeout = try reader.value("timeout", expected: "a duration from 1s to 30d, or none") { text -> Int? in
            if text == "none" { return 0 }
            return Quantities.milliseconds(text).flatMap { (1000...2_592_000_000).contains($0) ? $0 : nil }
        }
        if let timeout { archive.timeout = timeout == 0 ? nil : timeout }
        archive.workers = try reader.integer("workers", in: 1...64) ?? archive.workers
        if let limit = try reader.located("queue_max", expected: "none, or a size", queueLimit), limit.value > 0 {
            throw .notSupported("archive.queue_max other than none", limit.origin)
        }
        if try reader.boolean("stream") == true {
            throw .notSupported("archive.stream", reader.origin(of: "stream"))
        }
        try reader.finish()
        return archive
    }

    private static func queueLimit(_ text: String) -> Int? { text == "none" ? 0 : Quantities.bytes(text) }

    private static func synchronous(_ reader: SettingsReader) throws(ConfigurationError) -> SynchronousSettings {
        var synchronous = SynchronousSettings()
        synchronous.minimumFollowers =
            try reader.integer("min_followers", in: SynchronousSettings.followers) ?? synchronous.minimumFollowers
        synchronous.level = try reader.choice("level", SynchronousSettings.Level.self) ?? synchronous.level
        if let milliseconds = try reader.duration("timeout", from: "1ms", to: "1d") {
            synchronous.timeoutSeconds = Double(milliseconds) / 1000
        }
        synchronous.onTimeout =
            try reader.choice("on_timeout", SynchronousSettings.OnTimeout.self) ?? synchronous.onTimeout
        try reader.finish()
        return synchronous
    }

    private static func schedule(_ reader: SettingsReader) throws(ConfigurationError) -> ScheduleSettings {
        var schedule = ScheduleSettings()
        schedule.timeZone = try reader.value("timezone", expected: "a time zone such as Europe/Berlin or UTC") { text in
            TimeZone(identifier: text) == nil ? nil : text
        }
        if let (text, origin) = try reader.located("full", expected: "a schedule", { $0 }) {
            do {
                schedule.full = try CronExpression(text)
            } catch {
                throw .badValue(
                    "schedule.full", origin, why: error.why,
                    next: "write minute hour day month weekday, as in \"0 2 * * *\"")
            }
        }
        try reader.notSupported("incr", "verify")
        try reader.finish()
        return schedule
    }
}
