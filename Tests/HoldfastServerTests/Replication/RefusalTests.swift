import Foundation
import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL
import HoldfastWire
import Testing

@testable import HoldfastServer

extension ServerTests {
    @Suite("Who cannot follow is told why, by a code")
    struct RefusalTests {
        private let first = LogLayout.firstPosition

        private func refusal(
            _ served: ServedEngine, slot: String = "-", timeline: Int = 1, from start: LSN, _ options: String...
        ) throws -> String {
            let reply = try TestFollower(served, slot: slot, timeline: timeline, from: start, options: options).reply
            return reply.errorText ?? "accepted"
        }

        @Test("another cluster, another history, a longer log")
        func histories() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                try served.anonymous()("SET", "a", "1")
                let status = served.engine.status
                let end = status.durableLSN
                let (system, token) = (status.systemIdentifier.description, status.timelineToken.description)
                #expect(try refusal(served, from: end, "SYSTEM", system, "TOKEN", token) == "accepted")
                let foreign = try refusal(served, from: end, "SYSTEM", "17")
                #expect(foreign.hasPrefix("FOREIGN this is another cluster (system identifier \(system)): "))
                #expect(foreign.contains("; hint: "))
                #expect(try refusal(served, from: end, "TOKEN", "00000000000000AA").hasPrefix("DIVERGED "))
                #expect(try refusal(served, timeline: 2, from: end).hasPrefix("DIVERGED "))
                #expect(try refusal(served, from: end + 8).hasPrefix("AHEAD "))
                #expect(try refusal(served, from: first + (1 << 40)).hasPrefix("AHEAD "))
            }
        }

        @Test("DIVERGED: the record before the place is another, or there is none")
        func chain() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                let client = try served.administrator()
                try client("SET", "a", "1")
                try client("WAL", "SWITCH")
                try client("SET", "b", "2")
                let end = served.engine.durableLSN
                // The places between records, with the CRC of the record before each.
                let history = TimelineHistory(first: served.engine.status.timelineToken)
                let reader = LogReader(
                    source: DiskSegmentSource(disk: try RealDisk(root: served.data)),
                    system: served.engine.status.systemIdentifier, history: history, from: first, chain: 0)
                var places: [(lsn: LSN, chain: UInt32)] = [(first, 0)]
                while reader.position < end, try reader.next() != nil {
                    places.append((reader.position, reader.chain!))
                }
                #expect(places.count > 6 && places.contains { $0.lsn == SegmentNumber(containing: end).start })
                for (lsn, chain) in places {
                    let right = hexadecimal(UInt64(chain), digits: 8), wrong = hexadecimal(UInt64(chain ^ 1), digits: 8)
                    #expect(try refusal(served, from: lsn, "CHAIN", right) == "accepted", "\(lsn)")
                    #expect(try refusal(served, from: lsn, "CHAIN", "-") == "accepted")
                    #expect(try refusal(served, from: lsn, "CHAIN", wrong).hasPrefix("DIVERGED "), "\(lsn)")
                }
                let inside = LSN(places[2].lsn.rawValue - 8)
                let refused = try refusal(served, from: inside, "CHAIN", "00000000")
                #expect(refused.hasPrefix("DIVERGED ") && refused.contains("no record ends there"))
            }
        }

        @Test("WALGONE: the segment was recycled, or removed while it was read")
        func gone() async throws {
            try await ServedEngine.with(options: quietOptions()) {
                $0.followerBufferBytes = 1 << 20
            } _: { served in
                let client = try served.administrator()
                let value = [UInt8](repeating: 7, count: 1 << 20)
                for index in 0..<40 { try client.call([Array("SET".utf8), Array("k\(index)".utf8), value]) }
                let lazy = try TestFollower(served, from: first)
                for _ in 0..<2 { try client("CHECKPOINT") }
                #expect(served.segments.first?.segment ?? SegmentNumber(0) > SegmentNumber(containing: first))
                #expect(try refusal(served, from: first).hasPrefix("WALGONE "))
                // Nothing of a segment that got another name is taken for what it was.
                #expect(throws: WireError.self) { while true { try lazy.message() } }
                #expect(lazy.position < served.engine.durableLSN)
                let sound = try MemorySegments.records(in: lazy.bytes, from: first, served.engine.status)
                #expect(sound > 0)
            }
        }

        @Test("E2: a follower that comes again has its slot once its first connection is silent, and nobody else has")
        func slotAgain() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                try served.administrator()("SLOT", "CREATE", "s")
                // Nothing ends this connection, and nothing is said on it.
                let dead = try TestFollower(served, slot: "s", from: first, options: ["INSTANCE", "i"])
                let administrator = try served.administrator()
                try waitUntil("it is silent for long") {
                    let text = try administrator("INFO", "replication").text ?? ""
                    return try Int(#require(text.firstMatch(of: /lag=(\d+)/)).1) ?? 0 > 4
                }
                #expect(try refusal(served, slot: "s", from: first).hasPrefix("BUSY "))
                #expect(try refusal(served, slot: "s", from: first, "INSTANCE", "k").hasPrefix("BUSY "))
                try waitUntil("the slot is given to who had it") {
                    try refusal(served, slot: "s", from: first, "INSTANCE", "i") == "accepted"
                }
                #expect(throws: WireError.self) { while true { try dead.message() } }
            }
        }

        @Test("slots: unknown, in use")
        func slots() async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                #expect(
                    try refusal(served, slot: "none", from: first).hasPrefix("DATAERR there is no such slot (none)"))
                try served.administrator()("SLOT", "CREATE", "s")
                let follower = try TestFollower(served, slot: "s", from: first)
                #expect(try refusal(served, slot: "s", from: first).hasPrefix("BUSY the slot is in use (s)"))
                follower.wire.close()
                try waitUntil("the slot is free again") {
                    try refusal(served, slot: "s", from: first) == "accepted"
                }
                // A refused follower leaves the slot as it was.
                try waitUntil("the slot is free again") {
                    try refusal(served, slot: "s", from: first, "SYSTEM", "17").hasPrefix("FOREIGN")
                }
                #expect(try refusal(served, slot: "s", from: first) == "accepted")
            }
        }

        @Test(
            "requests that make no sense",
            arguments: [
                "REPLICATE - 0 0/1000000", "REPLICATE - x 0/1000000", "REPLICATE - 1 0/1000001",
                "REPLICATE - 1 0/1000040",
                "REPLICATE - 1 0/8", "REPLICATE - 1 x", "REPLICATE a/b 1 0/1000000", "REPLICATE - 1 0/1000000 SYSTEM",
                "REPLICATE - 1 0/1000000 SYSTEM x", "REPLICATE - 1 0/1000000 TOKEN 1",
                "REPLICATE - 1 0/1000000 CHAIN 1",
                "REPLICATE - 1 0/1000000 NODE a/b", "REPLICATE - 1 0/1000000 VERSION 2",
                "REPLICATE - 1 0/1000000 OTHER 1", "REPLICATE - 4294967296 0/1000000",
            ])
        func malformed(_ line: String) async throws {
            try await ServedEngine.with(options: quietOptions()) { served in
                let client = try served.administrator()
                let reply = try client.pipeline([line, "PING"])
                #expect(reply[0].errorText?.hasPrefix("ERR REPLICATE slot|- timeline lsn") == true, "\(reply[0])")
                #expect(reply[1] == .simple("PONG"))
            }
        }
    }
}

/// Log in memory, for looking at what a follower has.
private enum MemorySegments {
    /// Counts the records in bytes that begin with a segment; throws when one is not sound.
    static func records(in bytes: [UInt8], from start: LSN, _ status: EngineStatus) throws -> Int {
        var segments: [SegmentName: [UInt8]] = [:]
        for at in stride(from: 0, to: bytes.count, by: SegmentNumber.bytes) {
            let name = SegmentName(timeline: .first, segment: SegmentNumber(containing: start + at))
            segments[name] = Array(bytes[at..<min(bytes.count, at + SegmentNumber.bytes)])
        }
        let reader = LogReader(
            source: MemorySegmentSource(segments), system: status.systemIdentifier,
            history: TimelineHistory(first: status.timelineToken), from: start, chain: 0)
        var count = 0
        while try reader.next() != nil { count += 1 }
        let reason = try #require(reader.end?.reason)
        #expect(reason == .shortSegment || reason == .missingSegment, "\(reason)")
        return count
    }
}
