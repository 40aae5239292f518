import Foundation
import HoldfastCore
import HoldfastEngine
import HoldfastReplica
import HoldfastRepository
import HoldfastRepositoryTestSupport
import HoldfastRestore
import HoldfastTestSupport
import Testing

@Suite("A restore that was interrupted never starts as if it were whole", .serialized)
struct InterruptedRestoreTests {
    private func prepared() async throws -> ArchivedNode {
        let node = try await ArchivedNode()
        try node.engine.write { transaction in
            for number in 0..<2000 { try transaction.put("0", Array("key\(number)".utf8), Array("value".utf8)) }
        }
        _ = try node.backup()
        try node.engine.write { try $0.put("0", Array("late".utf8), Array("1".utf8)) }
        try node.archiveEverything()
        return node
    }

    @Test("D6: the restore dies at every repository operation; the directory is refused, and the same command finishes")
    func everyOperation() async throws {
        let node = try await prepared()
        let path = node.directory.path + "/interrupted"
        var request = RestoreRequest(data: path)
        request.isCopy = true
        request.action = .pause
        request.command = "holdfast restore --data \(path)"
        var operation = 0
        while true {
            let faulty = FaultyStore(PosixStore(root: node.directory.path + "/repository"))
            let repository = try Repository.open(faulty, cluster: "main")
            faulty.plant(.crashBefore, at: operation)
            let result = Result { try RestoreJob(repository, request).run() }
            if case .success = result { break }
            if FileManager.default.fileExists(atPath: path + "/control") {
                // Half done: it is not started, and says what finishes it.
                let error = #expect(throws: EngineError.self) { try Engine(opening: RealDisk(root: path)) }
                #expect(error?.description.contains("holdfast restore --data") == true, "\(String(describing: error))")
            }
            operation += 1
        }
        print("a restore makes \(operation) repository operations")
        #expect(operation > 10)
        // The same command over what is complete is refused: it would replace data.
        #expect(throws: RestoreError.self) { try RestoreJob(node.repository, request).run() }
        try await node.stop()
    }

    @Test("D6: a restore killed while it wrote a small file is repeated by the same command")
    func temporaryFiles() async throws {
        let node = try await prepared()
        let path = node.directory.path + "/temporary"
        var request = RestoreRequest(data: path)
        request.isCopy = true
        // Killed in its first write: nothing but the control file's beginning.
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try Data([1]).write(to: URL(filePath: path + "/control.tmp"))
        var operation = 0
        while !FileManager.default.fileExists(atPath: path + "/control") {
            let faulty = FaultyStore(PosixStore(root: node.directory.path + "/repository"))
            let repository = try Repository.open(faulty, cluster: "main")
            faulty.plant(.crashBefore, at: operation)
            #expect(throws: (any Error).self) { try RestoreJob(repository, request).run() }
            operation += 1
        }
        for name in ["backup_label", "recovery.signal", "backup_manifest", "control"] {
            try Data([1]).write(to: URL(filePath: path + "/" + name + ".tmp"))
        }
        _ = try RestoreJob(node.repository, request).run()
        try await node.stop()
    }

    @Test("C1, D6: without its label or its signal a restored directory does not start as whole")
    func withoutLabel() async throws {
        let node = try await prepared()
        for missing in ["backup_label", "recovery.signal"] {
            let path = node.directory.path + "/without-\(missing)"
            var request = RestoreRequest(data: path)
            request.isCopy = true
            _ = try RestoreJob(node.repository, request).run()
            try FileManager.default.removeItem(atPath: path + "/" + missing)
            // With the archive at hand, so that only what is missing can be the reason.
            var options = EngineOptions(cacheBytes: 8 << 20)
            options.recovery = try ArchiveRecoverySource(node.repository, hold: nil)
            let error = #expect(throws: EngineError.self) {
                try Engine(opening: RealDisk(root: path), options: options)
            }
            #expect(error?.description.contains(missing) == true, "\(String(describing: error))")
            #expect(error?.diagnosis.next != nil)
        }
        try await node.stop()
    }

    @Test("C1: the control file of a restored directory demands the backup's log itself, whatever else is taken away")
    func demand() async throws {
        let node = try await prepared()
        let path = node.directory.path + "/demand"
        var request = RestoreRequest(data: path)
        request.isCopy = true
        let backup = try RestoreJob(node.repository, request).run().backup
        let disk = try RealDisk(root: path)
        let file = try ControlFile(opening: disk)
        var control = file.current
        file.close()
        #expect(control.demand?.start == backup.startLSN && control.demand?.stop == backup.stopLSN)
        // Made to look like an ordinary directory of a leader that stopped.
        control.state = .stopped
        control.minimumRecoveryPoint = nil
        try ControlFile.create(on: disk, control).close()
        for name in ["backup_label", "recovery.signal"] { try disk.remove(name) }
        let error = #expect(throws: EngineError.self) { try Engine(opening: RealDisk(root: path)) }
        #expect(error?.description.contains("restored from a backup") == true, "\(String(describing: error))")
        try await node.stop()
    }

    @Test("D4: a segment of the backup's own is missing: refused by name before anything is made, whatever the target")
    func missingSegment() async throws {
        let node = try await prepared()
        let backup = try #require(try node.repository.backups().compactMap(\.usable).last)
        let name = backup.wal.first
        try remove(name, from: node)
        var request = RestoreRequest(data: node.directory.path + "/missing")
        request.isCopy = true
        for target in [RecoveryTarget.immediate, .latest, .lsn(backup.stopLSN)] {
            request.target = target
            let error = #expect(throws: RestoreError.self) { try RestoreJob(node.repository, request).run() }
            #expect(error?.description.contains(name.description) == true, "\(target): \(String(describing: error))")
            #expect(!FileManager.default.fileExists(atPath: request.data))
        }
        try await node.stop()
    }

    @Test("D4: a gap behind the backup is refused by name before anything is made when the latest target is asked for")
    func gap() async throws {
        let node = try await prepared()
        let backup = try #require(try node.repository.backups().compactMap(\.usable).last)
        try node.engine.write { try $0.put("0", Array("later".utf8), Array("2".utf8)) }
        try node.archiveEverything()
        let name = SegmentName(timeline: .first, segment: backup.wal.last.segment.next)
        try remove(name, from: node)
        var request = RestoreRequest(data: node.directory.path + "/gap")
        request.isCopy = true
        let error = #expect(throws: RestoreError.self) { try RestoreJob(node.repository, request).run() }
        #expect(error?.description.contains(name.description) == true, "\(String(describing: error))")
        #expect(!FileManager.default.fileExists(atPath: request.data))
        // A follower takes what is missing from its leader: it may be on its way into the archive.
        var follower = RestoreRequest(data: node.directory.path + "/follower")
        follower.follower = FollowerOrder(leaders: ["unix:\(node.socket)"], node: "b", slot: nil)
        _ = try RestoreJob(node.repository, follower).run()
        // What lies before the gap can be had.
        request.target = .lsn(backup.stopLSN)
        _ = try RestoreJob(node.repository, request).run()
        try await node.stop()
    }

    @Test("D6: another cluster's interrupted restore is refused by name and left as it is")
    func foreignRestore() async throws {
        let node = try await prepared()
        let path = node.directory.path + "/foreign-restore"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        let other = SystemIdentifier(rawValue: node.repository.systemIdentifier.rawValue ^ 1)
        let control = ControlData(
            state: .restoring, system: other, timeline: .first, token: .random(), redo: LSN(0x100_0000), redoChain: nil)
        try ControlFile.create(on: RealDisk(root: path), control).close()
        let before = TestCluster.fingerprint(path)
        var request = RestoreRequest(data: path)
        request.isCopy = true
        let error = #expect(throws: RestoreError.self) { try RestoreJob(node.repository, request).run() }
        guard case .foreign(path, other, node.repository.systemIdentifier) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(TestCluster.fingerprint(path) == before)
        try await node.stop()
    }

    private func remove(_ name: SegmentName, from node: ArchivedNode) throws {
        let directory = node.directory.path + "/repository/main/wal/\(name.timeline)"
        let files = try FileManager.default.contentsOfDirectory(atPath: directory).filter {
            $0.hasPrefix(name.description)
        }
        #expect(!files.isEmpty)
        for file in files { try FileManager.default.removeItem(atPath: directory + "/" + file) }
    }

    @Test("D6: a directory in use, a foreign one and one that is not empty are refused and left as they are")
    func refusedDirectories() async throws {
        let node = try await prepared()
        func refusal(_ path: String) -> (any DiagnosableError)? {
            var request = RestoreRequest(data: path)
            request.isCopy = true
            do {
                _ = try RestoreJob(node.repository, request).run()
                return nil
            } catch { return error as? any DiagnosableError }
        }
        // The running leader's own.
        #expect(refusal(node.data)?.diagnosis.status == .tryAgain)
        // Another cluster's.
        let foreign = node.directory.path + "/foreign"
        try FileManager.default.createDirectory(atPath: foreign, withIntermediateDirectories: false)
        try Engine.initialize(RealDisk(root: foreign))
        let before = TestCluster.fingerprint(foreign)
        #expect(refusal(foreign)?.diagnosis.status == .cannotCreate)
        #expect(TestCluster.fingerprint(foreign) == before)
        // Somebody's files.
        let full = node.directory.path + "/full"
        try FileManager.default.createDirectory(atPath: full, withIntermediateDirectories: false)
        try Data("mine".utf8).write(to: URL(filePath: full + "/file"))
        #expect(refusal(full)?.diagnosis.status == .cannotCreate)
        #expect(try Data(contentsOf: URL(filePath: full + "/file")) == Data("mine".utf8))
        try await node.stop()
    }
}
