import Glibc
import HoldfastCore
import HoldfastEngine
import HoldfastWire

/// `holdfast load`: the inverse of `dump`. Each batch of lines is one durable transaction; what was there under other
/// keys stays.
package enum LoadRecords {
    /// Lines and bytes of a transaction.
    static let batchRecords = 1000
    static let batchBytes = 1 << 20

    /// Into a data directory that no server uses.
    package static func run(directory: String, tree: Int, from input: RecordInput) throws -> Report {
        let name = try DumpRecords.treeName(tree)
        let engine = try OfflineEngine.open(directory)
        let result = Result {
            try load(input) { batch in
                _ = try engine.write { transaction in
                    for (key, value) in batch {
                        _ = try key.withUnsafeBytes { key in
                            try value.withUnsafeBytes { try transaction.put(name, key, $0) }
                        }
                    }
                }
            }
        }
        try engine.close()
        return try result.get()
    }

    /// Into a running server.
    package static func run(connect server: WireServer, tree: Int, from input: RecordInput) throws -> Report {
        let client = try WireClient(to: server)
        defer { client.close() }
        try client.call("SELECT", DumpRecords.treeName(tree))
        return try load(input) { batch in
            var requests: [[[UInt8]]] = [[Array("MULTI".utf8)]]
            for (key, value) in batch { requests.append([Array("SET".utf8), key, value]) }
            requests.append([Array("EXEC".utf8)])
            for reply in try client.pipeline(requests) {
                // EXEC answers with a list, in which each SET answers for itself.
                let failure = reply.elements?.first { if case .error = $0 { true } else { false } } ?? reply
                if case .error(let error) = failure { throw WireError.refused(command: "SET", error: error) }
            }
        }
    }

    private static func load(
        _ input: RecordInput, _ store: ([(key: [UInt8], value: [UInt8])]) throws -> Void
    ) throws -> Report {
        var input = input
        var batch: [(key: [UInt8], value: [UInt8])] = []
        var batchBytes = 0
        var records = 0
        var bytes = 0
        func flush() throws {
            if batch.isEmpty { return }
            try store(batch)
            records += batch.count
            bytes += batchBytes
            batch.removeAll(keepingCapacity: true)
            batchBytes = 0
        }
        do {
            while let record = try input.next() {
                batch.append(record)
                batchBytes += record.key.count + record.value.count
                if batch.count == Self.batchRecords || batchBytes >= Self.batchBytes { try flush() }
            }
        } catch let error as RecordError {
            // The lines before a bad one are loaded, as its message says.
            try flush()
            throw error
        }
        try flush()
        return Report(
            text: "loaded \(records) records, \(Quantity.bytes(bytes))\n",
            json: ["records": JSONValue(records), "bytes": JSONValue(bytes)])
    }
}
