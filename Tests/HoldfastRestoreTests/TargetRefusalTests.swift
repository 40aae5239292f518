import Foundation
import HoldfastArchive
import HoldfastBackup
import HoldfastCore
import HoldfastEngine
import HoldfastReplica
import HoldfastRepository
import HoldfastRestore
import HoldfastTestSupport
import HoldfastWAL
import HoldfastWire
import Testing

@Suite("A target that cannot be reached is refused, and nothing is changed", .serialized)
struct TargetRefusalTests {
    /// One commit, then a restore point, by every way in which a target may name the moment.
    private struct Mark: Sendable {
        var lsn: LSN
        var transaction: TransactionID
        var time: Int64
        var name: String

        var targets: [RecoveryTarget] {
            [.lsn(lsn), .transaction(transaction), .time(microseconds: time), .name(name)]
        }
    }

    private static func mark(_ engine: Engine, _ name: String) throws -> Mark {
        try engine.write { try $0.put("0", Array("mark".utf8), Array(name.utf8)) }
        let status = engine.status
        let mark = Mark(
            lsn: engine.publishedLSN, transaction: status.lastTransaction, time: status.lastCommitTime, name: name)
        _ = try engine.restorePoint(name)
        return mark
    }

    /// A backup with a mark between its start and its stop.
    private func backup(_ node: ArchivedNode, inside name: String) throws -> (record: BackupRecord, inside: Mark) {
        var request = BackupJob.Request(
            leader: WireServer(.unix(path: node.socket)), label: name,
            archive: ArchiveOptions(compression: Compression(.zstd)))
        request.archivePatienceSeconds = 60
        let engine = node.engine
        let inside = Thread.Outcome<Mark>()
        let record = try BackupJob(node.repository, request) { event in
            guard case .started = event else { return }
            inside.set(Result { try Self.mark(engine, name) })
            // The clock of a commit moves on before the next one.
            usleep(1000)
        }.run()
        let mark = try inside.result()
        try #require(record.startLSN < mark.lsn && mark.lsn < record.stopLSN)
        return (record, mark)
    }

    private func request(_ node: ArchivedNode, _ name: String, _ target: RecoveryTarget) -> RestoreRequest {
        var request = RestoreRequest(data: node.directory.path + "/" + name)
        request.target = target
        request.action = .pause
        request.isCopy = true
        return request
    }

    private func open(_ node: ArchivedNode, _ path: String) throws -> Engine {
        var options = EngineOptions(cacheBytes: 8 << 20, archiving: false)
        options.recovery = try ArchiveRecoverySource(node.repository, hold: nil)
        return try Engine(opening: RealDisk(root: path), options: options)
    }

    /// Opening what was restored is refused with status 65 and these words; not a byte of it changes.
    private func expectRefused(
        _ node: ArchivedNode, _ path: String, saying words: [String], sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let before = TestCluster.fingerprint(path)
        do {
            let engine = try open(node, path)
            Issue.record("it was opened at \(engine.publishedLSN)", sourceLocation: sourceLocation)
            engine.abandon()
        } catch let error as any DiagnosableError {
            #expect(error.diagnosis.status == .dataError, "\(error)", sourceLocation: sourceLocation)
            #expect(error.diagnosis.next != nil, "no way out: \(error)", sourceLocation: sourceLocation)
            let text = error.diagnosis.description
            for word in words {
                #expect(text.contains(word), "it does not say \"\(word)\": \(text)", sourceLocation: sourceLocation)
            }
        }
        #expect(TestCluster.fingerprint(path) == before, "files were changed", sourceLocation: sourceLocation)
    }

    /// The restore itself is refused with status 65 and these words, and makes no directory.
    private func expectRefused(
        _ node: ArchivedNode, _ request: RestoreRequest, saying words: [String],
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let before = TestCluster.fingerprint(node.directory.path + "/repository")
        do {
            _ = try RestoreJob(node.repository, request).run()
            Issue.record("it was restored", sourceLocation: sourceLocation)
        } catch let error as any DiagnosableError {
            #expect(error.diagnosis.status == .dataError, "\(error)", sourceLocation: sourceLocation)
            #expect(error.diagnosis.next != nil, "no way out: \(error)", sourceLocation: sourceLocation)
            let text = error.diagnosis.description
            for word in words {
                #expect(text.contains(word), "it does not say \"\(word)\": \(text)", sourceLocation: sourceLocation)
            }
        }
        #expect(!FileManager.default.fileExists(atPath: request.data), sourceLocation: sourceLocation)
        #expect(
            TestCluster.fingerprint(node.directory.path + "/repository") == before, "the repository was changed",
            sourceLocation: sourceLocation)
    }

    /// Puts another target, or timeline, into a restored directory: what a restore would not write.
    private func rewrite(_ path: String, _ change: (inout RecoverySignal) -> Void) throws {
        let file = URL(filePath: path + "/" + RecoverySignal.fileName)
        var signal = try RecoverySignal(decoding: Array(Data(contentsOf: file)))
        change(&signal)
        try Data(signal.encoded).write(to: file)
    }

    @Test("D5: a target inside the backup's span: the restore refuses it, and so does replay")
    func beforeConsistency() async throws {
        let node = try await ArchivedNode()
        _ = try Self.mark(node.engine, "first")
        let (record, inside) = try backup(node, inside: "inside")
        let after = try Self.mark(node.engine, "after")
        _ = try Self.mark(node.engine, "end")
        try node.archiveEverything()
        for target in inside.targets {
            var request = request(node, "none", target)
            try expectRefused(
                node, request, saying: ["before the first backup", "\(target)", "\(record.id)", "consistent from"])
            request.backup = record.id.description
            try expectRefused(node, request, saying: ["cannot reach", "\(target)", "\(record.id)", "consistent from"])
        }
        // Nobody but replay knows where a time lies; and a clock that stepped back, or a hand, may have it meet any.
        let path = node.directory.path + "/restored"
        _ = try RestoreJob(node.repository, request(node, "restored", .immediate)).run()
        for target in inside.targets {
            for isInclusive in [true, false] {
                try rewrite(path) {
                    $0.target = target
                    $0.isInclusive = isInclusive
                }
                try expectRefused(
                    node, path, saying: ["before the backup is consistent", "\(target)", "\(record.stopLSN)"])
            }
        }
        // The same directory is fine for a target behind its stop.
        try rewrite(path) {
            $0.target = .name(after.name)
            $0.isInclusive = true
        }
        let engine = try open(node, path)
        #expect(try engine.allRecords()["0"]?[Array("mark".utf8)] == Array("after".utf8))
        try engine.close()
        try await node.stop()
    }

    @Test("D5: the archive ends before the target, although it did not when the restore planned")
    func notReached() async throws {
        let node = try await ArchivedNode()
        _ = try Self.mark(node.engine, "first")
        let record = try node.backup()
        let near = try Self.mark(node.engine, "near")
        try node.archiveEverything()
        let far = try Self.mark(node.engine, "far")
        _ = try Self.mark(node.engine, "end")
        try node.archiveEverything()
        // The segment that holds the mark, and what is behind it.
        let first = SegmentNumber(containing: far.lsn)
        let directory = node.directory.path + "/repository/main/wal/\(TimelineID.first)"
        let aside = node.directory.path + "/aside"
        try FileManager.default.createDirectory(atPath: aside, withIntermediateDirectories: false)
        var paths: [(RecoveryTarget, String)] = []
        for (number, target) in far.targets.enumerated() {
            let path = node.directory.path + "/restored-\(number)"
            _ = try RestoreJob(node.repository, request(node, "restored-\(number)", target)).run()
            paths.append((target, path))
        }
        for name in try FileManager.default.contentsOfDirectory(atPath: directory)
        where name.prefix(24) >= SegmentName(timeline: .first, segment: first).description {
            try FileManager.default.moveItem(atPath: directory + "/" + name, toPath: aside + "/" + name)
        }
        for (number, (target, path)) in paths.enumerated() {
            try expectRefused(
                node, path,
                saying: ["was not reached", "\(target)", "\(first.start)", "transaction \(near.transaction)"])
            // Now the restore knows it beforehand.
            try expectRefused(node, request(node, "none-\(number)", target), saying: ["\(target)"])
        }
        for name in try FileManager.default.contentsOfDirectory(atPath: aside) {
            try FileManager.default.moveItem(atPath: aside + "/" + name, toPath: directory + "/" + name)
        }
        for (_, path) in paths {
            let engine = try open(node, path)
            #expect(try engine.allRecords()["0"]?[Array("mark".utf8)] == Array("far".utf8))
            try engine.close()
        }
        #expect(record.stopLSN < near.lsn)
        try await node.stop()
    }

    @Test("D5: a backup too new for the target is refused by name; without a name an older one is taken")
    func backupTooNew() async throws {
        let node = try await ArchivedNode()
        _ = try Self.mark(node.engine, "first")
        let old = try node.backup()
        let between = try Self.mark(node.engine, "between")
        // The new backup begins in a later segment, and still knows what lies before it.
        try node.engine.switchWAL()
        let new = try node.backup()
        _ = try Self.mark(node.engine, "end")
        try node.archiveEverything()
        for (number, target) in between.targets.enumerated() {
            var request = request(node, "none-\(number)", target)
            request.backup = new.id.description
            try expectRefused(
                node, request, saying: ["\(new.id)", "cannot reach", "\(target)", "consistent from", "earlier one"])
            request.backup = nil
            #expect(try RestoreJob(node.repository, request).plan().backup.id == old.id)
        }
        try await node.stop()
    }

    @Test("D5: a backup that does not lie on the target timeline's history is refused, by the restore and by replay")
    func notOnHistory() async throws {
        let node = try await ArchivedNode()
        _ = try Self.mark(node.engine, "first")
        let shared = try node.backup()
        let fork = try Self.mark(node.engine, "fork")
        let abandoned = try node.backup()
        _ = try Self.mark(node.engine, "end")
        try node.archiveEverything()
        // A second timeline leaves the first one before the second backup, and grows past that backup's start.
        var branch = request(node, "branch", .name(fork.name))
        branch.action = .promote
        branch.isCopy = false
        _ = try RestoreJob(node.repository, branch).run()
        var options = EngineOptions(cacheBytes: 8 << 20, archiving: true)
        options.recovery = try ArchiveRecoverySource(node.repository, hold: nil)
        let promoted = try Engine(opening: RealDisk(root: branch.data), options: options)
        let timeline = promoted.status.timeline
        try #require(timeline > .first)
        while promoted.publishedLSN < abandoned.stopLSN {
            _ = try Self.mark(promoted, "right")
            try promoted.switchWAL()
        }
        let archive = node.archive
        try Archiver(try RealDisk(root: branch.data), connect: { archive }).archiveOnce()
        try promoted.close()

        var refused = request(node, "none", .latest)
        refused.timeline = .number(timeline)
        refused.backup = abandoned.id.description
        try expectRefused(
            node, refused, saying: ["\(abandoned.id)", "is not on the history", "\(timeline)", "branched off"])
        refused.backup = nil
        #expect(try RestoreJob(node.repository, refused).plan().backup.id == shared.id)
        // Replay trusts the signal's timeline no more than that.
        var request = request(node, "restored", .latest)
        request.backup = abandoned.id.description
        request.timeline = .current
        _ = try RestoreJob(node.repository, request).run()
        try rewrite(request.data) { $0.timeline = .number(timeline) }
        try expectRefused(node, request.data, saying: ["does not descend", "\(timeline)"])
        try rewrite(request.data) { $0.timeline = .number(TimelineID(9)) }
        try expectRefused(node, request.data, saying: ["no history of timeline", "00000009"])
        try rewrite(request.data) { $0.timeline = .number(.first) }
        let engine = try open(node, request.data)
        #expect(try engine.allRecords()["0"]?[Array("mark".utf8)] == Array("end".utf8))
        try engine.close()
        try await node.stop()
    }
}
