// The embedded engine against LMDB through its C API, and against the bare disk, in turn in one run.
// LMDB needs liblmdb-dev and the package trait:
//
//     swift run -c release -Xswiftc -enforce-exclusivity=unchecked --traits LMDB bench-engine [records] [rounds] [commits]

import BenchmarkSupport
import Foundation
import HoldfastTestSupport

let records = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 2_000_000
let rounds = CommandLine.arguments.dropFirst(2).first.flatMap { Int($0) } ?? 3
let reads = 1_000_000
let commitCount = CommandLine.arguments.dropFirst(3).first.flatMap { Int($0) } ?? 3000

/// Operations a second by work and store, in the order of the rounds.
var results: [String: [String: [Double]]] = [:]
@MainActor func note(_ work: String, _ name: String, _ rate: Double) {
    results[work, default: [:]][name, default: []].append(rate)
    print(String(format: "  %-36@ %-10@ %12.0f/s", work as NSString, name as NSString, rate))
    fflush(nil)
}

let works = [
    "random load, 1,000 a transaction", "one durable commit at a time", "random gets, cached", "full scan, cached",
]

for round in 1...rounds {
    print("round \(round): \(records) records of 16 + 100 bytes")
    let workload = Workload(records: records, seed: UInt64(round))
    var makers: [(String) throws -> any Contender] = [{ try HoldfastContender($0, cacheBytes: 2 << 30) }]
    #if LMDB
        makers.append { try LMDBContender($0) }
    #endif
    let bare = try TemporaryDirectory("bench-bare")
    let disk = try BareDisk(bare.path)
    for make in makers {
        let directory = try TemporaryDirectory("bench-engine")
        let store = try make(directory.path)
        note(works[0], store.name, try store.load(workload, batch: 1000))
        let indexes = workload.indexes(reads)
        note(works[2], store.name, try store.gets(workload, indexes))
        note(works[3], store.name, try store.scan(workload))
        let fresh = Workload(records: commitCount, seed: UInt64(round) &+ 1_000_000)
        // In batches beside the bare disk, so that both meet the same moment of it.
        for _ in 0..<3 {
            note(works[1], store.name, try store.commits(fresh, count: commitCount / 3))
            note(works[1], "bare disk", try disk.writes(commitCount / 3))
        }
        try store.close()
    }
}

print("\nmedians")
for work in works {
    guard let rates = results[work], let ours = rates["holdfast"].map(median) else { continue }
    for (peer, values) in rates.sorted(by: { $0.key < $1.key }) where peer != "holdfast" {
        print(
            String(
                format: "%-36@ holdfast %12.0f/s   %-10@ %12.0f/s   ratio %.2f", work as NSString, ours,
                peer as NSString,
                median(values), ours / median(values)))
    }
    if rates.count == 1 { print(String(format: "%-36@ holdfast %12.0f/s", work as NSString, ours)) }
}
