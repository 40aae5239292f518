import Foundation
import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL
import HoldfastWire
import Testing

@testable import HoldfastServer

/// A follower that keeps the bytes it gets, and says what a test tells it to. One thread at a time uses it.
final class TestFollower: @unchecked Sendable {
    let wire: WireClient
    /// What `REPLICATE` was answered with.
    let reply: WireValue
    let start: LSN
    /// Bytes of the log from `start` on.
    private(set) var bytes: [UInt8] = []
    /// The newest message.
    private(set) var last: ReplicationMessage?

    var position: LSN { start + bytes.count }

    /// Asks for the log; an error is in `reply`.
    init(
        _ served: ServedEngine, slot: String = "-", timeline: Int = 1, from start: LSN, options: [String] = [],
        version: WireVersion = .resp3
    ) throws {
        wire = try served.administrator(version).wire
        self.start = start
        wire.send((["REPLICATE", slot, "\(timeline)", "\(start)"] + options).map { Array($0.utf8) })
        reply = try wire.receive()
    }

    /// The next message; its bytes are checked to follow, and kept.
    @discardableResult
    func message(seconds: Double = 20) throws -> (header: ReplicationMessage, body: [UInt8]) {
        let reply = try wire.receive(patience: .seconds(seconds))
        let message = try #require(reply.bytes, "\(reply)")
        let header = try message.withUnsafeBytes { try ReplicationMessage(reading: $0) }
        let body = Array(message[ReplicationMessage.headerBytes...])
        if header.kind == .wal {
            try #require(header.lsn == position, "bytes of \(header.lsn) come at \(position)")
            try #require(header.lsn + body.count <= header.durable, "more than is durable")
            try #require(
                SegmentNumber(containing: header.lsn)
                    == SegmentNumber(containing: LSN(header.lsn.rawValue + UInt64(body.count) - 1)),
                "a message across a segment's end")
            bytes += body
        }
        last = header
        return (header, body)
    }

    /// Reads until everything below `lsn` is here.
    func receive(through lsn: LSN) throws {
        while position < lsn { try message() }
    }

    func acknowledge(written: LSN, flushed: LSN, applied: LSN) throws {
        wire.send("ACK", "\(written)", "\(flushed)", "\(applied)", "\(systemClockMicroseconds())")
        try wire.flush()
    }

    /// Everything below is on its disk, and seen by its readers.
    func acknowledge(_ lsn: LSN) throws { try acknowledge(written: lsn, flushed: lsn, applied: lsn) }
}

extension ServedEngine {
    var data: String { directory.path + "/data" }
    var segments: [SegmentName] {
        ((try? FileManager.default.contentsOfDirectory(atPath: data + "/wal")) ?? []).compactMap { SegmentName($0) }
            .sorted()
    }

    /// The log's bytes as its files hold them.
    func logBytes(_ range: Range<LSN>) throws -> [UInt8] {
        var bytes: [UInt8] = []
        var at = range.lowerBound
        while at < range.upperBound {
            let number = SegmentNumber(containing: at)
            let end = min(range.upperBound, number.end)
            let path = data + "/wal/\(SegmentName(timeline: .first, segment: number))"
            let file = try FileHandle(forReadingFrom: URL(filePath: path))
            defer { try? file.close() }
            try file.seek(toOffset: UInt64(at - number.start))
            bytes += try file.read(upToCount: end - at) ?? Data()
            at = end
        }
        return bytes
    }

    /// As `STATUS` tells it.
    func followers() throws -> [WireValue] { try administrator()("STATUS")["followers"]?.elements ?? [] }

    /// As `SLOT LIST` tells it.
    func slot(_ name: String) throws -> WireValue? {
        try administrator()("SLOT", "LIST").elements?.first { $0["name"] == .text(name) }
    }
}

/// Options for engines whose log moves only when a test writes.
func quietOptions(slotWALBytes: Int = 4 << 30) -> EngineOptions {
    EngineOptions(cacheBytes: 16 << 20, runsBackgroundWork: false, slotWALBytes: slotWALBytes)
}
