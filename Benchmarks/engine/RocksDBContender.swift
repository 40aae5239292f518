#if RocksDB
    import BenchmarkSupport
    import CRocksDB
    import Glibc

    /// RocksDB through its C API; every write waits for the log's `fdatasync`.
    final class RocksDBContender: Contender, @unchecked Sendable {
        // Sendable: `record` is used by one thread at a time, that which writes.
        let name = "RocksDB"
        let settings: String
        private let database: OpaquePointer
        private let writing: OpaquePointer
        private let reading: OpaquePointer
        private let record = RecordBuffer()

        struct Failure: Error { let text: String }

        private static func checked<R>(_ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> R) throws -> R {
            var message: UnsafeMutablePointer<CChar>?
            let result = body(&message)
            if let message {
                defer { rocksdb_free(message) }
                throw Failure(text: String(cString: message))
            }
            return result
        }

        init(_ directory: String, cacheBytes: Int) throws {
            let options = rocksdb_options_create()!
            rocksdb_options_set_create_if_missing(options, 1)
            rocksdb_options_set_compression(options, Int32(rocksdb_no_compression))
            let table = rocksdb_block_based_options_create()!
            rocksdb_block_based_options_set_block_cache(table, rocksdb_cache_create_lru(cacheBytes))
            rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom(10))
            rocksdb_options_set_block_based_table_factory(options, table)
            database = try Self.checked { rocksdb_open(options, directory + "/db", $0) }!
            writing = rocksdb_writeoptions_create()!
            rocksdb_writeoptions_set_sync(writing, 1)
            reading = rocksdb_readoptions_create()!
            settings =
                "sync=1, block cache \(cacheBytes >> 20) MiB, bloom filter of 10 bits, no compression, else defaults"
        }

        func load(_ workload: Workload, batch: Int) throws -> Double {
            let group = rocksdb_writebatch_create()!
            defer { rocksdb_writebatch_destroy(group) }
            return Double(workload.records)
                / (try seconds {
                    for start in stride(from: 0, to: workload.records, by: batch) {
                        rocksdb_writebatch_clear(group)
                        for index in start..<min(start + batch, workload.records) { put(group, workload, index) }
                        try Self.checked { rocksdb_write(database, writing, group, $0) }
                    }
                })
        }

        private func put(_ group: OpaquePointer, _ workload: Workload, _ index: Int) {
            record.fill(workload, index)
            rocksdb_writebatch_put(
                group, record.key.bindMemory(to: CChar.self).baseAddress, record.key.count,
                record.value.bindMemory(to: CChar.self).baseAddress, record.value.count)
        }

        func commits(_ workload: Workload, count: Int) throws -> Double {
            try load(Workload(records: count, seed: workload.seed, keys: workload.keys), batch: 1)
        }

        func gets(_ workload: Workload, _ indexes: ArraySlice<Int>) throws -> Double {
            let buffer = RecordBuffer()
            let characters = buffer.key.bindMemory(to: CChar.self).baseAddress
            var found = 0
            let time = try seconds {
                for index in indexes {
                    workload.key(index, into: buffer.key.baseAddress!)
                    let value = try Self.checked {
                        rocksdb_get_pinned(database, reading, characters, buffer.key.count, $0)
                    }
                    if value != nil { found += 1 }
                    rocksdb_pinnableslice_destroy(value)
                }
            }
            precondition(found == indexes.count)
            return Double(found) / time
        }

        func scan(_ workload: Workload) throws -> Double { scan(workload) { _, _ in } }

        func scanCopies(_ workload: Workload) throws -> Double {
            var bytes = 0
            return scan(workload) { key, value in bytes += Array(key).count + Array(value).count }
        }

        @inline(__always)
        private func scan(
            _ workload: Workload, _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> Void
        ) -> Double {
            var count = 0
            let time = seconds {
                let iterator = rocksdb_create_iterator(database, reading)
                defer { rocksdb_iter_destroy(iterator) }
                rocksdb_iter_seek_to_first(iterator)
                var (keyBytes, valueBytes) = (0, 0)
                while rocksdb_iter_valid(iterator) != 0 {
                    let key = rocksdb_iter_key(iterator, &keyBytes), value = rocksdb_iter_value(iterator, &valueBytes)
                    body(
                        UnsafeRawBufferPointer(start: key, count: keyBytes),
                        UnsafeRawBufferPointer(start: value, count: valueBytes))
                    count += 1
                    rocksdb_iter_next(iterator)
                }
            }
            precondition(count >= workload.records)
            return Double(count) / time
        }

        func close() throws { rocksdb_close(database) }
    }
#endif
