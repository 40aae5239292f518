import Foundation
import HoldfastBackup
import HoldfastCore
import HoldfastEngine
import HoldfastReplica
import HoldfastRepository
import HoldfastRestore
import HoldfastTestSupport
import HoldfastWAL
import Synchronization
import Testing

@Suite("A promotion can be interrupted anywhere and goes on", .serialized)
struct PromotionTests {
    /// A source whose claims fail a number of times, as a repository that is away makes them.
    private final class FailingClaims: RecoverySource {
        private let source: ArchiveRecoverySource
        private let failures: Mutex<Int>
        init(_ source: ArchiveRecoverySource, failures: Int) {
            self.source = source
            self.failures = Mutex(failures)
        }
        struct Away: Error {}
        func segment(_ name: SegmentName, reusing spent: SegmentBuffer?) throws -> SegmentBuffer? {
            try source.segment(name, reusing: spent)
        }
        func holdsLater(than name: SegmentName) throws -> Bool { try source.holdsLater(than: name) }
        func history(_ timeline: TimelineID) throws -> [UInt8]? { try source.history(timeline) }
        func willReplay(_ timelines: [(timeline: TimelineID, from: LSN)]) { source.willReplay(timelines) }
        func timelineToClaim(own: [TimelineID], isForced: Bool) throws -> TimelineID {
            try source.timelineToClaim(own: own, isForced: isForced)
        }
        func claim(_ timeline: TimelineID, history: [UInt8]) throws {
            let isAway = failures.withLock { failures in
                failures -= 1
                return failures >= 0
            }
            if isAway { throw Away() }
            try source.claim(timeline, history: history)
        }
        func replayEnded() { source.replayEnded() }
    }

    /// The archive, but for what is done to a segment on the way; `nil`: it is missing.
    private final class AlteredSource: RecoverySource {
        private let source: ArchiveRecoverySource
        private let alter: @Sendable (SegmentName, [UInt8]) -> [UInt8]?
        private let otherHistory: [UInt8]?
        init(
            _ source: ArchiveRecoverySource, history: [UInt8]? = nil,
            _ alter: @escaping @Sendable (SegmentName, [UInt8]) -> [UInt8]?
        ) {
            self.source = source
            self.alter = alter
            otherHistory = history
        }
        func segment(_ name: SegmentName, reusing spent: SegmentBuffer?) throws -> SegmentBuffer? {
            try source.segment(name, reusing: spent).flatMap { alter(name, Array($0.bytes)) }.map { SegmentBuffer($0) }
        }
        func holdsLater(than name: SegmentName) throws -> Bool { try source.holdsLater(than: name) }
        func history(_ timeline: TimelineID) throws -> [UInt8]? { try otherHistory ?? source.history(timeline) }
        func willReplay(_ timelines: [(timeline: TimelineID, from: LSN)]) { source.willReplay(timelines) }
        func timelineToClaim(own: [TimelineID], isForced: Bool) throws -> TimelineID {
            try source.timelineToClaim(own: own, isForced: isForced)
        }
        func claim(_ timeline: TimelineID, history: [UInt8]) throws { try source.claim(timeline, history: history) }
        func replayEnded() { source.replayEnded() }
    }

    private struct Prepared {
        var node: ArchivedNode
        /// A commit behind the backup, with many dirty pages before it and more behind.
        var target: LSN
        var expected: [String: [[UInt8]: [UInt8]]]
    }

    private func prepared() async throws -> Prepared {
        let node = try await ArchivedNode()
        func write(_ round: Int) throws {
            try node.engine.write { transaction in
                for number in 0..<3000 {
                    try transaction.put("0", Array("key\(number)".utf8), Array("round \(round)".utf8))
                }
            }
        }
        try write(0)
        _ = try node.backup()
        for round in 1...5 { try write(round) }
        let expected = try node.engine.allRecords()
        let target = node.engine.publishedLSN
        for round in 6...8 { try write(round) }
        try node.archiveEverything()
        return Prepared(node: node, target: target, expected: expected)
    }

    private func restore(_ prepared: Prepared, _ name: String, _ action: TargetAction, isExclusive: Bool = false) throws
        -> String
    {
        let path = prepared.node.directory.path + "/" + name
        var request = RestoreRequest(data: path)
        request.target = .lsn(prepared.target)
        request.isInclusive = !isExclusive
        request.action = action
        request.takesOver = true
        _ = try RestoreJob(prepared.node.repository, request).run()
        return path
    }

    private func open(_ prepared: Prepared, _ path: String, failures: Int = 0, cacheBytes: Int = 64 << 20) throws
        -> Engine
    {
        var options = EngineOptions(cacheBytes: cacheBytes, archiving: true)
        options.recovery = FailingClaims(
            try ArchiveRecoverySource(prepared.node.repository, hold: nil), failures: failures)
        return try Engine(opening: RealDisk(root: path), options: options)
    }

    @Test("D5: a node that waits at its target serves reads, refuses writes, and is promoted with all its pages")
    func pausedThenPromoted() async throws {
        let prepared = try await prepared()
        let path = try restore(prepared, "paused", .pause)
        // A small cache: replay's pages do not fit, so that some are written while it waits.
        let engine = try open(prepared, path, failures: 1, cacheBytes: 1 << 20)
        #expect(engine.status.role == .recovering)
        #expect(try engine.allRecords() == prepared.expected)
        #expect(throws: EngineError.self) { try engine.write { try $0.put("0", Array("x".utf8), []) } }
        // The repository is away at the first attempt; the node still waits, and the second one succeeds.
        #expect(throws: FailingClaims.Away.self) { try engine.promote() }
        #expect(try engine.allRecords() == prepared.expected)
        try engine.promote()
        #expect(engine.status.role == .leader)
        #expect(engine.status.timeline > .first)
        try engine.write { try $0.put("1", Array("after".utf8), Array("promotion".utf8)) }
        var expected = prepared.expected
        expected["1"] = [Array("after".utf8): Array("promotion".utf8)]
        #expect(try engine.allRecords() == expected)
        engine.abandon()
        // After a crash it is an ordinary leader: nothing asks for the archive any more.
        let again = try Engine(opening: RealDisk(root: path), options: EngineOptions(archiving: true))
        #expect(try again.allRecords() == expected)
        for name in ["backup_label", "recovery.signal", "promote.signal"] {
            #expect(!FileManager.default.fileExists(atPath: path + "/" + name))
        }
        try again.close()
        try await prepared.node.stop()
    }

    @Test("D5: a promotion that failed at its claim is gone on with by the next start", arguments: [false, true])
    func failedClaim(_ isExclusive: Bool) async throws {
        let prepared = try await prepared()
        let path = try restore(prepared, "failed-\(isExclusive)", .promote, isExclusive: isExclusive)
        #expect(throws: FailingClaims.Away.self) { try open(prepared, path, failures: 1) }
        #expect(throws: FailingClaims.Away.self) { try open(prepared, path, failures: 1) }
        let engine = try open(prepared, path)
        #expect(engine.status.timeline > .first)
        if !isExclusive { #expect(try engine.allRecords() == prepared.expected) }
        try engine.close()
        try await prepared.node.stop()
    }

    @Test("D5: the default timeline is the newest branch, although an abandoned one has a newer backup")
    func newestBranch() async throws {
        let prepared = try await prepared()
        // A second backup, on what is about to be abandoned.
        let abandoned = try prepared.node.backup()
        try prepared.node.engine.write { try $0.put("1", Array("abandoned".utf8), Array("1".utf8)) }
        try prepared.node.archiveEverything()
        let path = try restore(prepared, "branch", .promote)
        let engine = try open(prepared, path)
        try engine.write { try $0.put("1", Array("kept".utf8), Array("1".utf8)) }
        let expected = try engine.allRecords()
        try engine.switchWAL()
        let archive = prepared.node.archive
        try Archiver(try RealDisk(root: path), connect: { archive }).archiveOnce()

        var request = RestoreRequest(data: prepared.node.directory.path + "/again")
        request.action = .pause
        request.isCopy = true
        let plan = try RestoreJob(prepared.node.repository, request).plan()
        #expect(plan.history.timeline == engine.status.timeline)
        #expect(plan.backup.id < abandoned.id)
        _ = try RestoreJob(prepared.node.repository, request).run()
        let again = try open(prepared, request.data)
        #expect(try again.allRecords() == expected)
        try again.close()
        // The abandoned branch is reached by naming its timeline.
        request.data = prepared.node.directory.path + "/named"
        request.timeline = .number(.first)
        _ = try RestoreJob(prepared.node.repository, request).run()
        let named = try open(prepared, request.data)
        #expect(try named.allRecords()["1"]?[Array("abandoned".utf8)] != nil)
        try named.close()
        // Without its backup the newest branch is not silently replaced by the abandoned one.
        let marker = prepared.node.repository.layout.backup(plan.backup.id).text + "/backup.json"
        try Data("nonsense".utf8).write(
            to: URL(filePath: prepared.node.directory.path + "/repository/" + marker))
        request.timeline = .latest
        #expect(throws: RepositoryError.self) { try RestoreJob(prepared.node.repository, request).plan() }
        request.timeline = .number(.first)
        #expect(try RestoreJob(prepared.node.repository, request).plan().backup.id == abandoned.id)
        try engine.close()
        try await prepared.node.stop()
    }

    @Test("D5: where no backup lies in the newest branch's past, the default is the newest branch that has one")
    func branchWithoutBackup() async throws {
        let prepared = try await prepared()
        let repository = prepared.node.repository
        let first = try #require(try repository.backups().compactMap(\.usable).last)
        let abandoned = try prepared.node.backup()
        let branch = try open(prepared, try restore(prepared, "without", .promote))
        #expect(branch.status.timeline > .first)
        try branch.close()
        try FileManager.default.removeItem(
            atPath: prepared.node.directory.path + "/repository/main/backups/\(first.id)")
        var request = RestoreRequest(data: prepared.node.directory.path + "/latest")
        request.isCopy = true
        let plan = try RestoreJob(repository, request).plan()
        #expect(plan.backup.id == abandoned.id && plan.history.timeline == .first)
        try await prepared.node.stop()
    }

    @Test("D5: a branch that leaves its timeline's past before that timeline began descends from the past alone")
    func earlierBranch() async throws {
        let prepared = try await prepared()
        let repository = prepared.node.repository
        let backup = try #require(try repository.backups().compactMap(\.usable).last)
        let second = try open(prepared, try restore(prepared, "second", .promote))
        let timeline = second.status.timeline
        try second.switchWAL()
        try second.close()
        // Along the second timeline's history, to a place before its beginning.
        var request = RestoreRequest(data: prepared.node.directory.path + "/third")
        request.timeline = .number(timeline)
        request.target = .lsn(backup.stopLSN)
        request.takesOver = true
        _ = try RestoreJob(repository, request).run()
        let third = try open(prepared, request.data)
        #expect(third.status.timeline > timeline)
        let history = try #require(try repository.history(third.status.timeline))
        let entries = try TimelineHistory(decoding: history).entries.map(\.timeline)
        #expect(entries == [.first, third.status.timeline])
        try third.close()
        try await prepared.node.stop()
    }

    @Test("D1, D5: a commit that runs on out of the segment where a timeline begins is archived, and restored again")
    func continuedCommit() async throws {
        let prepared = try await prepared()
        let path = try restore(prepared, "continued", .promote)
        let engine = try open(prepared, path)
        let fork = SegmentNumber(containing: prepared.target)
        // More than a segment, from the one that the timelines share into the next ones.
        try engine.write { transaction in
            for number in 0..<24 {
                try transaction.put(
                    "1", Array("large\(number)".utf8), [UInt8](repeating: UInt8(number), count: 1 << 20))
            }
        }
        try #require(SegmentNumber(containing: engine.publishedLSN) > fork)
        let expected = try engine.allRecords()
        try engine.switchWAL()
        let archive = prepared.node.archive
        try Archiver(try RealDisk(root: path), connect: { archive }).archiveOnce()
        let branch = SegmentName(timeline: engine.status.timeline, segment: fork.next)
        #expect(try archive.summary(branch) != nil, "\(branch) is archived")

        var request = RestoreRequest(data: prepared.node.directory.path + "/continued-again")
        request.action = .pause
        request.isCopy = true
        _ = try RestoreJob(prepared.node.repository, request).run()
        let again = try open(prepared, request.data)
        #expect(try again.allRecords() == expected)
        try again.close()
        try engine.close()
        try await prepared.node.stop()
    }

    @Test("A5: a sync that fails while a waiting node is promoted stops it for good, whichever sync it is")
    func failedSync() async throws {
        let prepared = try await prepared()
        let path = try restore(prepared, "failed-sync", .pause)
        var failing = 0
        while true {
            // The restored directory, on a disk whose syncs can fail.
            let disk = SimulatedDisk(seed: UInt64(failing))
            try copy(path, to: disk)
            var options = EngineOptions(cacheBytes: 64 << 20, archiving: true, runsBackgroundWork: false)
            options.recovery = try ArchiveRecoverySource(prepared.node.repository, hold: nil)
            options.onFatal = { _ in }
            let engine = try Engine(opening: disk, options: options)
            let number = failing
            let syncs = Atomic(-1)
            disk.injectFaults { call in
                guard call.kind == .sync || call.kind == .syncDirectory else { return nil }
                return syncs.add(1, ordering: .relaxed).newValue == number ? .error(.inputOutput) : nil
            }
            let first = Result { try engine.promote() }
            guard case .failure = first else {
                engine.abandon()
                break
            }
            // The second call finds the reason and does nothing, whatever it could do by now.
            let second = #expect(throws: EngineError.self, "sync \(failing)") { try engine.promote() }
            if case .stopped = second {} else { Issue.record("sync \(failing): \(String(describing: second))") }
            #expect(engine.status.role == .recovering)
            engine.abandon()
            failing += 1
        }
        print("a promotion makes \(failing) syncs")
        #expect(failing > 3)
        try await prepared.node.stop()
    }

    private func copy(_ path: String, to disk: SimulatedDisk) throws {
        for name in try FileManager.default.subpathsOfDirectory(atPath: path).sorted() {
            var isDirectory: ObjCBool = false
            _ = FileManager.default.fileExists(atPath: path + "/" + name, isDirectory: &isDirectory)
            if isDirectory.boolValue {
                try disk.createDirectory(name)
            } else {
                let file = try disk.open(name, .create)
                try file.write(bytes: Array(Data(contentsOf: URL(filePath: path + "/" + name))), at: 0)
                try file.sync()
                file.close()
            }
            try disk.syncDirectory(name.contains("/") ? String(name[..<name.lastIndex(of: "/")!]) : "")
        }
    }

    @Test("D4: replay to the archive's end stops neither inside a segment nor before one that is missing")
    func brokenOff() async throws {
        let prepared = try await prepared()
        let node = prepared.node
        // One segment more, the archive's last.
        try node.engine.write { try $0.put("1", Array("late".utf8), Array("1".utf8)) }
        let late = node.engine.publishedLSN
        try node.archiveEverything()
        var request = RestoreRequest(data: node.directory.path + "/broken-off")
        request.action = .pause
        request.isCopy = true
        _ = try RestoreJob(node.repository, request).run()
        let middle = SegmentName(timeline: .first, segment: SegmentNumber(containing: prepared.target))
        let last = SegmentName(timeline: .first, segment: SegmentNumber(containing: late))
        try #require(middle < last)
        let cut = LogLayout.offset(late)
        let variants: [(SegmentName, @Sendable (SegmentName, [UInt8]) -> [UInt8]?)] = [
            (
                last,
                { name, bytes in
                    name == last ? bytes[..<cut] + [UInt8](repeating: 0, count: bytes.count - cut) : bytes
                }
            ),
            (middle, { name, bytes in name == middle ? nil : bytes }),
        ]
        for (altered, alter) in variants {
            var options = EngineOptions(cacheBytes: 8 << 20, archiving: false)
            options.recovery = AlteredSource(try ArchiveRecoverySource(node.repository, hold: nil), alter)
            let error = #expect(throws: EngineError.self) {
                try Engine(opening: RealDisk(root: request.data), options: options).close()
            }
            #expect(error?.description.contains(altered.description) == true, "\(String(describing: error))")
        }
        var options = EngineOptions(cacheBytes: 8 << 20, archiving: false)
        options.recovery = try ArchiveRecoverySource(node.repository, hold: nil)
        try Engine(opening: RealDisk(root: request.data), options: options).close()
        try await node.stop()
    }

    @Test("D5: a timeline that has the backup's number and is another is followed neither by the plan nor by replay")
    func otherTimeline() async throws {
        let prepared = try await prepared()
        let node = prepared.node
        var request = RestoreRequest(data: node.directory.path + "/other-timeline")
        request.action = .pause
        request.isCopy = true
        _ = try RestoreJob(node.repository, request).run()
        let other = TimelineHistory(first: .random())
        var options = EngineOptions(cacheBytes: 8 << 20, archiving: false)
        options.recovery = AlteredSource(
            try ArchiveRecoverySource(node.repository, hold: nil), history: other.encoded()
        ) { $1 }
        let replay = #expect(throws: EngineError.self) {
            try Engine(opening: RealDisk(root: request.data), options: options).close()
        }
        #expect(replay?.description.contains("does not descend") == true, "\(String(describing: replay))")
        // A branch of it, newer than anything that the backup's timeline has.
        let branch = try other.branching(
            .init(timeline: TimelineID(2), switchLSN: prepared.target, token: .random(), reason: "a stranger's"))
        try node.repository.claim(TimelineID(2), history: branch.encoded())
        request.data += "-again"
        #expect(try RestoreJob(node.repository, request).plan().history.timeline == .first)
        request.timeline = .number(TimelineID(2))
        let plan = #expect(throws: RestoreError.self) { try RestoreJob(node.repository, request).plan() }
        guard case .notOnHistory(_, TimelineID(2)) = plan else {
            Issue.record("\(String(describing: plan))")
            return
        }
        try await node.stop()
    }

    @Test("a target behind an old gap is reached from a newer backup, and one inside it names the segment")
    func gap() async throws {
        let prepared = try await prepared()
        let second = try prepared.node.backup()
        try prepared.node.engine.write { try $0.put("1", Array("late".utf8), Array("1".utf8)) }
        let late = prepared.node.engine.publishedLSN
        try prepared.node.archiveEverything()
        // A segment between the backups goes.
        let lost = SegmentName(timeline: .first, segment: SegmentNumber(second.wal.first.segment.rawValue - 1))
        let directory = prepared.node.directory.path + "/repository/main/wal/\(lost.timeline)"
        for name in try FileManager.default.contentsOfDirectory(atPath: directory)
        where name.hasPrefix(lost.description) {
            try FileManager.default.removeItem(atPath: directory + "/" + name)
        }
        var request = RestoreRequest(data: prepared.node.directory.path + "/behind")
        request.isCopy = true
        request.target = .lsn(late)
        #expect(try RestoreJob(prepared.node.repository, request).plan().backup.id == second.id)
        request.target = .lsn(LSN(lost.segment.start.rawValue + 4096))
        let error = #expect(throws: RestoreError.self) { try RestoreJob(prepared.node.repository, request).plan() }
        #expect(error?.description.contains(lost.description) == true, "\(String(describing: error))")
        try await prepared.node.stop()
    }
}
