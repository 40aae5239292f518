// The embedded engine against LMDB and RocksDB through their C APIs, and against the bare disk, in turn in one run.
// They need liblmdb-dev and librocksdb-dev, and the package traits:
//
//     swift run -c release -Xswiftc -enforce-exclusivity=unchecked --traits LMDB,RocksDB bench-engine --help

import ArgumentParser
import BenchmarkSupport
import Foundation

struct EngineBenchmark: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench-engine", abstract: "Measures the embedded engine beside its peers.")

    @Option(help: "Records of 16 + 100 bytes.") var records = 2_000_000
    @Option(help: "Rounds, in each of which every store does everything.") var rounds = 5
    @Option(help: "MiB of Holdfast's cache, and of RocksDB's; 0: a tenth of the data.") var cache = 2048
    @Flag(help: "What is measured of Holdfast alone: latency beside a checkpoint, recovery, start.") var own = false
    @Flag(help: "Holdfast without its peers.") var alone = false

    func run() throws {
        var results = Results()
        // A tenth of the bytes of keys and values.
        let cacheBytes = cache > 0 ? cache << 20 : records * (Workload.keyBytes + Workload.valueBytes) / 10
        if own {
            try OwnWorks(records: records) { results.note($0, "holdfast", $1, unit: $2) }.run()
            return results.summarize()
        }
        var makers: [(String) throws -> any Contender] = [{ try HoldfastContender($0, cacheBytes: cacheBytes) }]
        if !alone {
            #if LMDB
                makers.append { try LMDBContender($0) }
            #endif
            #if RocksDB
                makers.append { try RocksDBContender($0, cacheBytes: cacheBytes) }
            #endif
        }
        var isTold = Set<String>()
        for round in 1...max(1, rounds) {
            print("round \(round): \(records) records of 16 + 100 bytes")
            let works = StoreWorks(records: records, round: UInt64(round)) { results.note($0, $1, $2) }
            for make in makers {
                try works.run { directory in
                    let store = try make(directory)
                    if isTold.insert(store.name).inserted { print("  \(store.name): \(store.settings)") }
                    return store
                }
            }
        }
        results.summarize()
        if alone {
            // The budgets of the engine's options: cache, versions, transaction.
            let budget = Double(cacheBytes >> 20) + 256 + 256
            print(String(format: "most memory held: %.0f MiB, of budgets of %.0f", peakMiB() ?? .nan, budget))
        }
    }
}

EngineBenchmark.main()
