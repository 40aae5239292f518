import HoldfastWire

/// The settings that `CONFIG` knows by name, in the notation of the configuration file.
enum SettingNames {
    /// Ours, and those of Redis that clients and `redis-benchmark` ask for.
    static func all(_ settings: RuntimeSettings, _ report: ServerReport) -> [(name: String, value: String)] {
        [
            ("checkpoint.wal", "\(settings.checkpointBytes)"),
            ("checkpoint.every", "\(Int(settings.checkpointSeconds))s"),
            ("archive.timeout", settings.archiveTimeoutSeconds.map { "\(Int($0))s" } ?? "none"),
            ("log.level", settings.logLevel),
            ("synchronous.min_followers", "\(settings.synchronous.minimumFollowers)"),
            ("synchronous.level", settings.synchronous.level.rawValue),
            ("synchronous.timeout", "\(Int((settings.synchronous.timeoutSeconds * 1000).rounded()))ms"),
            ("synchronous.on_timeout", settings.synchronous.onTimeout.rawValue),
            ("appendfsync", "always"), ("appendonly", "yes"), ("save", ""), ("databases", "16"),
            ("maxclients", "\(report.maximumClients)"), ("maxmemory", "0"), ("maxmemory-policy", "noeviction"),
            ("port", "\(report.statistics.port)"), ("proto-max-bulk-len", "\(64 << 20)"), ("timeout", "0"),
            ("unixsocket", report.statistics.socket ?? ""),
        ]
    }

    static func set(_ name: String, _ value: String, in settings: inout RuntimeSettings) throws(ServerError) {
        switch name {
        case "checkpoint.wal":
            guard let bytes = bytes(value), bytes >= 32 << 20 else {
                throw .badSetting(name, "it is a size of at least 32MiB, such as 1GiB")
            }
            settings.checkpointBytes = bytes
        case "checkpoint.every":
            guard let seconds = seconds(value), seconds >= 1 else {
                throw .badSetting(name, "it is a duration of at least 1s, such as 5m")
            }
            settings.checkpointSeconds = seconds
        case "archive.timeout":
            if value.lowercased() == "none" {
                settings.archiveTimeoutSeconds = nil
                return
            }
            guard let seconds = seconds(value), seconds >= 1 else {
                throw .badSetting(name, "it is none, or a duration of at least 1s, such as 60s")
            }
            settings.archiveTimeoutSeconds = seconds
        case "log.level", "loglevel":
            let levels = ["trace", "debug", "info", "notice", "warning", "error", "critical"]
            guard levels.contains(value.lowercased()) else {
                throw .badSetting(name, "it is one of \(levels.joined(separator: ", "))")
            }
            settings.logLevel = value.lowercased()
        case "synchronous.min_followers":
            guard let count = Int(value), SynchronousSettings.followers.contains(count) else {
                throw .badSetting(name, "it is a number from 0 to 100")
            }
            settings.synchronous.minimumFollowers = count
        case "synchronous.level":
            guard let level = SynchronousSettings.Level(rawValue: value.lowercased()) else {
                throw .badSetting(name, "it is flushed or applied")
            }
            settings.synchronous.level = level
        case "synchronous.timeout":
            guard let seconds = seconds(value), (0.001...86400).contains(seconds) else {
                throw .badSetting(name, "it is a duration from 1ms to 1d, such as 5s")
            }
            settings.synchronous.timeoutSeconds = seconds
        case "synchronous.on_timeout":
            guard let choice = SynchronousSettings.OnTimeout(rawValue: value.lowercased()) else {
                throw .badSetting(name, "it is degrade or refuse")
            }
            settings.synchronous.onTimeout = choice
        default: throw .badSetting(name, "it is unknown, or cannot be changed while the server runs")
        }
    }

    /// `64MiB`, `1GiB`; a bare number is bytes.
    static func bytes(_ text: String) -> Int? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let factors = ["": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40]
        guard let number = Int(digits), let factor = factors[text.dropFirst(digits.count).lowercased()] else {
            return nil
        }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: factor)
        return overflow ? nil : bytes
    }

    /// `500ms`, `60s`, `5m`, `2h`, `1d`; a bare number is seconds.
    static func seconds(_ text: String) -> Double? {
        let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        guard let number = Double(digits) else { return nil }
        let unit = text.dropFirst(digits.count).filter { $0 != " " }.lowercased()
        let factors = ["": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400] as [String: Double]
        guard let factor = factors[unit], number >= 0, number * factor <= 1e9 else { return nil }
        return number * factor
    }
}
