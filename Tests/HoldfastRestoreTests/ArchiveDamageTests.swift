import Foundation
import HoldfastArchive
import HoldfastBackup
import HoldfastCore
import HoldfastEngine
import HoldfastRestore
import HoldfastTestSupport
import HoldfastWAL
import Testing

@testable import HoldfastRepository

@Suite("A damaged archive refuses what needs the damaged part, and nothing else")
struct ArchiveDamageTests {
    private func put(_ node: ArchivedNode, _ value: String) throws {
        try node.engine.write { try $0.put("0", Array("key".utf8), Array(value.utf8)) }
    }

    @Test("D4: a damaged summary at the archive's end refuses only targets that lie there")
    func lastSummary() async throws {
        let node = try await ArchivedNode()
        try put(node, "1")
        _ = try node.backup()
        try put(node, "2")
        let early = node.engine.publishedLSN
        _ = try node.engine.restorePoint("early")
        try node.archiveEverything()
        try put(node, "3")
        let late = node.engine.publishedLSN
        try node.archiveEverything()
        let damaged = SegmentName(timeline: .first, segment: SegmentNumber(containing: late))
        let path = node.directory.path + "/repository/" + node.repository.layout.summary(damaged).text
        try Data("nonsense".utf8).write(to: URL(filePath: path))

        func plan(_ target: RecoveryTarget) throws {
            var request = RestoreRequest(data: node.directory.path + "/restored")
            request.isCopy = true
            request.target = target
            _ = try RestoreJob(node.repository, request).plan()
        }
        for target in [RecoveryTarget.lsn(early), .immediate] { try plan(target) }
        // A second point of the name may be in what cannot be read: which is meant only a person knows.
        let ambiguous = #expect(throws: RestoreError.self) { try plan(.name("early")) }
        #expect("\(String(describing: ambiguous))".contains("--target-lsn"), "\(String(describing: ambiguous))")
        for target in [
            RecoveryTarget.latest, .lsn(late), .name("absent"), .time(microseconds: .max), .transaction(.init(1000)),
        ] {
            let error = #expect(throws: RepositoryError.self) { try plan(target) }
            #expect("\(String(describing: error))".contains("\(damaged)"), "\(target): \(String(describing: error))")
        }
        #expect(try node.restored(to: .lsn(early), number: 1).allRecords()["0"]?.values.first == Array("2".utf8))
        try await node.stop()
    }

    @Test("D4: a damaged summary on the way to the target is told before the directory is touched")
    func middleSummary() async throws {
        let node = try await ArchivedNode()
        try put(node, "1")
        _ = try node.backup()
        var ends: [LSN] = []
        for value in ["2", "3", "4"] {
            try put(node, value)
            ends.append(node.engine.publishedLSN)
            _ = try node.engine.restorePoint("point-\(value)")
            try node.archiveEverything()
        }
        let time = Int64(Date.now.timeIntervalSince1970 * 1e6)
        try put(node, "5")
        try node.archiveEverything()
        let damaged = SegmentName(timeline: .first, segment: SegmentNumber(containing: ends[1]))
        let path = node.directory.path + "/repository/" + node.repository.layout.summary(damaged).text
        try FileManager.default.removeItem(atPath: path)
        try Data("nonsense".utf8).write(to: URL(filePath: path))
        var request = RestoreRequest(data: node.directory.path + "/restored")
        request.isCopy = true
        for target in [RecoveryTarget.lsn(ends[2]), .latest, .time(microseconds: time)] {
            request.target = target
            let error = #expect(throws: RepositoryError.self) { try RestoreJob(node.repository, request).run() }
            #expect("\(String(describing: error))".contains("\(damaged)"), "\(target): \(String(describing: error))")
            #expect(!FileManager.default.fileExists(atPath: request.data))
        }
        request.target = .lsn(ends[0])
        _ = try RestoreJob(node.repository, request).plan()
        try await node.stop()
    }

    /// Of a node that was promoted apart; of this one before its directory was put back to an earlier state.
    enum Foreigner: CaseIterable { case anotherNode, earlierLife }

    @Test("C1, D1: a backup whose WAL in the archive is another's is not reported good", arguments: Foreigner.allCases)
    func foreignWAL(_ foreigner: Foreigner) async throws {
        let node = try await ArchivedNode()
        try put(node, "1")
        try node.archiveEverything()
        // It has archived what it made of the same place in the log.
        let last = SegmentName(timeline: .first, segment: SegmentNumber(containing: node.engine.publishedLSN))
        let own = try #require(try node.archive.summary(last))
        let bytes = [UInt8](repeating: 7, count: SegmentNumber.bytes)
        for number in [last.segment.next, last.segment.next.next] {
            let segment = SegmentName(timeline: .first, segment: number)
            var foreign = own
            foreign.segment = segment
            if foreigner == .anotherNode { foreign.token = .random() }
            foreign.records?.end = segment.segment.end
            foreign.sha256 = SHA256Digest(of: bytes)
            foreign.crc32c = bytes.withUnsafeBytes { SegmentSummary.checksum(of: $0) }
            let layout = node.repository.layout
            _ = try node.repository.store.create(layout.summary(segment), foreign.encoded())
            _ = try node.repository.store.create(layout.segment(segment, .none), bytes)
        }
        let error = #expect(throws: BackupError.self) { try node.backup() }
        switch (foreigner, error) {
        case (.anotherNode, .otherTimeline), (.earlierLife, .endMissing): break
        default: Issue.record("\(String(describing: error))")
        }
        #expect(try node.repository.backups().allSatisfy { $0.usable == nil })
        try await node.stop()
    }
}
