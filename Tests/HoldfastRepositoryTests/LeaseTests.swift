import Foundation
import HoldfastCore
import HoldfastRepositoryTestSupport
import Synchronization
import Testing

@testable import HoldfastRepository

@Suite("A lease has one holder at a time")
struct LeaseTests {
    let store = MemoryStore()
    let first = FakeMachine("first")
    let second = FakeMachine("second")

    private func repository(_ machine: FakeMachine) throws -> Repository {
        try Repository.openOrCreate(
            store, cluster: "main", systemIdentifier: SystemIdentifier(rawValue: 7), environment: machine.environment)
    }

    private func pass(seconds: Int64) {
        store.advance(seconds: seconds)
        first.advance(seconds: seconds)
        second.advance(seconds: seconds)
    }

    @Test("it is refused while fresh, by name, and given once it has lapsed")
    func lapses() throws {
        let (one, two) = (try repository(first), try repository(second))
        let lease = try one.takeLease("backup", leaseSeconds: 60)
        do {
            _ = try two.takeLease("backup", leaseSeconds: 60)
            Issue.record("two hold it")
        } catch RepositoryError.leaseTaken(_, let holder) {
            #expect(holder.contains("first"))
        }
        pass(seconds: 59)
        #expect(throws: RepositoryError.self) { try two.takeLease("backup", leaseSeconds: 60) }
        #expect(try two.standing(ofLease: "backup").isFresh)
        pass(seconds: 1)
        #expect(try !two.standing(ofLease: "backup").isFresh)
        let next = try two.takeLease("backup", leaseSeconds: 60)
        #expect(next.isHeld)
        #expect(!lease.isHeld)
        #expect(throws: RepositoryError.leaseLost("backup")) { try lease.renew() }
        // What the late holder tries has not taken it from the new one.
        #expect(next.isHeld)
        try next.renew()
    }

    @Test("its holder has stopped before anybody else may begin")
    func stopsEarly() throws {
        let (one, two) = (try repository(first), try repository(second))
        let lease = try one.takeLease("backup", leaseSeconds: 60)
        var stopped: Int64?
        for second in 1...Int64(60) {
            pass(seconds: 1)
            if !lease.isHeld { stopped = stopped ?? second }
            if second < 60 { #expect(throws: RepositoryError.self) { try two.takeLease("backup", leaseSeconds: 60) } }
        }
        #expect(try #require(stopped) <= 45)
        _ = try two.takeLease("backup", leaseSeconds: 60)
    }

    @Test("renewals keep it, only the highest number stays, and a release frees it at once")
    func renewals() throws {
        let (one, two) = (try repository(first), try repository(second))
        let lease = try one.takeLease("leader", leaseSeconds: 30)
        for _ in 0..<20 {
            pass(seconds: 10)
            try lease.renew()
            #expect(throws: RepositoryError.self) { try two.takeLease("leader", leaseSeconds: 30) }
        }
        #expect(store.paths.filter { $0.contains("/locks/leader/") } == ["main/locks/leader/00000021.json"])
        try lease.release()
        #expect(try two.standing(ofLease: "leader") == .released(first.holderNamed(two)))
        let next = try two.takeLease("leader", leaseSeconds: 30)
        #expect(next.isHeld)
        #expect(store.paths.filter { $0.contains("/locks/leader/") } == ["main/locks/leader/00000023.json"])
    }

    @Test("a renewal that returns after the end of what it renews is a lost hold")
    func lateRenewal() throws {
        let slow = SlowStore(store)
        let one = try Repository.openOrCreate(
            slow, cluster: "main", systemIdentifier: SystemIdentifier(rawValue: 7), environment: first.environment)
        let lease = try one.takeLease("backup", leaseSeconds: 60)
        slow.beforeAnswer.withLock { $0 = { self.pass(seconds: 50) } }
        #expect(throws: RepositoryError.leaseLost("backup")) { try lease.renew() }
        #expect(!lease.isHeld)
        slow.beforeAnswer.withLock { $0 = {} }
        #expect(throws: RepositoryError.leaseLost("backup")) { try lease.renew() }
    }

    @Test("a taker that slept between looking and taking does not get a number that was used and removed")
    func sleepyTaker() throws {
        let slow = SlowStore(store)
        let one = try repository(first)
        let lease = try one.takeLease("backup", leaseSeconds: 60)
        pass(seconds: 61)
        #expect(!lease.isHeld)
        let two = try Repository.open(slow, cluster: "main", environment: second.environment)
        let third = FakeMachine("third")
        let three = try repository(third)
        // While the sleeper sleeps another takes number 2, renews to 3 and removes 2.
        slow.beforeCreate.withLock {
            $0 = {
                let taken = try! three.takeLease("backup", leaseSeconds: 60)  // Nobody else holds it.
                try! taken.renew()  // It was taken a moment ago.
            }
        }
        #expect(throws: RepositoryError.self) { try two.takeLease("backup", leaseSeconds: 60) }
        guard case .fresh(let holder) = try one.standing(ofLease: "backup") else {
            Issue.record("nobody holds it")
            return
        }
        #expect(holder.host == "third")
    }

    @Test("of many that take it at once exactly one gets it")
    func race() async throws {
        let store = self.store
        _ = try repository(first)
        let taken = await withTaskGroup(of: Bool.self) { group in
            for number in 0..<12 {
                group.addTask {
                    let machine = FakeMachine("machine-\(number)")
                    let repository = try? Repository.open(store, cluster: "main", environment: machine.environment)
                    return (try? repository?.takeLease("backup", leaseSeconds: 60)) != nil
                }
            }
            return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(taken == 1)
    }

    @Test("a holder on this machine that is dead is not waited for; one that lives, or on another machine, is")
    func deadHolder() throws {
        let live = Holder.current
        var gone = live
        gone.process = 4_194_305  // Above the highest number a process can have here.
        #expect(gone.isKnownDead(from: live))
        #expect(!live.isKnownDead(from: live))
        // Another process has this number now than the one that took the lease: one that began at another time.
        var first = live
        first.process = 1
        #expect(first.isKnownDead(from: live))
        var elsewhere = gone
        elsewhere.host = "another-host"
        #expect(!elsewhere.isKnownDead(from: live))
        var container = gone
        container.processNamespace = "pid:[1]"
        #expect(!container.isKnownDead(from: live))
    }

    @Test("a hold protects a backup only if it can still be used; a hold whose time is over is lost")
    func holds() throws {
        let (one, two) = (try repository(first), try repository(second))
        let id = try BackupFixture.take(one).id
        let hold = try one.takeHold(on: id, walFrom: LSN(100), purpose: "restore", leaseSeconds: 60)
        #expect(try two.holds().map(\.backup) == [id])
        let continued = try two.continueHold(hold.name)
        #expect(continued.isHeld)
        #expect(try two.holds().count == 1)
        pass(seconds: 61)
        #expect(try two.holds().isEmpty)
        #expect(throws: RepositoryError.leaseLost(hold.name)) { try two.continueHold(hold.name) }
        let unknown = BackupID(time: Timestamp.now, kind: .full)
        #expect(throws: RepositoryError.unknownBackup(unknown.description)) {
            try one.takeHold(on: unknown, walFrom: nil, purpose: "restore")
        }
        #expect(try two.holds().isEmpty)
    }

    @Test("WAL below the cut is refused, and the cut is its highest number")
    func cut() throws {
        let one = try repository(first)
        #expect(try one.cut() == .zero)
        let objects = NumberedObjects(directory: one.layout.lock("cut"))
        _ = try store.create(objects.path(9), RecordCoding.encode(CutRecord(lsn: LSN(50))))
        _ = try store.create(objects.path(10), RecordCoding.encode(CutRecord(lsn: LSN(1000))))
        #expect(try one.cut() == LSN(1000))
        #expect(throws: RepositoryError.belowCut(LSN(999), cut: LSN(1000))) {
            try one.takeHold(on: nil, walFrom: LSN(999), purpose: "follower")
        }
        let taking = try one.announceBackup(.full, label: "nightly")
        #expect(throws: RepositoryError.belowCut(LSN(999), cut: LSN(1000))) {
            try taking.setStart(timeline: .first, lsn: LSN(999))
        }
        try taking.setStart(timeline: .first, lsn: LSN(1000))
    }

    @Test("S9: a hold of impossibly many seconds, written by somebody else, is a hold; one of fewer than none is none")
    func impossibleSeconds() throws {
        let repository = try repository(first)
        for (name, seconds) in [("restore-long", Int.max), ("restore-past", Int.min)] {
            let hold = LeaseRecord(
                name: LockName.holdPrefix + name, holder: repository.environment.holder, leaseSeconds: seconds)
            let objects = NumberedObjects(directory: repository.layout.lock(hold.name))
            _ = try store.create(objects.path(1), try RecordCoding.encode(hold))
        }
        #expect(try repository.holds().map(\.name) == [LockName.holdPrefix + "restore-long"])
        #expect(try repository.continueHold(LockName.holdPrefix + "restore-long").isHeld)
        #expect(throws: RepositoryError.self) { try repository.continueHold(LockName.holdPrefix + "restore-past") }
    }
}

extension FakeMachine {
    /// The holder that this machine put into its newest lease, as `repository` reads it.
    fileprivate func holderNamed(_ repository: Repository) -> Holder {
        if case .released(let holder)? = try? repository.standing(ofLease: "leader") { return holder }
        return environment.holder
    }
}

/// Runs something before a creation is carried out, or between that and its answer.
final class SlowStore: ObjectStore {
    private let store: MemoryStore
    let beforeAnswer = Mutex<@Sendable () -> Void>({})
    let beforeCreate = Mutex<@Sendable () -> Void>({})

    init(_ store: MemoryStore) { self.store = store }

    var place: String { store.place }
    func create(_ path: ObjectPath, _ bytes: [UInt8]) throws(StoreError) -> Creation {
        let before = beforeCreate.withLock { action in
            defer { action = {} }
            return action
        }
        before()
        let creation = try store.create(path, bytes)
        beforeAnswer.withLock { $0 }()
        return creation
    }
    func put(_ path: ObjectPath) throws(StoreError) -> any ObjectWriter { try store.put(path) }
    func open(_ path: ObjectPath) throws(StoreError) -> any StoredObject { try store.open(path) }
    func read(_ path: ObjectPath, limit: Int) throws(StoreError) -> [UInt8]? { try store.read(path, limit: limit) }
    func list(_ directory: ObjectPath) throws(StoreError) -> [ObjectListing] { try store.list(directory) }
    func listDirectories(_ directory: ObjectPath?) throws(StoreError) -> [String] {
        try store.listDirectories(directory)
    }
    func describe(_ path: ObjectPath) throws(StoreError) -> ObjectListing? { try store.describe(path) }
    func confirm(_ path: ObjectPath) throws(StoreError) -> ObjectListing? { try store.confirm(path) }
    func delete(_ path: ObjectPath) throws(StoreError) { try store.delete(path) }
    func now() throws(StoreError) -> Timestamp { try store.now() }
    func sweepTemporaries(in directory: ObjectPath, olderThanSeconds: Int64) throws(StoreError) -> Int { 0 }
}
