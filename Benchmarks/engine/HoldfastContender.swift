import BenchmarkSupport
import HoldfastCore
import HoldfastEngine

final class HoldfastContender: Contender {
    let name = "holdfast"
    private let engine: Engine
    private let key = UnsafeMutableRawBufferPointer.allocate(byteCount: 16, alignment: 8)
    private let value = UnsafeMutableRawBufferPointer.allocate(byteCount: 100, alignment: 8)

    init(_ directory: String, cacheBytes: Int) throws {
        _ = try Engine.initialize(RealDisk(root: directory))
        engine = try Engine(opening: RealDisk(root: directory), options: EngineOptions(cacheBytes: cacheBytes))
    }

    deinit {
        key.deallocate()
        value.deallocate()
    }

    private func put(_ transaction: Transaction, _ workload: Workload, _ index: Int) throws {
        workload.key(index, into: key.baseAddress!)
        workload.value(index, into: value.baseAddress!)
        _ = try transaction.put("0", UnsafeRawBufferPointer(key), UnsafeRawBufferPointer(value))
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

    func gets(_ workload: Workload, _ indexes: [Int]) throws -> Double {
        var found = 0
        let time = try seconds {
            // A snapshot for each thousand, as a server's turn would have it.
            for start in stride(from: 0, to: indexes.count, by: 1000) {
                try engine.read { snapshot in
                    guard let tree = try snapshot.tree("0") else { return }
                    for at in start..<min(start + 1000, indexes.count) {
                        workload.key(indexes[at], into: key.baseAddress!)
                        try snapshot.get(tree, UnsafeRawBufferPointer(key)) { if $0 != nil { found += 1 } }
                    }
                }
            }
        }
        precondition(found == indexes.count, "\(indexes.count - found) records were not found")
        return Double(found) / time
    }

    func scan(_ workload: Workload) throws -> Double {
        var count = 0
        var bytes = 0
        let time = try seconds {
            try engine.read { snapshot in
                try snapshot.scan("0") { key, value in
                    count += 1
                    bytes += key.count + value.count
                    return true
                }
            }
        }
        precondition(count >= workload.records && bytes == count * 116)
        return Double(count) / time
    }

    func close() throws { try engine.close() }
}
