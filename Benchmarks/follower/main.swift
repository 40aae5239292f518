// Followers beside PostgreSQL 18's standbys, in turn in one run: making one, catching up, steady lag, promotion, rewind;
// and automatic failover, for which PostgreSQL has no part of its own. Both hold the same records (the Debian package
// index over and over, in a tree and a table with the key as its primary key) and a second tree and table of small records
// that the load updates. Needs redis-benchmark, python3, for failover etcd, and for the peer a PostgreSQL 18, whose
// directory of programs HOLDFAST_BENCH_PG18 names; as root it is run by the user nobody.
//
//     swift build -c release -Xswiftc -enforce-exclusivity=unchecked
//     HOLDFAST_BENCH_PG18=DIR .build/release/bench-follower [--mb N] [--rounds N] [provision catchup lag promote …]
//
// Every server is this machine's, on unix sockets, so that a leader shares its cores with its followers and with the
// clients. Everything durable is synced as each side does by default. The system's cache is warm for both.

// `bench-follower soak-provision` measures nothing beside anybody: it proves that a follower is made whole though it is killed
// at random moments of every step, and shows what that does to the leader's writes.

if CommandLine.arguments.dropFirst().first == "soak-provision" {
    ProvisionSoak.main(Array(CommandLine.arguments.dropFirst(2)))
} else {
    FollowerBenchmark.main()
}
