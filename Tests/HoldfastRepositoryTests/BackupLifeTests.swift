import Glibc
import HoldfastCore
import HoldfastRepositoryTestSupport
import HoldfastTestSupport
import Testing

@testable import HoldfastRepository

/// A small backup, taken step by step as a job does.
enum BackupFixture {
    @discardableResult
    static func take(_ repository: Repository) throws -> BackupRecord {
        let (taking, record) = try prepare(repository)
        try taking.commit(record)
        return record
    }

    /// Everything but the commit.
    static func prepare(_ repository: Repository) throws -> (BackupTaking, BackupRecord) {
        let taking = try repository.announceBackup(.full, label: "nightly", leaseSeconds: 60)
        let start = LSN(0x100_0100)
        try taking.setStart(timeline: .first, lsn: start)
        let name = "base-00000001-\(start.objectName)-0001.tar.zst"
        let writer = try taking.put(name)
        try writer.write(Array("pages".utf8))
        guard try writer.finish() == .created else { throw RepositoryError.alreadyThere(name) }
        let archive = BackupRecord.StoredFile(
            path: repository.layout.relative(taking.path(name)), bytes: 5, sha256: SHA256Digest(of: Array("pages".utf8))
        )
        let manifest = try taking.store("backup_manifest", Array("{}".utf8))
        let checksums = try taking.store("pages.crc", [1, 2, 3])
        let index = try taking.store("frames.idx", [4, 5, 6])
        let record = BackupRecord(
            holdfastVersion: "0.1.0", id: taking.id, parent: nil, label: "nightly", cluster: repository.cluster,
            systemIdentifier: repository.systemIdentifier, timeline: .first,
            timelineToken: TimelineToken(rawValue: 0xABCD), startLSN: start, stopLSN: LSN(0x200_0000),
            startedAt: taking.startedAt, finishedAt: taking.startedAt.advanced(bySeconds: 3), pages: 100,
            bytes: 819_200, codec: "zstd", archives: [archive], manifest: manifest, frameIndex: index,
            pageChecksums: checksums,
            wal: .init(
                first: SegmentName(timeline: .first, segment: SegmentNumber(1)),
                last: SegmentName(timeline: .first, segment: SegmentNumber(1))))
        return (taking, record)
    }
}

@Suite("A backup is one only when its marker was created")
struct BackupLifeTests {
    let store = MemoryStore()
    let machine = FakeMachine("leader-host")

    private func repository(_ store: (any ObjectStore)? = nil, _ machine: FakeMachine? = nil) throws -> Repository {
        try Repository.openOrCreate(
            store ?? self.store, cluster: "main", systemIdentifier: SystemIdentifier(rawValue: 7),
            environment: (machine ?? self.machine).environment)
    }

    @Test("C6: what was written while the repository was away for a moment is not there: such a backup is none")
    func writtenBeneath() throws {
        let repository = try repository()
        let (whole, first) = try BackupFixture.prepare(repository)
        for file in first.archives + [first.manifest, first.frameIndex, first.pageChecksums] {
            let path = whole.path(String(file.path.split(separator: "/").last!))
            let bytes = try #require(try store.read(path, limit: 1000))
            try store.delete(path)
            #expect(throws: StoreError.self, "\(path) is missing") { try whole.commit(first) }
            _ = try store.create(path, bytes.dropLast())
            #expect(throws: StoreError.self, "\(path) is short") { try whole.commit(first) }
            try store.delete(path)
            _ = try store.create(path, bytes)
        }
        #expect(try repository.backup(whole.id)?.usable == nil)
        try whole.commit(first)
        #expect(try repository.backup(whole.id)?.usable != nil)
    }

    @Test("S9: a marker that cannot be read hides no other backup, and a store without permission is told as that")
    func unreadableMarker() throws {
        let directory = try TemporaryDirectory()
        let root = directory.path + "/repository"
        let repository = try Repository.openOrCreate(
            PosixStore(root: root), cluster: "main", systemIdentifier: SystemIdentifier(rawValue: 7),
            environment: machine.environment)
        let first = try BackupFixture.take(repository)
        let second = try BackupFixture.take(repository)
        let marker = root + "/" + repository.layout.backupRecord(first.id).text
        #expect(rename(marker, marker + ".aside") == 0)
        #expect(symlink(marker + ".aside", marker) == 0)
        let entries = try repository.backups()
        #expect(entries.compactMap(\.usable) == [second])
        guard case .damaged = entries.first?.state else {
            Issue.record("\(entries)")
            return
        }
        #expect(!StoreError("read", root, .permission).isOfOneObject)
        #expect(!StoreError("read", root, .away).isOfOneObject)
    }

    @Test("S3: a cluster has one name in a repository: a second part for the same identifier is refused")
    func oneName() throws {
        _ = try repository()
        #expect(throws: RepositoryError.knownByOtherName("typo", as: "main", place: store.place)) {
            _ = try Repository.openOrCreate(
                store, cluster: "typo", systemIdentifier: try repository().systemIdentifier,
                environment: machine.environment)
        }
        #expect(try Repository.clusters(in: store) == ["main"])
    }

    @Test("taken, listed, and read back as it was written")
    func taken() throws {
        let repository = try repository()
        let record = try BackupFixture.take(repository)
        #expect(record.id.description == "20261123T021500Z-full")
        #expect(try repository.usableBackup(record.id) == record)
        #expect(try repository.backups().compactMap(\.usable) == [record])
    }

    @Test("C6: killed at every repository operation: nothing takes it for a backup, it is swept, the next one works")
    func crashEverywhere() throws {
        var total = 0
        for fault in FaultyStore.Fault.allCases {
            var number = 0
            while true {
                let memory = MemoryStore()
                _ = try repository(memory)
                let faulty = FaultyStore(memory)
                let doomed = try repository(faulty)
                faulty.plant(fault, at: number)
                let taken = Result { try BackupFixture.take(doomed) }
                let reached = faulty.operations > number
                faulty.heal()
                let committed = try repository(memory).backups().compactMap(\.usable)
                switch taken {
                case .success(let record): #expect(committed == [record], "\(fault) at \(number)")
                case .failure:
                    // A marker whose creation was not answered is a whole backup all the same.
                    #expect(committed.count <= (fault == .crashAfter ? 1 : 0), "\(fault) at \(number)")
                }
                if !reached {
                    total += number
                    break
                }
                // Another job, before and after the lease is over.
                let next = FakeMachine("another-host")
                let later = try repository(memory, next)
                #expect(try later.sweepUnfinishedBackups().isEmpty, "\(fault) at \(number): it may still live")
                memory.advance(seconds: 61)
                try later.sweepUnfinishedBackups()
                let record = try BackupFixture.take(later)
                #expect(try later.backups().compactMap(\.usable) == committed + [record])
                for entry in try later.backups() {
                    switch entry.state {
                    case .committed: continue
                    case .tombstone:
                        let left = try memory.list(later.layout.backup(entry.id)).map(\.name)
                        #expect(left == ["backup.json"], "\(fault) at \(number)")
                        #expect(entry.id < record.id)
                    default: Issue.record("\(fault) at \(number): \(entry)")
                    }
                }
                number += 1
            }
        }
        print("backup: crashed or failed at \(total) operations")
        #expect(total > 30)
    }

    @Test("C6: a sweep that is killed at every operation is finished by the next one")
    func sweepCrashes() throws {
        for fault in FaultyStore.Fault.allCases {
            var number = 0
            while true {
                let memory = MemoryStore()
                let repository = try repository(memory)
                let taking = try repository.announceBackup(.full, label: "nightly", leaseSeconds: 60)
                _ = try taking.store("frames.idx", [1])
                memory.advance(seconds: 61)
                let faulty = FaultyStore(memory)
                let doomed = try self.repository(faulty)
                faulty.plant(fault, at: number)
                _ = try? doomed.sweepUnfinishedBackups()
                let reached = faulty.operations > number
                try repository.sweepUnfinishedBackups()
                #expect(try memory.list(repository.layout.backup(taking.id)).map(\.name) == ["backup.json"])
                guard case .tombstone? = try repository.backup(taking.id)?.state else {
                    Issue.record("\(fault) at \(number)")
                    return
                }
                if !reached { break }
                number += 1
            }
        }
    }

    @Test("C6: a taker that was swept while it slept cannot commit, and what it stores late is swept too")
    func sweptMeanwhile() throws {
        let repository = try repository()
        let taking = try repository.announceBackup(.full, label: "nightly", leaseSeconds: 60)
        try taking.setStart(timeline: .first, lsn: LSN(5))
        let writer = try taking.put("frames.idx")
        // The store's time passes, the taker's clock stands still: a machine that was suspended.
        store.advance(seconds: 61)
        #expect(try self.repository(nil, FakeMachine("b")).sweepUnfinishedBackups() == [taking.id])
        #expect(try writer.finish() == .created)
        let record = record(of: taking, in: repository)
        #expect(throws: RepositoryError.sweptMeanwhile(taking.id)) { try taking.commit(record) }
        try repository.sweepUnfinishedBackups()
        #expect(try store.list(repository.layout.backup(taking.id)).map(\.name) == ["backup.json"])
    }

    @Test("C6: a taker whose lease is over by its own clock does not commit")
    func lapsedTaker() throws {
        let repository = try repository()
        let taking = try repository.announceBackup(.full, label: "nightly", leaseSeconds: 60)
        try taking.setStart(timeline: .first, lsn: LSN(5))
        machine.advance(seconds: 61)
        #expect(throws: RepositoryError.self) { try taking.commit(record(of: taking, in: repository)) }
        #expect(try store.read(repository.layout.backupRecord(taking.id), limit: 1 << 20) == nil)
    }

    private func record(of taking: BackupTaking, in repository: Repository) -> BackupRecord {
        BackupRecord(
            holdfastVersion: "0.1.0", id: taking.id, parent: nil, label: "nightly", cluster: "main",
            systemIdentifier: repository.systemIdentifier, timeline: .first, timelineToken: .random(),
            startLSN: LSN(5), stopLSN: LSN(6), startedAt: .now, finishedAt: .now, pages: 0, bytes: 0, codec: "none",
            archives: [file(taking, "a.tar")], manifest: file(taking, "backup_manifest"),
            frameIndex: file(taking, "frames.idx"), pageChecksums: file(taking, "pages.crc"),
            wal: .init(
                first: SegmentName(timeline: .first, segment: SegmentNumber(1)),
                last: SegmentName(timeline: .first, segment: SegmentNumber(1))))
    }

    private func file(_ taking: BackupTaking, _ name: String) -> BackupRecord.StoredFile {
        .init(path: "backups/\(taking.id)/\(name)", bytes: 1, sha256: SHA256Digest(of: [1]))
    }

    @Test("C8: an id comes after every other, also when the clock stands before the newest or in the same second")
    func ids() throws {
        let repository = try repository()
        let first = try BackupFixture.take(repository)
        let second = try BackupFixture.take(repository)
        #expect(first.id < second.id)
        machine.setWallClock(Timestamp("2020-02-29T00:00:00Z")!)
        let third = try BackupFixture.take(repository)
        #expect(second.id < third.id)
        machine.setWallClock(Timestamp("2028-02-29T23:59:59.999999Z")!)
        let fourth = try BackupFixture.take(repository)
        #expect(fourth.id.description == "20280229T235959Z-full")
        #expect(try repository.backupIDs() == [first.id, second.id, third.id, fourth.id])
    }

    @Test("an abandoned backup leaves its tombstone only, and its id is not used again")
    func abandoned() throws {
        let repository = try repository()
        let taking = try repository.announceBackup(.full, label: "nightly")
        _ = try taking.store("frames.idx", [1])
        try taking.abandon()
        #expect(try store.list(repository.layout.backup(taking.id)).map(\.name) == ["backup.json"])
        #expect(throws: RepositoryError.self) { try repository.usableBackup(taking.id) }
        #expect(try repository.announceBackup(.full, label: "nightly").id > taking.id)
    }

    @Test("a backup that was given up is refused by name; a damaged record hides no other")
    func removedAndDamaged() throws {
        let repository = try repository()
        let first = try BackupFixture.take(repository)
        let second = try BackupFixture.take(repository)
        let third = try BackupFixture.take(repository)
        _ = try store.create(
            repository.layout.removalRecord(first.id),
            RecordCoding.encode(RemovalRecord(id: first.id, removedAt: .now, reason: "retention")))
        var bytes = try #require(try store.read(repository.layout.backupRecord(second.id), limit: 1 << 20))
        bytes.removeLast(20)
        store.overwrite(repository.layout.backupRecord(second.id), bytes)
        #expect(try repository.backups().compactMap(\.usable) == [third])
        do {
            _ = try repository.usableBackup(first.id)
            Issue.record("it was given up")
        } catch RepositoryError.backupNotUsable(let id, let why) {
            #expect(id == first.id && why.contains("retention"))
        }
        do {
            _ = try repository.usableBackup(second.id)
            Issue.record("it is damaged")
        } catch RepositoryError.damaged(let object, _) {
            #expect(object == "backups/\(second.id)/backup.json")
        }
    }

    @Test("another cluster's part is refused by name, and of two that create it at once one identifier wins")
    func otherCluster() async throws {
        let store = self.store
        let machine = self.machine
        let winners = await withTaskGroup(of: UInt64?.self) { group in
            for number in 1...8 {
                group.addTask {
                    (try? Repository.openOrCreate(
                        store, cluster: "main", systemIdentifier: SystemIdentifier(rawValue: UInt64(number)),
                        environment: machine.environment))?.systemIdentifier.rawValue
                }
            }
            return await group.reduce(into: [UInt64]()) { list, id in if let id { list.append(id) } }
        }
        #expect(winners.count == 1)
        do {
            _ = try Repository.open(store, cluster: "main", expecting: SystemIdentifier(rawValue: 99))
            Issue.record("it is another's")
        } catch let error as RepositoryError {
            #expect(error.diagnosis.status == .dataError)
            #expect(error.description.contains("99"))
        }
    }
}
