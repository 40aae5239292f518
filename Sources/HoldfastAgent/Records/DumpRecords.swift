import Glibc
import HoldfastCore
import HoldfastEngine
import HoldfastWire

/// `holdfast dump`: the records of one tree as sorted lines.
package enum DumpRecords {
    /// From a data directory that no server uses: one moment, the end of its log.
    package static func run(directory: String, tree: Int, to output: RecordOutput) throws {
        let engine = try OfflineEngine.open(directory)
        let result = Result {
            try engine.read { snapshot in
                try snapshot.scan(treeName(tree), from: nil, to: nil, reverse: false) { key, value in
                    try output.write(key: key, value: value)
                }
            }
            try output.flush()
        }
        try engine.close()
        try result.get()
    }

    /// From a running server, in steps: while others write, each step is of its own moment.
    package static func run(connect server: WireServer, tree: Int, to output: RecordOutput) throws {
        let client = try WireClient(to: server)
        defer { client.close() }
        try client.call("SELECT", treeName(tree))
        var start: [UInt8] = []
        var limit = 256
        while true {
            let request = [Array("RANGE".utf8), start, [], Array("LIMIT".utf8), Array(String(limit).utf8)]
            client.send(request)
            let reply = try client.receive()
            if case .error(let error) = reply {
                guard limit > 1 else { throw WireError.refused(command: "RANGE", error: error) }
                // Many large values do not fit one reply.
                limit = Swift.max(1, limit / 16)
                continue
            }
            guard let values = reply.elements, values.count.isMultiple(of: 2) else {
                throw WireError.unexpectedReply(command: "RANGE", "it is no list of records")
            }
            var bytes = 0
            for index in stride(from: 0, to: values.count, by: 2) {
                guard let key = values[index].bytes, let value = values[index + 1].bytes else {
                    throw WireError.unexpectedReply(command: "RANGE", "a record is not bytes")
                }
                bytes += key.count + value.count
                let isRead = try key.withUnsafeBytes { key in
                    try value.withUnsafeBytes { try output.write(key: key, value: $0) }
                }
                guard isRead else { return }
                if index == values.count - 2 { start = key + [0] }
            }
            guard values.count / 2 == limit else { break }
            // Replies of about a MiB: few round trips, little memory.
            limit = Swift.min(Swift.max(limit * (1 << 20) / Swift.max(bytes, 1), 1), 4096)
        }
        try output.flush()
    }

    static func treeName(_ tree: Int) throws(RecordError) -> String {
        guard (0...15).contains(tree) else { throw .badTree(tree) }
        return String(tree)
    }
}

/// A data directory opened without a server: locked, recovered, nothing in the background.
enum OfflineEngine {
    static func open(_ directory: String) throws -> Engine {
        var options = EngineOptions(cacheBytes: 128 << 20)
        options.runsBackgroundWork = false
        let disk = try RealDisk(root: WorkingDirectory.absolute(directory))
        // As it was recorded: segments that wait for the archive keep waiting.
        options.archiving = try DataDirectory.control(disk).isArchiving
        return try Engine(opening: disk, options: options)
    }
}
