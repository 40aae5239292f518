#if LMDB
    import BenchmarkSupport
    import CLMDB
    import Glibc

    /// LMDB through its C API, with its default durability: every commit ends in `fdatasync`.
    final class LMDBContender: Contender, @unchecked Sendable {
        // Sendable: `record` is used by one thread at a time, that which writes.
        let name = "LMDB"
        private var environment: OpaquePointer?
        private var database: MDB_dbi = 0
        private let record = RecordBuffer()

        let settings: String = {
            var (major, minor, patch) = (Int32(0), Int32(0), Int32(0))
            mdb_version(&major, &minor, &patch)
            return "\(major).\(minor).\(patch), map of 8 GiB, flags 0: every commit is synced"
        }()

        struct Failure: Error { let code: Int32 }

        private func check(_ code: Int32) throws { if code != 0 { throw Failure(code: code) } }

        init(_ directory: String) throws {
            try check(mdb_env_create(&environment))
            try check(mdb_env_set_mapsize(environment, 8 << 30))
            try check(mdb_env_open(environment, directory, 0, 0o600))
            var transaction: OpaquePointer?
            try check(mdb_txn_begin(environment, nil, 0, &transaction))
            try check(mdb_dbi_open(transaction, nil, 0, &database))
            try check(mdb_txn_commit(transaction))
        }

        private func write(_ body: (OpaquePointer?) throws -> Void) throws {
            var transaction: OpaquePointer?
            try check(mdb_txn_begin(environment, nil, 0, &transaction))
            try body(transaction)
            try check(mdb_txn_commit(transaction))
        }

        private func put(_ transaction: OpaquePointer?, _ workload: Workload, _ index: Int) throws {
            record.fill(workload, index)
            var k = MDB_val(mv_size: 16, mv_data: record.key.baseAddress)
            var v = MDB_val(mv_size: 100, mv_data: record.value.baseAddress)
            try check(mdb_put(transaction, database, &k, &v, 0))
        }

        func load(_ workload: Workload, batch: Int) throws -> Double {
            Double(workload.records)
                / (try seconds {
                    for start in stride(from: 0, to: workload.records, by: batch) {
                        try write { transaction in
                            for index in start..<min(start + batch, workload.records) {
                                try put(transaction, workload, index)
                            }
                        }
                    }
                })
        }

        func commits(_ workload: Workload, count: Int) throws -> Double {
            Double(count) / (try seconds { for index in 0..<count { try write { try put($0, workload, index) } } })
        }

        private func read(_ body: (OpaquePointer?) throws -> Void) throws {
            var transaction: OpaquePointer?
            try check(mdb_txn_begin(environment, nil, UInt32(MDB_RDONLY), &transaction))
            defer { mdb_txn_abort(transaction) }
            try body(transaction)
        }

        func gets(_ workload: Workload, _ indexes: ArraySlice<Int>) throws -> Double {
            let buffer = RecordBuffer()
            let time = try seconds {
                for start in stride(from: indexes.startIndex, to: indexes.endIndex, by: 1000) {
                    try read { transaction in
                        for at in start..<min(start + 1000, indexes.endIndex) {
                            workload.key(indexes[at], into: buffer.key.baseAddress!)
                            var k = MDB_val(mv_size: 16, mv_data: buffer.key.baseAddress)
                            var v = MDB_val()
                            try check(mdb_get(transaction, database, &k, &v))
                        }
                    }
                }
            }
            return Double(indexes.count) / time
        }

        func scan(_ workload: Workload) throws -> Double {
            try scan(workload) { _, _ in }
        }

        func scanCopies(_ workload: Workload) throws -> Double {
            var bytes = 0
            return try scan(workload) { key, value in
                let copy = (
                    Array(UnsafeRawBufferPointer(start: key.mv_data, count: key.mv_size)),
                    Array(UnsafeRawBufferPointer(start: value.mv_data, count: value.mv_size))
                )
                bytes += copy.0.count + copy.1.count
            }
        }

        @inline(__always)
        private func scan(_ workload: Workload, _ body: (MDB_val, MDB_val) -> Void) throws -> Double {
            var count = 0
            let time = try seconds {
                try read { transaction in
                    var cursor: OpaquePointer?
                    try check(mdb_cursor_open(transaction, database, &cursor))
                    defer { mdb_cursor_close(cursor) }
                    var k = MDB_val()
                    var v = MDB_val()
                    while mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0 {
                        count += k.mv_size == 16 ? 1 : 0
                        body(k, v)
                    }
                }
            }
            precondition(count >= workload.records)
            return Double(count) / time
        }

        func close() throws { mdb_env_close(environment) }
    }
#endif
