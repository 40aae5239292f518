import BenchmarkSupport
import HoldfastCore
import HoldfastEngine

final class HoldfastContender: Contender, @unchecked Sendable {
    // Sendable: `record` is used by one thread at a time, that which writes.
    let name = "holdfast"
    let settings: String
    let engine: Engine
    private let record = RecordBuffer()

    init(_ directory: String, cacheBytes: Int) throws {
        _ = try Engine.initialize(RealDisk(root: directory))
        engine = try Engine(opening: RealDisk(root: directory), options: EngineOptions(cacheBytes: cacheBytes))
        settings =
            "cache \(cacheBytes >> 20) MiB, checkpoint each 1 GiB of WAL or 300 s, full-page images, page checksums"
    }

    private func put(_ transaction: Transaction, _ workload: Workload, _ index: Int, version: UInt64 = 0) throws {
        record.fill(workload, index, version: version)
        _ = try transaction.put("0", UnsafeRawBufferPointer(record.key), UnsafeRawBufferPointer(record.value))
    }

    func load(_ workload: Workload, batch: Int) throws -> Double {
        Double(workload.records)
            / (try seconds {
                for start in stride(from: 0, to: workload.records, by: batch) {
                    try engine.write { transaction in
                        for index in start..<min(start + batch, workload.records) {
                            try put(transaction, workload, index)
                        }
                    }
                }
            })
    }

    func commits(_ workload: Workload, count: Int) throws -> Double {
        Double(count)
            / (try seconds { for index in 0..<count { try engine.write { try put($0, workload, index) } } })
    }

    /// Gives records of `indexes` another value each, in transactions of `batch`; returns bytes of WAL for each.
    func updateBytes(_ workload: Workload, _ indexes: [Int], batch: Int, version: UInt64) throws -> Double {
        let begin = engine.appendedLSN
        for start in stride(from: 0, to: indexes.count, by: batch) {
            try engine.write { transaction in
                for at in start..<min(start + batch, indexes.count) {
                    try put(transaction, workload, indexes[at], version: version)
                }
            }
        }
        return Double(engine.appendedLSN - begin) / Double(indexes.count)
    }

    func gets(_ workload: Workload, _ indexes: ArraySlice<Int>) throws -> Double {
        var found = 0
        let buffer = RecordBuffer()
        let time = try seconds {
            // A snapshot for each thousand, as a server's turn would have it.
            for start in stride(from: indexes.startIndex, to: indexes.endIndex, by: 1000) {
                try engine.read { snapshot in
                    guard let tree = try snapshot.tree("0") else { return }
                    for at in start..<min(start + 1000, indexes.endIndex) {
                        workload.key(indexes[at], into: buffer.key.baseAddress!)
                        try snapshot.get(tree, UnsafeRawBufferPointer(buffer.key)) { if $0 != nil { found += 1 } }
                    }
                }
            }
        }
        precondition(found == indexes.count, "\(indexes.count - found) records were not found")
        return Double(found) / time
    }

    func scan(_ workload: Workload) throws -> Double {
        try scan(workload) { key, value in key.count + value.count }
    }

    func scanCopies(_ workload: Workload) throws -> Double {
        try scan(workload) { key, value in Array(key).count + Array(value).count }
    }

    @inline(__always)
    private func scan(
        _ workload: Workload, _ length: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> Int
    ) throws -> Double {
        var count = 0
        var bytes = 0
        let time = try seconds {
            try engine.read { snapshot in
                try snapshot.scan("0") { key, value in
                    count += 1
                    bytes += length(key, value)
                    return true
                }
            }
        }
        precondition(count >= workload.records && bytes == count * (Workload.keyBytes + Workload.valueBytes))
        return Double(count) / time
    }

    func close() throws { try engine.close() }
}
