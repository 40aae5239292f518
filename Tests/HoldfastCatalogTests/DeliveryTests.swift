import Foundation
import HoldfastCore
import HoldfastTestSupport
import Synchronization
import Testing

@testable import HoldfastCatalog

@Suite("Each fact takes effect exactly once, whatever crashes and in whatever order")
struct DeliveryTests {
    @Test("a fact writes what the repository holds, and its event; the outbox is empty afterwards")
    func writes() throws {
        let fixture = try CatalogFixture()
        fixture.source.set("b1", .complete(1, 2))
        fixture.source.set(
            .first, TimelineRow(wal: (1...9).map { WALRange(segment: SegmentNumber($0), lastCommitAt: at(Int64($0))) }))
        try fixture.add(.backup, "b1")
        try fixture.add(.timeline, "00000001")
        let report = try fixture.flush()
        #expect(report.delivered == 2 && report.failures.isEmpty)
        #expect(try fixture.outbox.contents() == .init())
        let backup = try fixture.psql(
            "SELECT id, type, state, timeline, start_lsn, stop_lsn, wal_first, wal_last, pages, bytes, archive_bytes, "
                + "started_at AT TIME ZONE 'UTC' FROM holdfast.backup")
        #expect(
            backup == "b1|full|complete|1|0/1000028|0/2000FA0|000000010000000000000001|000000010000000000000002|17|"
                + "139264|5000|2026-11-24 00:00:01")
        #expect(try fixture.psql("SELECT path, bytes FROM holdfast.backup_archive") == "backups/x/base.tar.zst|5000")
        let ranges = try fixture.psql(
            "SELECT start_lsn, end_lsn, last_commit_at AT TIME ZONE 'UTC' FROM holdfast.wal_range")
        #expect(ranges == "0/1000000|0/A000000|2026-11-24 00:00:09")
        #expect(
            try fixture.psql("SELECT kind, object, found FROM holdfast.event ORDER BY 1")
                == "backup|b1|t\ntimeline|00000001|t")
    }

    @Test("a crash between any two steps, and any number of them, leaves one event and the right rows")
    func crashes() throws {
        for step in Delivery.Step.allCases {
            let fixture = try CatalogFixture()
            fixture.source.set("b1", .complete(1, 2))
            try fixture.add(.backup, "b1")
            for _ in 0..<2 {
                let report = try fixture.catalog.flush(fixture.outbox, from: fixture.source) { reached in
                    if reached == step { throw Crash() }
                }
                // `removed` is after the last step: the second time there is nothing left to crash at.
                if step != .removed { #expect(report.failures.count == 1, "\(step)") }
                let isDone = [.committed, .removed].contains(step)
                #expect(try fixture.psql("SELECT count(*) FROM holdfast.event") == (isDone ? "1" : "0"), "\(step)")
                #expect(try fixture.outbox.contents().facts == (step == .removed ? 0 : 1), "\(step)")
            }
            let last = try fixture.flush()
            #expect(last.delivered + last.alreadyThere == (step == .removed ? 0 : 1), "\(step)")
            #expect(try fixture.psql("SELECT count(*), min(object) FROM holdfast.event") == "1|b1", "\(step)")
            #expect(try fixture.psql("SELECT id, state FROM holdfast.backup") == "b1|complete", "\(step)")
            #expect(try fixture.outbox.contents().facts == 0, "\(step)")
        }
    }

    @Test("deliveries of one outbox and of several at once write each fact once")
    func concurrent() async throws {
        let fixture = try CatalogFixture()
        for number in 0..<30 {
            fixture.source.set("b\(number)", .complete(1, 2))
            try fixture.add(.backup, "b\(number)")
        }
        let catalog = fixture.catalog, outbox = fixture.outbox, source = fixture.source
        let delivered = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<6 {
                group.addTask { try await Catalog.onOwnThread { try catalog.flush(outbox, from: source).delivered } }
            }
            return try await group.reduce(0, +)
        }
        #expect(delivered == 30)
        #expect(try fixture.psql("SELECT count(*), count(DISTINCT fact) FROM holdfast.event") == "30|30")
        #expect(try fixture.outbox.contents().facts == 0)
    }

    private final class Late: Sendable {
        let result = Mutex<Result<Int, any Error>?>(nil)
    }

    @Test("the repository is read behind the cluster's lock, so that a late delivery cannot write what is old")
    func lockThenRead() throws {
        let fixture = try CatalogFixture()
        fixture.source.set("b1", BackupRow(state: .started, type: "full"))
        try fixture.add(.backup, "b1")
        // It is to wait for as long as this test takes, though hundreds of others run beside it.
        let catalog = CatalogFixture.catalog(fixture.server.socketURI(fixture.database), milliseconds: 600_000)
        let outbox = fixture.outbox, source = fixture.source
        // Another delivery holds the lock, and the repository changes before it lets go.
        let other = try CatalogConnection(CatalogSettings(uri: fixture.server.socketURI(fixture.database)))
        try other.run("begin")
        try other.run("lock_cluster", ["main"])
        // On a thread: a task would begin behind every test that waits for its turn.
        let late = Late()
        let isOver = DispatchSemaphore(value: 0)
        Thread.detachNewThread {
            let result = Result { try catalog.flush(outbox, from: source).delivered }
            late.result.withLock { $0 = result }
            isOver.signal()
        }
        let waits =
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = "
            + "(SELECT oid FROM pg_database WHERE datname = current_database())"
        var polls = 0
        while try fixture.psql(waits) != "1", polls < 5000 {
            polls += 1
            usleep(10_000)
        }
        #expect(polls < 5000)
        fixture.source.set("b1", .complete(1, 2))
        try other.run("commit")
        isOver.wait()
        #expect(try late.result.withLock { try $0?.get() } == 1)
        #expect(try fixture.psql("SELECT state FROM holdfast.backup") == "complete")
    }

    @Test("a crash between the change and its completion loses nothing: the announcement is delivered")
    func crashAfterChange() throws {
        let fixture = try CatalogFixture()
        var announcement: Outbox.Announcement? = try fixture.outbox.announce(
            Fact(kind: .backup, cluster: "main", object: "b1", occurredAt: at(1)))
        // Before the change the fact is not to be delivered.
        #expect(try fixture.flush().held == 1)
        #expect(announcement != nil)
        fixture.source.set("b1", .complete(1, 2))
        announcement = nil
        #expect(try fixture.flush().delivered == 1)
        #expect(try fixture.psql("SELECT state FROM holdfast.backup") == "complete")
    }

    @Test("what is gone from the repository goes from the catalog")
    func deletes() throws {
        let fixture = try CatalogFixture()
        fixture.source.set("b1", .complete(1, 2))
        fixture.source.set(.first, TimelineRow(wal: [WALRange(start: segment(1), end: segment(9))]))
        try fixture.add(.backup, "b1")
        try fixture.add(.timeline, "00000001")
        _ = try fixture.flush()
        fixture.source.set("b1", nil)
        fixture.source.set(
            .first,
            TimelineRow(wal: [
                WALRange(start: segment(4), end: segment(6)), WALRange(start: segment(7), end: segment(10)),
            ]))
        try fixture.add(.backup, "b1")
        try fixture.add(.timeline, "00000001")
        #expect(try fixture.flush().delivered == 2)
        #expect(try fixture.psql("SELECT count(*) FROM holdfast.backup") == "0")
        #expect(
            try fixture.psql("SELECT start_lsn, end_lsn FROM holdfast.wal_range ORDER BY 1")
                == "0/4000000|0/6000000\n0/7000000|0/A000000")
        #expect(try fixture.psql("SELECT found FROM holdfast.event WHERE kind = 'backup' ORDER BY id") == "t\nf")
    }

    @Test("PostgreSQL stopped in the middle: facts wait; started again: each is delivered once")
    func outage() throws {
        let server = try PostgresServer()
        defer { server.stop() }
        let fixture = try CatalogFixture(server: server)
        for number in 0..<6 {
            fixture.source.set("b\(number)", .complete(1, 2))
            try fixture.add(.backup, "b\(number)")
        }
        // It goes away while the third fact's transaction is open.
        let reads = Mutex(0)
        fixture.source.edit { state in
            state.beforeRead = {
                if reads.withLock({
                    $0 += 1; return $0
                }) == 6 {
                    server.stop()
                }
            }
        }
        let error = try catalogError { _ = try fixture.flush() }
        #expect(error.diagnosis.status == .unavailable)
        #expect(try fixture.outbox.contents().facts == 4)
        try fixture.add(.cluster, "main")
        #expect(try fixture.catalog.status(fixture.outbox).problem?.diagnosis.status == .unavailable)
        #expect(try catalogError { _ = try fixture.flush() }.diagnosis.status == .unavailable)
        try server.start()
        let report = try fixture.flush()
        #expect(report.delivered == 5 && report.failures.isEmpty)
        #expect(try fixture.psql("SELECT count(*), count(DISTINCT fact) FROM holdfast.event") == "7|7")
        #expect(try fixture.psql("SELECT count(*) FROM holdfast.backup") == "6")
    }

    @Test("a fact that is refused, or whose repository fails, stays and does not hold up the others")
    func refused() throws {
        let fixture = try CatalogFixture()
        fixture.source.edit { $0.clusters["other"] = ClusterRow(systemIdentifier: SystemIdentifier(rawValue: 5)) }
        var bad = BackupRow.complete(1, 2)
        bad.pages = -1
        fixture.source.set("bad", bad)
        fixture.source.set("good", .complete(1, 2))
        try fixture.add(.backup, "bad")
        try fixture.add(.backup, "good")
        let report = try fixture.flush()
        #expect(report.delivered == 1 && report.failures.map(\.error.diagnosis.status) == [.dataError])
        #expect(try fixture.psql("SELECT id FROM holdfast.backup") == "good")
        // Another cluster under a name that is taken.
        fixture.source.edit { $0.clusters["main"] = ClusterRow(systemIdentifier: SystemIdentifier(rawValue: 78)) }
        let other = try #require(try fixture.flush().failures.first)
        #expect(other.error == .otherCluster(name: "main", catalog: "77", repository: "78"))
        #expect(other.error.diagnosis.status == .dataError)
        fixture.source.edit { $0.beforeRead = { throw Crash() } }
        #expect(try fixture.flush().failures.map(\.error.diagnosis.status) == [.inputOutput])
        fixture.source.edit { state in
            state.beforeRead = nil
            state.clusters["main"] = ClusterRow(systemIdentifier: SystemIdentifier(rawValue: 77))
        }
        fixture.source.set("bad", .complete(1, 2))
        #expect(try fixture.flush().delivered == 1)
    }

    @Test("an outbox that overflowed has its cluster read whole at the next flush, and the flag goes")
    func reconcile() throws {
        let fixture = try CatalogFixture(maximumFacts: 2)
        fixture.source.set(.first, TimelineRow(wal: [WALRange(start: segment(1), end: segment(9))]))
        for number in 0..<7 {
            fixture.source.set("b\(number)", .complete(1, 2))
            try fixture.add(.backup, "b\(number)")
        }
        _ = try fixture.psql(
            "INSERT INTO holdfast.cluster VALUES ('main', 77, 1); INSERT INTO holdfast.backup (cluster, id, type, state) VALUES ('main', 'gone', 'full', 'started')"
        )
        let overflowing = try fixture.outbox.announce(
            Fact(kind: .backup, cluster: "main", object: "late", occurredAt: at(9)))
        #expect(
            try fixture.flush().rebuilt == [RebuildReport(cluster: "main", isThere: true, backups: 7, timelines: 1)])
        #expect(try fixture.psql("SELECT count(*) FROM holdfast.backup WHERE id LIKE 'b_'") == "7")
        #expect(try fixture.psql("SELECT count(*) FROM holdfast.backup WHERE id = 'gone'") == "0")
        #expect(try fixture.outbox.contents().reconcile == ["main"])
        fixture.source.set("late", .complete(1, 2))
        try fixture.outbox.complete(overflowing)
        #expect(try fixture.flush().rebuilt.map(\.backups) == [8])
        #expect(try fixture.outbox.contents() == .init())
        #expect(try fixture.flush().rebuilt == [])
    }

    @Test("a rebuild makes the catalog what the repository is; events, restores and nodes stay")
    func rebuild() throws {
        let fixture = try CatalogFixture()
        fixture.source.set("b1", .complete(1, 2))
        fixture.source.set(.first, TimelineRow(wal: [WALRange(start: segment(1), end: segment(9))]))
        var report = RestoreReport(backup: "b1", target: "latest", outcome: .unpacked)
        report.finishedAt = at(3)
        try fixture.outbox.add(Fact(cluster: "main", restore: report, occurredAt: at(3)))
        try fixture.outbox.add(Fact(cluster: "main", node: "n1", NodeReport(role: .leader), occurredAt: at(3)))
        _ = try fixture.flush()
        let rows =
            "SELECT to_jsonb(b) - 'recorded_at' FROM holdfast.backup b UNION ALL SELECT to_jsonb(w) FROM holdfast.wal_range w"
        for _ in 0..<2 {
            let reports = try fixture.catalog.rebuild(from: fixture.source, outbox: fixture.outbox)
            #expect(reports == [RebuildReport(cluster: "main", isThere: true, backups: 1, timelines: 1)])
        }
        let before = try fixture.psql(rows)
        _ = try fixture.psql(
            "DELETE FROM holdfast.backup; DELETE FROM holdfast.timeline; INSERT INTO holdfast.timeline VALUES ('main', 9)"
        )
        _ = try fixture.catalog.rebuild(from: fixture.source, outbox: fixture.outbox)
        #expect(try fixture.psql(rows) == before)
        #expect(try fixture.psql("SELECT timeline FROM holdfast.timeline") == "1")
        #expect(
            try fixture.psql("SELECT (SELECT count(*) FROM holdfast.restore), (SELECT count(*) FROM holdfast.node)")
                == "1|1")
        #expect(try fixture.psql("SELECT count(*) FROM holdfast.event WHERE detail ->> 'why' = 'rebuild'") == "3")
    }

    @Test("reports of nodes and restores that arrive late do not go back in time")
    func late() throws {
        let fixture = try CatalogFixture()
        var restore = RestoreReport(backup: "b1", target: "latest", outcome: .recovered)
        try fixture.outbox.add(Fact(cluster: "main", restore: restore, occurredAt: at(9)))
        try fixture.outbox.add(
            Fact(cluster: "main", node: "n1", NodeReport(role: .leader, lsn: segment(9)), occurredAt: at(9)))
        _ = try fixture.flush()
        restore.outcome = .started
        try fixture.outbox.add(Fact(cluster: "main", restore: restore, occurredAt: at(1)))
        try fixture.outbox.add(
            Fact(cluster: "main", node: "n1", NodeReport(role: .follower, lsn: segment(1)), occurredAt: at(1)))
        #expect(try fixture.flush().delivered == 2)
        #expect(try fixture.psql("SELECT outcome FROM holdfast.restore") == "recovered")
        #expect(try fixture.psql("SELECT role, lsn FROM holdfast.node") == "leader|0/9000000")
    }

    @Test("S12: SQL in texts is text")
    func injection() throws {
        let fixture = try CatalogFixture()
        let sql = "'; DROP TABLE holdfast.event; -- $1 \\ \" {}"
        var report = RestoreReport(backup: "b1", target: sql, outcome: .failed)
        report.dataDirectory = sql
        report.targetTimeline = sql
        try fixture.outbox.add(Fact(cluster: "main", restore: report, occurredAt: at(1)))
        try fixture.outbox.add(
            Fact(kind: .cluster, cluster: "main", object: "main", occurredAt: at(1), detail: [sql: sql]))
        var row = BackupRow.complete(1, 2)
        row.archives[0].path = sql
        fixture.source.set("b1", row)
        try fixture.add(.backup, "b1")
        #expect(try fixture.flush().delivered == 3)
        #expect(try fixture.psql("SELECT target FROM holdfast.restore") == sql)
        #expect(try fixture.psql("SELECT path FROM holdfast.backup_archive") == sql)
        #expect(
            try fixture.psql("SELECT count(*) FROM holdfast.event, jsonb_each_text(detail) WHERE key = value") == "1")
    }

    @Test("S12: a repository whose names are SQL is refused by name, and nothing is written")
    func injectedNames() throws {
        let fixture = try CatalogFixture()
        fixture.source.set("x'; DROP TABLE holdfast.event; --", .complete(1, 2))
        let error = try catalogError { _ = try fixture.catalog.rebuild(from: fixture.source, outbox: fixture.outbox) }
        #expect(error.diagnosis.status == .usage)
        #expect(try fixture.psql("SELECT count(*) FROM holdfast.cluster") == "0")
    }

    @Test("a damaged fact gives way to a whole reading; one of a newer version stays and is named")
    func damaged() throws {
        let fixture = try CatalogFixture()
        fixture.source.set("b1", .complete(1, 2))
        try fixture.add(.backup, "b1")
        let names = try fixture.outbox.factNames()
        try writeFile("\(fixture.outbox.directory)/\(names[0])", "{\"version\":1,\"id\":", mode: 0o600)
        #expect(try fixture.flush().rebuilt.map(\.backups) == [1])
        #expect(try fixture.outbox.contents() == .init())
        let newer = "main,backup,\(UUID()).json"
        try writeFile("\(fixture.outbox.directory)/\(newer)", "{\"version\":2}", mode: 0o600)
        let report = try fixture.flush()
        #expect(report.failures.map(\.error.diagnosis.status) == [.dataError])
        #expect(try fixture.outbox.contents().facts == 1)
    }
}
