// Replay of archived WAL after a restore, against PostgreSQL 15's in the same run: megabytes of WAL a second, for
// both as their logs say, from the first record to "redo done": fetched, decompressed and applied, before the pages
// are written. Needs PostgreSQL 15 and a user that it may run as.
//
//     swift run -c release -Xswiftc -enforce-exclusivity=unchecked bench-replay [megabytes of our WAL] [seconds of pgbench] [rounds]

import BenchmarkSupport
import Foundation
import HoldfastCore
import HoldfastTestSupport

let megabytes = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 512
let pgbenchSeconds = CommandLine.arguments.dropFirst(2).first.flatMap { Int($0) } ?? 30
let rounds = CommandLine.arguments.dropFirst(3).first.flatMap { Int($0) } ?? 5

func ours() throws -> Double {
    let cluster = try TestCluster(settings: "archive: {timeout: 5s}", cache: "1GiB")
    try cluster.startLeader()
    try cluster.startAgent()
    // Random updates of a part of 100-byte values: what pgbench does to its accounts.
    let value = "__rand_int__" + String(repeating: "x", count: 88)
    func update(_ count: Int) throws {
        try shell(
            "redis-benchmark -p \(cluster.port) -n \(count) -r 1000000 -c 50 -P 64 -q set key:__rand_int__ \(value) >/dev/null"
        )
    }
    try update(2_000_000)
    try cluster.expect(["backup"])
    func end() throws -> LSN { LSN(try cluster.field("lsn", of: ["status"]) ?? "") ?? .zero }
    let from = try end()
    while try end() - from < megabytes << 20 {
        try update(1_000_000)
    }
    let last = LSN(try cluster.field("lsn", of: ["wal", "switch"]) ?? "") ?? .zero
    try waitUntil("the WAL is archived", seconds: 300) {
        try LSN(cluster.field("archived_lsn", of: ["status"]) ?? "") ?? .zero >= last
    }
    _ = cluster.stopAgent()
    cluster.killLeader()
    cluster.data = cluster.root + "/restored"
    try cluster.writeConfiguration()
    let restored = try cluster.json([
        "restore", "--data", cluster.data, "--target-lsn", last.description, "--no-archive",
    ])
    let start = LSN(restored["start_lsn"] as? String ?? "") ?? .zero
    let leader = try cluster.launchLeader(["--no-archive"])
    let time = try seconds {
        // Its log, and not its socket, is what is looked at: a client started each moment would take a core from replay.
        try waitUntil("redo is done", seconds: 300, while: leader) { leader.errors.contains("redo done") }
        try waitUntil("the leader answers", seconds: 300, while: leader) { try cluster.run(["status"]).status == 0 }
    }
    guard let done = leader.errors.split(separator: "\n").first(where: { $0.contains("redo done") }),
        let field = done.range(of: #"milliseconds"?[=:]\s*"?"#, options: .regularExpression),
        let elapsed = Double(done[field.upperBound...].prefix(while: \.isNumber))
    else { throw CommandFailed(command: "serve", status: 1, errors: leader.errors) }
    cluster.killLeader()
    print(
        String(
            format: "  %.0f MB replayed in %.2f s, answering after %.2f s", Double(last - start) / 1e6, elapsed / 1000,
            time))
    return Double(last - start) / 1e6 / (elapsed / 1000)
}

func theirs() throws -> Double {
    let directory = try TemporaryDirectory("bench-replay-pg")
    let script = """
        set -e
        R=\(directory.path); B=$(ls -d /usr/lib/postgresql/15/bin); chmod 755 $R
        if [ $(id -u) = 0 ]; then id postgres >/dev/null; chown postgres $R; run() { runuser -u postgres -- "$@"; }; else run() { "$@"; }; fi
        P=$((20000 + RANDOM % 9000)); export PGHOST=$R PGPORT=$P PGUSER=postgres; cd $R
        run $B/initdb -D $R/data -A trust -U postgres >/dev/null; run mkdir $R/wal
        printf "unix_socket_directories='$R'\\nlisten_addresses=''\\nport=$P\\nshared_buffers=2GB\\nmax_wal_size=8GB\\narchive_mode=on\\narchive_command='cp %%p $R/wal/%%f'\\n" | run tee -a $R/data/postgresql.conf >/dev/null
        run $B/pg_ctl -D $R/data -l $R/log -w start >/dev/null
        run $B/createdb bench; run $B/pgbench -i -q -s 20 bench >/dev/null 2>&1
        run $B/pg_basebackup -D $R/copy -Fp -c fast -X none >/dev/null 2>&1
        run $B/pgbench -n -c 8 -j 2 -T \(pgbenchSeconds) bench >/dev/null 2>&1
        run $B/psql -qAtc 'select pg_switch_wal()' bench >/dev/null; sleep 3
        run $B/pg_ctl -D $R/data -m fast stop >/dev/null
        printf "archive_mode=off\\nrestore_command='cp $R/wal/%%f %%p'\\n" | run tee -a $R/copy/postgresql.conf >/dev/null
        run touch $R/copy/recovery.signal
        run $B/pg_ctl -D $R/copy -l $R/copylog -w -t 600 start >/dev/null
        until grep -q 'redo done' $R/copylog; do sleep 0.1; done
        run $B/pg_ctl -D $R/copy -m immediate stop >/dev/null
        grep -hE 'redo (starts|done) at' $R/copylog
        """
    let lines = try shell(script).split(separator: "\n")
    func lsn(_ line: Substring) -> LSN? {
        line.range(of: " at ").flatMap { LSN(line[$0.upperBound...].prefix { $0 != " " }) }
    }
    guard lines.count >= 2, let from = lsn(lines[0]), let to = lsn(lines[1]),
        let elapsed = lines[1].range(of: "elapsed: ").flatMap({
            Double(lines[1][$0.upperBound...].prefix { $0.isNumber || $0 == "." })
        })
    else { throw CommandFailed(command: "PostgreSQL replay", status: 1, errors: lines.joined(separator: "\n")) }
    return Double(to - from) / 1e6 / elapsed
}

var comparison = Comparison("WAL replay from the archive", unit: "MB/s", better: .higher, peer: "PostgreSQL 15")
try comparison.run(rounds: rounds, ours: ours, theirs: theirs)
comparison.print()
