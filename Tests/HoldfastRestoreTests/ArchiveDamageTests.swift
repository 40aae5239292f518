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
        for target in [RecoveryTarget.lsn(early), .name("early"), .immediate] { try plan(target) }
        for target in [
            RecoveryTarget.latest, .lsn(late), .name("absent"), .time(microseconds: .max), .transaction(.init(1000)),
        ] {
            let error = #expect(throws: RepositoryError.self) { try plan(target) }
            #expect("\(String(describing: error))".contains("\(damaged)"), "\(target): \(String(describing: error))")
        }
        #expect(try node.restored(to: .name("early"), number: 1).allRecords()["0"]?.values.first == Array("2".utf8))
        try await node.stop()
    }

    @Test("C1, D1: a backup whose WAL in the archive is another node's is not reported good")
    func anotherNode() async throws {
        let node = try await ArchivedNode()
        try put(node, "1")
        try node.archiveEverything()
        // A node promoted apart has archived what it made of the same place in the log.
        let last = SegmentName(timeline: .first, segment: SegmentNumber(containing: node.engine.publishedLSN))
        let own = try #require(try node.archive.summary(last))
        let bytes = [UInt8](repeating: 7, count: SegmentNumber.bytes)
        for number in [last.segment.next, last.segment.next.next] {
            let segment = SegmentName(timeline: .first, segment: number)
            var foreign = own
            foreign.segment = segment
            foreign.token = .random()
            foreign.sha256 = SHA256Digest(of: bytes)
            let layout = node.repository.layout
            _ = try node.repository.store.create(layout.summary(segment), foreign.encoded())
            _ = try node.repository.store.create(layout.segment(segment, .none), bytes)
        }
        let error = #expect(throws: BackupError.self) { try node.backup() }
        guard case .otherTimeline = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(try node.repository.backups().allSatisfy { $0.usable == nil })
        try await node.stop()
    }
}
