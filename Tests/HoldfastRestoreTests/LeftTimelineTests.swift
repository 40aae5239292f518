import Foundation
import HoldfastCore
import HoldfastEngine
import HoldfastServer
import HoldfastTestSupport
import HoldfastWAL
import HoldfastWire
import Logging
import Testing

@Suite("A follower of a timeline that was left gets it to its end, and is told where it goes on", .serialized)
struct LeftTimelineTests {
    private struct Alone: ServerComposition {
        func promote(_ options: PromotionOptions) throws -> [(name: String, value: WireValue)] { [] }
        func archiveReport() -> ArchiveReport? { nil }
        func apply(_ settings: RuntimeSettings) throws {}
        func shutdown() {}
    }

    /// Asks for the log; returns the reply, or its error.
    private func ask(_ client: WireClient, _ timeline: Int, _ lsn: LSN) throws -> WireValue {
        client.send("REPLICATE", "-", "\(timeline)", "\(lsn)")
        return try client.receive()
    }

    @Test("promotion at an LSN in a segment's middle")
    func left() async throws {
        let node = try await ArchivedNode()
        let backup = try node.backup()
        try node.engine.write { try $0.put("0", Array("a".utf8), Array("1".utf8)) }
        let target = node.engine.durableLSN
        for index in 0..<20 { try node.engine.write { try $0.put("0", Array("b\(index)".utf8), Array("2".utf8)) } }
        try node.archiveEverything()
        let restored = try node.restored(to: .lsn(target), number: 1)
        try restored.promote()
        let history = try restored.timelineHistory()
        let end = history.current.switchLSN
        let number = SegmentNumber(containing: end)
        #expect(
            history.timeline == TimelineID(2) && LogLayout.offset(end) > 0 && LSN(backup.stopLSN.description) != nil)
        let own = try Array(
            Data(contentsOf: URL(filePath: node.data + "/wal/\(SegmentName(timeline: .first, segment: number))")))

        var configuration = ServerConfiguration()
        configuration.listen = nil
        configuration.socket = node.directory.path + "/restored.sock"
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        let server = try LeaderServer(
            engine: restored, configuration: configuration, identity: ServerIdentity(version: "test", data: node.data),
            composition: Alone(), logger: logger)
        let address = try #require(try await server.start().unix)

        let first = try WireClient(to: address)
        let reply = try ask(first, 1, number.start)
        #expect(reply["timeline"] == .integer(2) && reply["history"]?.bytes == history.encoded())
        #expect(reply["token"]?.text == history.entries[0].token.description)
        var bytes: [UInt8] = []
        while true {
            let message = try #require(try first.receive().bytes)
            let header = try message.withUnsafeBytes { try ReplicationMessage(reading: $0) }
            let body = Array(message[ReplicationMessage.headerBytes...])
            guard header.kind == .wal else {
                #expect(header.kind == .end && header.lsn == end && header.timeline == TimelineID(2))
                #expect(body == history.encoded())
                break
            }
            #expect(header.timeline == .first)
            bytes += body
        }
        // As the old timeline's own file has them, though only the new one's is here.
        #expect(bytes == Array(own[..<LogLayout.offset(end)]))

        let second = try WireClient(to: address)
        #expect(try ask(second, 2, number.start)["lsn"]?.text == number.start.description)
        let message = try #require(try second.receive().bytes)
        let header = try message.withUnsafeBytes { try ReplicationMessage(reading: $0) }
        #expect(header.timeline == TimelineID(2) && header.lsn == number.start)
        let file = try Data(
            contentsOf: URL(
                filePath: restored.directory(beside: node)
                    + "/wal/\(SegmentName(timeline: TimelineID(2), segment: number))"))
        #expect(
            Array(message[ReplicationMessage.headerBytes...])
                == Array(file[..<(message.count - ReplicationMessage.headerBytes)]))

        let at = try ask(WireClient(to: address), 1, end)
        #expect(at["lsn"]?.text == end.description, "the very end is still on it")
        for (timeline, lsn, code) in [
            (1, end + 8, "DIVERGED"), (3, end, "DIVERGED"), (2, LSN(number.start.rawValue - 64), "DATAERR"),
            (1, LogLayout.firstPosition, number.start == LogLayout.firstPosition ? "" : "WALGONE"),
        ] where !code.isEmpty {
            let refused = try ask(WireClient(to: address), timeline, lsn)
            guard case .error(let text) = refused else {
                Issue.record("accepted: timeline \(timeline) at \(lsn)")
                continue
            }
            #expect(text.hasPrefix(code + " "), "\(text)")
        }
        await server.stop()
        try restored.close()
        try await node.stop()
    }
}

extension Engine {
    /// Where `ArchivedNode.restored(number: 1)` put it.
    fileprivate func directory(beside node: ArchivedNode) -> String { node.directory.path + "/restored-1" }
}
