import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

@testable import HoldfastCatalog

@Suite("The views tell an operator what can be restored")
struct ViewTests {
    @Test("the window reaches from a backup's stop to the end of the WAL that follows without a gap")
    func window() throws {
        let fixture = try CatalogFixture()
        fixture.source.set("b1", .complete(2, 3))
        fixture.source.set("b2", .complete(5, 5))
        fixture.source.set("b3", .complete(11, 12))
        // Its WAL is not whole; started; given up.
        fixture.source.set("b4", .complete(8, 9))
        fixture.source.set("b5", BackupRow(state: .started, type: "full"))
        var removed = BackupRow.complete(2, 3)
        removed.state = .removed
        fixture.source.set("b0", removed)
        fixture.source.set(
            .first,
            TimelineRow(wal: [
                WALRange(start: segment(1), end: segment(9), lastCommitAt: at(90)),
                WALRange(start: segment(10), end: segment(14)),
            ]))
        _ = try fixture.catalog.rebuild(from: fixture.source, outbox: fixture.outbox)
        #expect(
            try fixture.catalog.recoveryWindows() == [
                FleetWindow(
                    cluster: "main", timeline: 1, backups: 2, earliestBackup: "b1", earliestLSN: "0/3000FA0",
                    earliestAt: "2026-11-24T00:00:04.000000Z", latestLSN: "0/9000000",
                    latestAt: "2026-11-24T00:01:30.000000Z"),
                FleetWindow(
                    cluster: "main", timeline: 1, backups: 1, earliestBackup: "b3", earliestLSN: "0/C000FA0",
                    earliestAt: "2026-11-24T00:00:13.000000Z", latestLSN: "0/E000000", latestAt: nil),
            ])
        #expect(try fixture.psql("SELECT * FROM holdfast.wal_gap") == "main|1|0/9000000|0/A000000|16777216")
        let health = try #require(try fixture.catalog.health().first)
        #expect(health.backups == 4 && health.walGaps == 1 && health.archivedLSN == "0/E000000")
        #expect(health.problems == "1 gaps in the archived WAL" && health.systemIdentifier == "77")
        #expect(health.lastFullAt == "2026-11-24T00:00:13.000000Z")
    }

    @Test("a window goes on over a fork when the old timeline's archive reaches it, and only for backups before it")
    func fork() throws {
        let fixture = try CatalogFixture()
        fixture.source.set("b1", .complete(2, 3))
        fixture.source.set("b2", .complete(6, 6))
        let wal = [WALRange(start: segment(1), end: segment(9))]
        fixture.source.set(.first, TimelineRow(wal: wal))
        let fork = segment(5) + 800
        fixture.source.set(
            TimelineID(2),
            TimelineRow(parent: .first, switchLSN: fork, wal: [WALRange(start: segment(5), end: segment(12))]))
        fixture.source.set(
            TimelineID(3),
            TimelineRow(
                parent: TimelineID(2), switchLSN: segment(7) + 8, wal: [WALRange(start: segment(7), end: segment(8))]))
        // Its parent's archive has a gap before the fork.
        fixture.source.set(
            TimelineID(4),
            TimelineRow(
                parent: .first, switchLSN: segment(11) + 8, wal: [WALRange(start: segment(11), end: segment(13))]))
        _ = try fixture.catalog.rebuild(from: fixture.source, outbox: fixture.outbox)
        let windows = try fixture.catalog.recoveryWindows().map {
            "\($0.timeline) \($0.backups) \($0.earliestLSN) \($0.latestLSN)"
        }
        #expect(
            windows == ["1 2 0/3000FA0 0/9000000", "2 1 0/3000FA0 0/C000000", "3 1 0/3000FA0 0/8000000"])
    }

    @Test("a chain names its links, the full backup first, and what is missing")
    func chain() throws {
        let fixture = try CatalogFixture()
        fixture.source.set("f1", .complete(1, 2))
        fixture.source.set("i2", .complete(3, 4, parent: "f1"))
        fixture.source.set("i3", .complete(5, 6, parent: "i2"))
        fixture.source.set("i9", .complete(7, 8, parent: "lost"))
        fixture.source.set("x1", .complete(7, 8, parent: "x2"))
        fixture.source.set("x2", .complete(7, 8, parent: "x1"))
        fixture.source.set(.first, TimelineRow(wal: [WALRange(start: segment(1), end: segment(9))]))
        _ = try fixture.catalog.rebuild(from: fixture.source, outbox: fixture.outbox)
        let chains = try fixture.psql(
            "SELECT backup, links, length, whole, missing FROM holdfast.backup_chain ORDER BY 1")
        #expect(
            chains == """
                f1|{f1}|1|t|
                i2|{f1,i2}|2|t|
                i3|{f1,i2,i3}|3|t|
                i9|{i9}|1|f|lost
                x1|{x2,x1}|2|f|x1
                x2|{x1,x2}|2|f|x2
                """)
        #expect(try fixture.catalog.recoveryWindows().map(\.backups) == [3])
        #expect(try fixture.catalog.health().map(\.problems) == ["3 backups without their parents"])
    }

    @Test("ranges of WAL are merged, whatever their order")
    func merged() {
        let seed = SeededGenerator.announcedSeed("ranges of WAL are merged")
        var random = SeededGenerator(seed: seed)
        for _ in 0..<200 {
            let numbers = Set(
                (0..<Int.random(in: 0...40, using: &random)).map { _ in UInt64.random(in: 0...50, using: &random) })
            let merged = WALRange.merged(numbers.shuffled(using: &random).map { WALRange(segment: SegmentNumber($0)) })
            let covered = merged.flatMap { range in
                (range.start.rawValue >> 24..<range.end.rawValue >> 24).map { $0 }
            }
            #expect(covered == numbers.sorted())
            #expect(zip(merged, merged.dropFirst()).allSatisfy { $0.end < $1.start })
        }
    }
}
