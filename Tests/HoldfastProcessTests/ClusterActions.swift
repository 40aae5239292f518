import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

/// What the tests of whole processes do again and again.
extension TestCluster {
    /// The environment that makes a command this cluster's.
    var environment: [String: String] { ["HOLDFAST_CONFIG": configuration] }

    func load(_ lines: String, tree: Int = 0) throws {
        try expect(["load", "--tree", String(tree)], input: Data(lines.utf8))
    }

    /// Loads `count` records of `bytes` that do not compress, from a seed; a backup of them takes a moment.
    func fill(_ count: Int, bytes: Int, seed: UInt64 = 1) throws {
        var random = SeededGenerator(seed: seed)
        var lines = ""
        for index in 0..<count {
            var value = ""
            while value.utf8.count < bytes { value += String(random.next(), radix: 36) }
            lines += "fill:\(String(format: "%06d", index))\t\(value)\n"
        }
        try load(lines)
    }

    /// A command that runs beside the test, stopped by its pid when it goes.
    func launch(
        _ arguments: [String], environment more: [String: String] = [:], input: Data = Data()
    ) throws -> RunningProcess {
        try RunningProcess(BuiltBinary.path, arguments, input: input, environment: environment.merging(more) { $1 })
    }

    private func info() throws -> [String: Any] {
        (try json(["info"])["clusters"] as? [[String: Any]])?.first ?? [:]
    }

    /// The backups that `info` calls usable, oldest first.
    func backups() throws -> [[String: Any]] {
        guard FileManager.default.fileExists(atPath: repository + "/main/cluster.json") else { return [] }
        return try info()["backups"] as? [[String: Any]] ?? []
    }

    func backupIDs() throws -> [String] { try backups().compactMap { $0["id"] as? String } }

    /// Names a moment, closes its segment and waits until it is in the archive. Returns the moment's LSN.
    @discardableResult
    func archivedPoint(_ name: String) throws -> LSN {
        guard let lsn = try field("lsn", of: ["restorepoint", name]).flatMap({ LSN($0) }) else {
            throw NeverHappened(what: "a restore point has an LSN", errors: name)
        }
        try expect(["wal", "switch"])
        try waitUntil("the WAL up to \(lsn) is archived", while: agent) {
            try LSN(field("archived_lsn", of: ["status"]) ?? "") ?? .zero >= lsn
        }
        return lsn
    }

    /// Restores into a new directory, makes it this cluster's and starts it. The old leader must be gone.
    func restoreAndStart(_ arguments: [String], serve: [String] = []) throws {
        let directory = root + "/restored-\(UUID().uuidString.prefix(8))"
        try expect(["restore", "--data", directory] + arguments)
        data = directory
        try writeConfiguration()
        try startLeader(serve)
    }

    /// Runs a command that must be refused with this status, these words and a way out, and leave everything below the
    /// cluster's root as it is; but for the agent's state, the locks of who looks, and what begins with one of `except`.
    func refused(
        _ arguments: [String], status: Int32, saying words: [String], except: [String] = [],
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        try unchanged("\(arguments)", except: except, sourceLocation: sourceLocation) {
            let result = try run(arguments)
            #expect(result.status == status, "\(arguments): \(result.errors)", sourceLocation: sourceLocation)
            for word in words {
                #expect(
                    result.errors.contains(word), "\(arguments) does not say \"\(word)\": \(result.errors)",
                    sourceLocation: sourceLocation)
            }
            #expect(result.errors.contains("hint:"), "no way out: \(result.errors)", sourceLocation: sourceLocation)
            #expect(result.output == "", "stdout holds nothing else", sourceLocation: sourceLocation)
        }
    }

    /// Runs `body`, which must leave every name and every byte below the cluster's root as it is, or below `path`.
    func unchanged<R>(
        _ what: String, below path: String? = nil, except: [String] = [],
        sourceLocation: SourceLocation = #_sourceLocation,
        _ body: () throws -> R
    ) rethrows -> R {
        let before = Self.fingerprint(path ?? root)
        let result = try body()
        let after = Self.fingerprint(path ?? root)
        let changed = Set(before.keys).union(after.keys).filter { name in
            !name.hasPrefix("state") && !name.contains("/locks") && !except.contains { name.hasPrefix($0) }
                && before[name] != after[name]
        }
        #expect(changed.isEmpty, "\(what) changed: \(changed.sorted())", sourceLocation: sourceLocation)
        return result
    }

    /// `INFO` as a Redis client reads it.
    func serverInfo() throws -> String {
        let connection = try RawConnection(unix: socket)
        connection.send("INFO\r\n")
        guard let line = try connection.line(), let count = Int(line.dropFirst()) else { return "" }
        return String(decoding: try connection.bytes(count), as: UTF8.self)
    }
}

/// How long a run of `body` takes, in microseconds: the span in which another run of it is killed.
func microseconds(_ body: () throws -> Void) rethrows -> UInt64 {
    let start = ContinuousClock.now
    try body()
    let elapsed = (ContinuousClock.now - start).components
    return UInt64(elapsed.seconds) * 1_000_000 + UInt64(elapsed.attoseconds / 1_000_000_000_000)
}
