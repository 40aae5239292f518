// Replay of archived WAL after a restore, against PostgreSQL 15's in the same run. Each side makes its archive once: a
// base backup, then random updates of 100-byte records (ours with redis-benchmark, PostgreSQL's with pgbench at scale
// 100). Then each restores and replays it in turn. Both times are as the logs say, from the first record to "redo done":
// fetched, decompressed and applied, before the pages are written. Two rates are printed, since a log that says the
// same in fewer bytes has fewer megabytes to show for it: WAL, and record changes. Needs PostgreSQL 15 and a user that
// it may run as.
//
//     swift run -c release -Xswiftc -enforce-exclusivity=unchecked bench-replay [megabytes of our WAL] [seconds of pgbench] [rounds]

import BenchmarkSupport
import Foundation

let megabytes = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 512
let pgbenchSeconds = CommandLine.arguments.dropFirst(2).first.flatMap { Int($0) } ?? 60
let rounds = CommandLine.arguments.dropFirst(3).first.flatMap { Int($0) } ?? 5

/// One replay.
struct Replayed {
    var bytes: Int
    var changes: Int
    var seconds: Double

    func print(_ who: String) {
        let text = String(
            format: "  %@: %.0f MB, %.2f million changes in %.2f s", who, Double(bytes) / 1e6, Double(changes) / 1e6,
            seconds)
        Swift.print(text)
        fflush(nil)
    }
}

let ours = try OurArchive(megabytes: megabytes)
let theirs = try PostgresArchive(seconds: pgbenchSeconds)
print("PostgreSQL: \(PostgresArchive.settings)\nholdfast: cache 1GiB")
var wal = Comparison("WAL replay from the archive", unit: "MB/s", better: .higher, peer: "PostgreSQL 15")
var changes = Comparison("record changes replayed", unit: "k/s", better: .higher, peer: "PostgreSQL 15")
for _ in 0..<rounds {
    let our = try ours.replay(), their = try theirs.replay()
    our.print("holdfast")
    their.print("PostgreSQL")
    wal.ours.append(Double(our.bytes) / 1e6 / our.seconds)
    wal.theirs.append(Double(their.bytes) / 1e6 / their.seconds)
    changes.ours.append(Double(our.changes) / 1e3 / our.seconds)
    changes.theirs.append(Double(their.changes) / 1e3 / their.seconds)
}
wal.print()
changes.print()
