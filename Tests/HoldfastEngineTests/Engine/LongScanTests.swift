import HoldfastCore
import HoldfastTestSupport
import Testing

@testable import HoldfastEngine

@Suite("Scans of more than memory holds")
struct LongScanTests {
    /// About 210 slots in all.
    private func engine(_ disk: SimulatedDisk) throws -> Engine {
        try Engine(
            opening: disk,
            options: EngineOptions(
                cacheBytes: 64 * Page.bytes, versionBytes: 16 * Page.bytes, transactionBytes: 64 * Page.bytes,
                runsBackgroundWork: false))
    }

    private func load(_ engine: Engine, records: Int, valueBytes: Int, batch: Int) throws {
        for start in stride(from: 0, to: records, by: batch) {
            try engine.write { transaction in
                for index in start..<min(start + batch, records) {
                    let value = [UInt8](repeating: UInt8(truncatingIfNeeded: index), count: valueBytes)
                    try transaction.put("t", bytes(String(100_000 + index)), value)
                }
            }
            try engine.checkpoint()
        }
    }

    @Test(
        "a scan lets go of the pages that it has passed: in leaves, in chains, both ways, of a snapshot and a transaction",
        arguments: [(records: 4000, valueBytes: 1000, batch: 100), (records: 60, valueBytes: 100_000, batch: 3)])
    func letsGo(_ shape: (records: Int, valueBytes: Int, batch: Int)) throws {
        let disk = SimulatedDisk(seed: 1)
        try Engine.initialize(disk)
        let engine = try engine(disk)
        defer { engine.abandon() }
        try load(engine, records: shape.records, valueBytes: shape.valueBytes, batch: shape.batch)
        for reverse in [false, true] {
            let expected = (0..<shape.records).map { reverse ? shape.records - 1 - $0 : $0 }
            var seen: [Int] = []
            func note(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool {
                let index = Int(String(decoding: key, as: UTF8.self))! - 100_000
                guard value.count == shape.valueBytes, value.allSatisfy({ $0 == UInt8(truncatingIfNeeded: index) })
                else { return false }
                seen.append(index)
                return true
            }
            try engine.read { try $0.scan("t", reverse: reverse) { note($0, $1) } }
            #expect(seen == expected)
            seen = []
            let transaction = try engine.beginTransaction()
            try transaction.scan("t", reverse: reverse) { note($0, $1) }
            transaction.rollback()
            #expect(seen == expected)
        }
    }

    @Test("keys that share long prefixes, and end anywhere, come back whole, whatever precedes them in the page")
    func keys() throws {
        let seed = SeededGenerator64.announced("scanned keys")
        var random = SeededGenerator64(seed: seed)
        let disk = SimulatedDisk(seed: seed)
        try Engine.initialize(disk)
        let engine = try Engine(opening: disk, options: quietOptions())
        defer { engine.abandon() }
        var model: [[UInt8]: [UInt8]] = [:]
        for _ in 0..<20 {
            try engine.write { transaction in
                for _ in 0..<100 {
                    let prefix = [UInt8](repeating: 0x61, count: [0, 3, 40, 900].randomElement(using: &random)!)
                    let key =
                        prefix
                        + (0..<Int.random(in: 0...40, using: &random)).map { _ in
                            UInt8.random(in: 0...3, using: &random)
                        }
                    let value = [UInt8](repeating: 1, count: Int.random(in: 0...20, using: &random))
                    model[key] = value
                    try transaction.put("t", key, value)
                }
            }
        }
        let sorted = model.keys.sorted { $0.lexicographicallyPrecedes($1) }
        for reverse in [false, true] {
            var seen: [[UInt8]] = []
            try engine.read {
                try $0.scan("t", reverse: reverse) { key, value in
                    seen.append(Array(key))
                    return model[Array(key)] == Array(value)
                }
            }
            #expect(seen == (reverse ? sorted.reversed() : sorted))
        }
    }
}
