import Foundation
import HoldfastArchive
import HoldfastBackup
import HoldfastCore
import HoldfastEngine
import HoldfastRepository
import HoldfastRepositoryTestSupport
import HoldfastTestSupport
import HoldfastWAL
import HoldfastWire
import Testing

@Suite("A backup that was interrupted is none, and the next one works", .serialized)
struct InterruptedBackupTests {
    private func write(_ node: ArchivedNode, _ value: String) throws {
        try node.engine.write { transaction in
            for number in 0..<200 { try transaction.put("0", Array("key\(number)".utf8), Array(value.utf8)) }
        }
    }

    private func job(_ repository: Repository, _ node: ArchivedNode) -> BackupJob {
        var request = BackupJob.Request(
            leader: WireServer(.unix(path: node.socket)), label: "test",
            archive: ArchiveOptions(compression: Compression(.zstd)))
        request.archivePatienceSeconds = 60
        return BackupJob(repository, request)
    }

    /// Everything that may be taken for a backup restores; what may not is listed by nothing as one.
    private func requireConsistent(_ node: ArchivedNode, _ number: inout Int) throws {
        for record in try node.repository.backups().compactMap(\.usable) {
            number += 1
            let engine = try node.restored(to: .immediate, number: number)
            #expect(try engine.allRecords()["0"]?.count == 200, "\(record.id)")
            try engine.close()
            try FileManager.default.removeItem(atPath: node.directory.path + "/restored-\(number)")
        }
    }

    @Test("C6: the taker dies at every repository operation; nothing takes it for a backup, the next one works")
    func everyOperation() async throws {
        let node = try await ArchivedNode()
        try write(node, "first")
        // How many operations a backup makes, its waiting for the archive aside.
        let counting = FaultyStore(PosixStore(root: node.directory.path + "/repository"))
        let system = node.repository.systemIdentifier
        _ = try job(Repository.open(counting, cluster: "main", expecting: system), node).run()
        let operations = counting.operations
        print("a backup makes \(operations) repository operations")
        var committed = try node.repository.backups().compactMap(\.usable).count
        var restored = 0
        for operation in 0..<operations {
            for fault in [FaultyStore.Fault.crashBefore, .crashAfter] {
                let faulty = FaultyStore(PosixStore(root: node.directory.path + "/repository"))
                let machine = FakeMachine("taker \(operation) \(fault)")
                let repository = try Repository.open(
                    faulty, cluster: "main", expecting: system, environment: machine.environment)
                faulty.plant(fault, at: operation)
                let result = Result { try job(repository, node).run() }
                let usable = try node.repository.backups().compactMap(\.usable).count
                switch result {
                case .success: #expect(usable == committed + 1, "operation \(operation), \(fault)")
                case .failure:
                    // The marker may have been created by the operation that had no answer: then it is a backup.
                    #expect(usable == committed || usable == committed + 1, "operation \(operation), \(fault)")
                }
                committed = usable
                try lapse(node)
            }
            if operation % 10 == 0 {
                try requireConsistent(node, &restored)
                try forget(node, keeping: 1)
                committed = try node.repository.backups().compactMap(\.usable).count
            }
        }
        _ = try node.backup()
        #expect(try node.repository.backups().compactMap(\.usable).count == committed + 1)
        // What the dead takers left is cleared up.
        for entry in try node.repository.backups() {
            if case .unfinished = entry.state { Issue.record("\(entry.id) was not swept") }
        }
        try await node.stop()
    }

    /// Makes the leases of dead takers old, as time would.
    private func lapse(_ node: ArchivedNode) throws {
        let root = node.directory.path + "/repository/main"
        let old = Date(timeIntervalSinceNow: -7200)
        for directory in ["locks", "backups"] {
            for case let name as String in FileManager.default.enumerator(atPath: root + "/" + directory) ?? .init()
            where name.hasSuffix(".json") && !name.hasSuffix("backup.json") {
                try? FileManager.default.setAttributes(
                    [.modificationDate: old], ofItemAtPath: root + "/\(directory)/\(name)")
            }
        }
    }

    /// Keeps the test's disk small.
    private func forget(_ node: ArchivedNode, keeping count: Int) throws {
        for record in try node.repository.backups().compactMap(\.usable).dropLast(count) {
            try FileManager.default.removeItem(atPath: node.directory.path + "/repository/main/backups/\(record.id)")
        }
    }

    @Test("C6: the connection to the leader drops in the middle; the leader forgets the backup")
    func droppedConnection() async throws {
        let node = try await ArchivedNode()
        try write(node, "first")
        let leader = try LeaderConnection(to: WireServer(.unix(path: node.socket)))
        _ = try leader.startBackup(label: "dropped", isFast: true)
        #expect(node.engine.status.runningBackups == 1)
        leader.close()
        try waitUntil("the leader forgets it") { node.engine.status.runningBackups == 0 }
        _ = try node.backup()
        try await node.stop()
    }
}
