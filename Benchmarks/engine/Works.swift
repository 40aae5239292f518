import BenchmarkSupport
import Foundation
import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport

/// What is measured with every store.
struct StoreWorks {
    let records: Int
    let round: UInt64
    let reads = 1_000_000
    let commitBatches = 9, commitsInBatch = 1000
    let note: (_ work: String, _ name: String, _ rate: Double) -> Void

    func run(_ make: (String) throws -> any Contender) throws {
        try random(make)
        try other(make, .ordered, "ordered load, 1,000 a transaction")
        try other(make, .prefixed, "random load, keys of one prefix") { store, workload in
            note("random gets, keys of one prefix", store.name, try store.gets(workload, workload.indexes(reads)[...]))
        }
    }

    private func random(_ make: (String) throws -> any Contender) throws {
        let directory = try TemporaryDirectory("bench-engine")
        let workload = Workload(records: records, seed: round)
        let store = try make(directory.path)
        note("random load, 1,000 a transaction", store.name, try store.load(workload, batch: 1000))
        let indexes = workload.indexes(reads)
        note("random gets", store.name, try store.gets(workload, indexes[...]))
        note("random gets, two threads", store.name, try onTwoThreads(store, workload, indexes))
        note("full scan, borrowed", store.name, try store.scan(workload))
        note("full scan, copies", store.name, try store.scanCopies(workload))
        // In batches beside the bare disk, so that both meet the same moment of it.
        let disk = try BareDisk(directory.path)
        for batch in 0..<commitBatches {
            let part = Workload(records: commitsInBatch, seed: round &+ 1_000_000 &+ UInt64(batch))
            note("one durable commit at a time", store.name, try store.commits(part, count: part.records))
            let bare = try disk.writes(part.records)
            if store.name == "holdfast" { note("one durable commit at a time", "bare disk beside it", bare) }
        }
        if let ours = store as? HoldfastContender {
            // Twice: the first writes the pages' images, if a checkpoint came before.
            let some = Array(indexes.prefix(100_000))
            _ = try ours.updateBytes(workload, some, batch: 1000, version: 1)
            note(
                "bytes of WAL, update, 1,000 a transaction", ours.name,
                try ours.updateBytes(workload, some, batch: 1000, version: 2))
            note(
                "bytes of WAL, update, 1 a transaction", ours.name,
                try ours.updateBytes(workload, Array(some.prefix(2000)), batch: 1, version: 3))
        }
        try store.close()
    }

    /// Both halves at once; records a second of both together.
    private func onTwoThreads(_ store: any Contender, _ workload: Workload, _ indexes: [Int]) throws -> Double {
        let time = seconds {
            DispatchQueue.concurrentPerform(iterations: 2) { half in
                let part = indexes.count / 2
                _ = try! store.gets(workload, indexes[half * part..<(half + 1) * part])
            }
        }
        return Double(indexes.count / 2 * 2) / time
    }

    private func other(
        _ make: (String) throws -> any Contender, _ keys: Workload.Keys, _ title: String,
        _ more: (any Contender, Workload) throws -> Void = { _, _ in }
    ) throws {
        let directory = try TemporaryDirectory("bench-engine")
        let store = try make(directory.path)
        let workload = Workload(records: records, seed: round, keys: keys)
        note(title, store.name, try store.load(workload, batch: 1000))
        try more(store, workload)
        try store.close()
    }
}

/// What is measured of Holdfast alone.
struct OwnWorks {
    let records: Int
    let note: (_ work: String, _ rate: Double, _ unit: String) -> Void

    func run() throws {
        try checkpointLatency()
        try recovery()
        try largeStart()
    }

    /// Commit latency of one writer, with and without a checkpoint beside it.
    private func checkpointLatency() throws {
        let directory = try TemporaryDirectory("bench-engine")
        let store = try HoldfastContender(directory.path, cacheBytes: 2 << 30)
        let workload = Workload(records: records, seed: 1)
        _ = try store.load(workload, batch: 1000)
        try store.engine.checkpoint()
        let record = RecordBuffer()
        let indexes = workload.indexes(400_000)
        var at = 0
        func commit() throws -> Double {
            at += 1
            return try seconds {
                try store.engine.write { transaction in
                    record.fill(workload, indexes[at % indexes.count], version: 1)
                    _ = try transaction.put(
                        "0", UnsafeRawBufferPointer(record.key), UnsafeRawBufferPointer(record.value))
                }
            } * 1e6
        }
        // Pages to write: as many as a checkpoint meets after a while of work.
        for _ in 0..<20_000 { _ = try commit() }
        let quiet = try (0..<20_000).map { _ in try commit() }
        var asked: [Double] = []
        while asked.count < 10_000 {
            let running = DispatchSemaphore(value: 0)
            DispatchQueue.global().async {
                try! store.engine.checkpoint()
                running.signal()
            }
            while running.wait(timeout: .now()) == .timedOut { asked.append(try commit()) }
            for _ in 0..<5000 { _ = try commit() }
        }
        // One that its time has come for, over half of 20 s.
        store.engine.setCheckpoints(walBytes: 8 << 30, seconds: 20)
        var due: [Double] = []
        while due.count < 60_000 {
            let time = try commit()
            if store.engine.status.isCheckpointing { due.append(time) }
        }
        for (name, values) in [("quiet", quiet), ("beside CHECKPOINT", asked), ("beside a due checkpoint", due)] {
            note("commit latency p50, \(name)", percentile(values, 0.5), " us")
            note("commit latency p99, \(name)", percentile(values, 0.99), " us")
            note("commit latency p99.9, \(name)", percentile(values, 0.999), " us")
        }
        try store.close()
    }

    private func percentile(_ values: [Double], _ part: Double) -> Double {
        values.sorted()[Int(Double(values.count - 1) * part)]
    }

    /// A crash with 1 GiB of WAL behind the last checkpoint.
    private func recovery() throws {
        let directory = try TemporaryDirectory("bench-engine")
        _ = try Engine.initialize(RealDisk(root: directory.path))
        let options = EngineOptions(cacheBytes: 2 << 30, checkpointWALBytes: 8 << 30, checkpointSeconds: 86_400)
        var engine = try Engine(opening: RealDisk(root: directory.path), options: options)
        let workload = Workload(records: records, seed: 1)
        let record = RecordBuffer()
        var at = 0, version: UInt64 = 0
        func write(until end: LSN) throws {
            while engine.appendedLSN < end {
                try engine.write { transaction in
                    for _ in 0..<1000 {
                        record.fill(workload, at % records, version: version)
                        _ = try transaction.put(
                            "0", UnsafeRawBufferPointer(record.key), UnsafeRawBufferPointer(record.value))
                        at += 1
                        if at % records == 0 { version += 1 }
                    }
                }
            }
        }
        // Loaded and checkpointed; then the images, and then 1 GiB of changes.
        while at < records { try write(until: engine.appendedLSN + (1 << 20)) }
        try engine.checkpoint()
        let begin = engine.appendedLSN
        try write(until: begin + (1 << 30))
        let bytes = Double(engine.appendedLSN - begin)
        engine.abandon()
        let time = try seconds { engine = try Engine(opening: RealDisk(root: directory.path), options: options) }
        note("recovery of 1 GiB of WAL after a crash", time, " s")
        note("the same", bytes / time / 1e6, " MB/s of WAL")
        engine.abandon()
    }

    /// A start after an orderly stop with 100 GB of pages, most of which the file system has no space for.
    private func largeStart() throws {
        let directory = try TemporaryDirectory("bench-engine")
        let store = try HoldfastContender(directory.path, cacheBytes: 256 << 20)
        _ = try store.load(Workload(records: 100_000, seed: 1), batch: 1000)
        try store.close()
        for file in 0..<93 {
            let path = directory.path + "/pages/" + String(format: "%08d", file)
            if file > 0 { FileManager.default.createFile(atPath: path, contents: nil) }
            guard truncate(path, 1 << 30) == 0 else { throw CocoaError(.fileWriteUnknown) }
        }
        sync()
        var engine: Engine?
        let time = try seconds { engine = try Engine(opening: RealDisk(root: directory.path)) }
        note("start with 100 GB of pages", time * 1000, " ms")
        try engine?.close()
    }
}
