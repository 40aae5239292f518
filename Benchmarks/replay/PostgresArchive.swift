import BenchmarkSupport
import Foundation
import HoldfastCore
import HoldfastTestSupport

/// A PostgreSQL 15 that is lost, its base backup and its log in a directory. A transaction of pgbench changes four
/// records: three updates and an insert.
final class PostgresArchive {
    static let settings = "scale 100, 8 clients, shared_buffers 2GB, max_wal_size 8GB, data checksums"

    private let directory: TemporaryDirectory
    private let head: String
    private let changes: Int

    init(seconds: Int) throws {
        let directory = try TemporaryDirectory("bench-replay-pg")
        head = """
            set -e
            R=\(directory.path); B=$(ls -d /usr/lib/postgresql/15/bin); chmod 755 $R
            if [ $(id -u) = 0 ]; then id postgres >/dev/null; chown postgres $R; run() { runuser -u postgres -- "$@"; }; else run() { "$@"; }; fi
            P=$((20000 + RANDOM % 9000)); export PGHOST=$R PGPORT=$P PGUSER=postgres; cd $R
            """
        let made = try shell(
            head + """

                run $B/initdb -k -D $R/data -A trust -U postgres >/dev/null; run mkdir $R/wal
                printf "unix_socket_directories='$R'\\nlisten_addresses=''\\nport=$P\\nshared_buffers=2GB\\nmax_wal_size=8GB\\narchive_mode=on\\narchive_command='cp %%p $R/wal/%%f'\\n" | run tee -a $R/data/postgresql.conf >/dev/null
                run $B/pg_ctl -D $R/data -l $R/log -w start >/dev/null
                run $B/createdb bench; run $B/pgbench -i -q -s 100 bench >/dev/null 2>&1
                run $B/pg_basebackup -D $R/base -Fp -c fast -X none >/dev/null 2>&1
                run $B/pgbench -n -c 8 -j 2 -T \(seconds) bench 2>/dev/null | grep -oE 'processed: [0-9]+'
                run $B/psql -qAtc 'select pg_switch_wal()' bench >/dev/null; sleep 3
                run $B/pg_ctl -D $R/data -m fast stop >/dev/null; rm -rf $R/data
                printf "archive_mode=off\\nrestore_command='cp $R/wal/%%f %%p'\\n" | run tee -a $R/base/postgresql.conf >/dev/null
                run touch $R/base/recovery.signal
                """)
        guard let transactions = Int(made.trimmingCharacters(in: .whitespacesAndNewlines).dropFirst(11)) else {
            throw CommandFailed(command: "pgbench", status: 1, errors: made)
        }
        changes = 4 * transactions
        self.directory = directory
    }

    func replay() throws -> Replayed {
        let lines = try shell(
            head + """

                rm -rf $R/copy; run cp -a $R/base $R/copy; sync
                printf "port=$P\\n" | run tee -a $R/copy/postgresql.conf >/dev/null
                run $B/pg_ctl -D $R/copy -l $R/copylog -w -t 600 start >/dev/null
                until grep -q 'redo done' $R/copylog; do sleep 0.1; done
                run $B/pg_ctl -D $R/copy -m immediate stop >/dev/null
                grep -hE 'redo (starts|done) at' $R/copylog; rm $R/copylog
                """
        ).split(separator: "\n")
        func lsn(_ line: Substring) -> LSN? {
            line.range(of: " at ").flatMap { LSN(line[$0.upperBound...].prefix { $0 != " " }) }
        }
        guard lines.count >= 2, let from = lsn(lines[0]), let to = lsn(lines[1]),
            let elapsed = lines[1].range(of: "elapsed: ").flatMap({
                Double(lines[1][$0.upperBound...].prefix { $0.isNumber || $0 == "." })
            })
        else { throw CommandFailed(command: "PostgreSQL replay", status: 1, errors: lines.joined(separator: "\n")) }
        return Replayed(bytes: to - from, changes: changes, seconds: elapsed)
    }
}
