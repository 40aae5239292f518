import Glibc
import HoldfastArchive
import HoldfastCore
import HoldfastRepositoryTestSupport
import HoldfastTestSupport
import Testing

@testable import HoldfastRepository

@Suite("The WAL archive keeps what was pushed, once, and returns nothing else")
struct WALArchiveTests {
    static let system = SystemIdentifier(rawValue: 7)
    static let token = TimelineToken(rawValue: 0xFEED)
    let store = MemoryStore()
    let archive: WALArchive

    init() throws { archive = try Self.archive(store) }

    static func archive(
        _ store: any ObjectStore, _ compression: Compression = Compression(.zstd, level: 1), machine: String = "a"
    ) throws -> WALArchive {
        WALArchive(
            try Repository.openOrCreate(
                store, cluster: "main", systemIdentifier: system, environment: FakeMachine(machine).environment),
            compression: compression)
    }

    static func name(_ number: UInt64, timeline: UInt32 = 1) -> SegmentName {
        SegmentName(timeline: TimelineID(timeline), segment: SegmentNumber(number))
    }

    /// A segment whose first bytes say which it is.
    static func bytes(_ number: UInt64, variant: UInt8 = 0) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: SegmentNumber.bytes)
        for index in 0..<500 { bytes[index] = UInt8(truncatingIfNeeded: Int(number) &* 31 &+ index &* 7) }
        bytes[9000] = variant
        return bytes
    }

    static func summary(
        _ name: SegmentName, _ bytes: [UInt8], system: SystemIdentifier = system, token: TimelineToken = token
    ) -> SegmentSummary {
        SegmentSummary(
            segment: name, systemIdentifier: system, token: token, bytes: bytes.count,
            sha256: SHA256Digest(of: bytes), crc32c: bytes.withUnsafeBytes { SegmentSummary.checksum(of: $0) },
            records: nil, commits: nil,
            pageRuns: [.init(first: PageNumber(3), count: 2)], restorePoints: [])
    }

    @discardableResult
    static func push(
        _ archive: WALArchive, _ name: SegmentName, _ bytes: [UInt8], _ summary: SegmentSummary? = nil
    ) throws -> WALArchive.PushResult {
        try bytes.withUnsafeBytes {
            try archive.push(name, plaintext: $0, summary: summary ?? Self.summary(name, bytes))
        }
    }

    @Test("D1: a segment pushed while the repository's file system goes is not taken for stored")
    func unmountedMeanwhile() throws {
        let faulty = FaultyStore(store)
        let archive = try Self.archive(faulty)
        let name = Self.name(1)
        // What is written from here on goes to the directory beneath.
        let store = store
        let record = archive.repository.layout.clusterRecord
        let bytes = try #require(try store.read(record, limit: 1 << 20))
        faulty.before("put") { try? store.delete(record) }
        var error = #expect(throws: StoreError.self) { try Self.push(archive, name, Self.bytes(1)) }
        #expect(error?.reason == .away)
        _ = try store.create(record, bytes)
        #expect(try Self.push(archive, name, Self.bytes(1)) == .alreadyThere)
        // It was away for a moment only: the summary went beneath.
        let second = Self.name(2)
        let summary = archive.layout.summary(second)
        faulty.before("put") { try? store.delete(summary) }
        error = #expect(throws: StoreError.self) { try Self.push(archive, second, Self.bytes(2)) }
        #expect(error?.reason == .away)
        #expect(try Self.push(archive, second, Self.bytes(2)) == .alreadyThere)
        #expect(try archive.summary(second) != nil)
    }

    @Test("D2: the same segment twice, under any codec: fine; other content: refused by name, and the first stays")
    func twice() throws {
        let name = Self.name(1)
        let bytes = Self.bytes(1)
        guard case .stored = try Self.push(archive, name, bytes) else {
            Issue.record("it was new")
            return
        }
        let paths = store.paths
        #expect(try Self.push(archive, name, bytes) == .alreadyThere)
        for codec in Codec.allCases {
            let other = try Self.archive(store, Compression(codec, level: 1))
            #expect(try Self.push(other, name, bytes) == .alreadyThere)
            #expect(try same(other.fetch(name), bytes))
        }
        #expect(store.paths == paths)
        do {
            try Self.push(archive, name, Self.bytes(1, variant: 1))
            Issue.record("other content was accepted")
        } catch RepositoryError.segmentConflict(let refused, let why) {
            #expect(refused == name)
            #expect(why.contains("other content"))
        }
        #expect(try same(archive.fetch(name), bytes))
    }

    @Test("D2: a segment of another cluster, or of another timeline with this number, is refused by name")
    func foreign() throws {
        let bytes = Self.bytes(1)
        let other = Self.summary(Self.name(1), bytes, system: SystemIdentifier(rawValue: 8))
        #expect(throws: RepositoryError.self) { try Self.push(archive, Self.name(1), bytes, other) }
        #expect(store.paths == ["main/cluster.json"])
        try Self.push(archive, Self.name(1), bytes)
        // A segment number that nobody pushed, from a node whose timeline 1 is another one.
        let fork = Self.summary(Self.name(2), Self.bytes(2), token: TimelineToken(rawValue: 0xBAD))
        let fresh = try Self.archive(store, machine: "b")
        #expect(throws: RepositoryError.self) { try Self.push(fresh, Self.name(2), Self.bytes(2), fork) }
        let misnamed = Self.summary(Self.name(3), Self.bytes(2))
        #expect(throws: RepositoryError.self) { try Self.push(archive, Self.name(2), Self.bytes(2), misnamed) }
        #expect(try archive.segments(of: .first).map(\.name) == [Self.name(1)])
    }

    @Test("D2: a segment whose token differs from its timeline's history is refused")
    func history() throws {
        try archive.repository.claim(TimelineID(2), history: [0xBE])
        let claimed = WALArchive(archive.repository) { _, bytes in TimelineToken(rawValue: UInt64(bytes[0])) }
        let name = Self.name(4, timeline: 2)
        let bytes = Self.bytes(4)
        #expect(throws: RepositoryError.self) { try Self.push(claimed, name, bytes) }
        let own = Self.summary(name, bytes, token: TimelineToken(rawValue: 0xBE))
        guard case .stored = try Self.push(claimed, name, bytes, own) else {
            Issue.record("it was new")
            return
        }
    }

    @Test("D2: two agents that push the same segment at once both succeed; with other content exactly one does")
    func twoAgents() async throws {
        let store = self.store
        for round in UInt64(1)...4 {
            let differ = round % 2 == 0
            let results = await withTaskGroup(of: Bool.self) { group in
                for agent in 0..<4 {
                    group.addTask {
                        let codec: Codec = agent % 2 == 0 ? .zstd : .none
                        let bytes = Self.bytes(round, variant: differ ? UInt8(agent) : 0)
                        guard let archive = try? Self.archive(store, Compression(codec), machine: "agent-\(agent)")
                        else { return false }
                        return (try? Self.push(archive, Self.name(round), bytes)) != nil
                    }
                }
                return await group.reduce(into: [Bool]()) { $0.append($1) }
            }
            #expect(results.filter { $0 }.count == (differ ? 1 : 4))
            #expect(try archive.fetch(Self.name(round)) != nil)
        }
    }

    @Test("a push that crashes at every operation leaves nothing that is fetched wrongly, and is finished by a retry")
    func crashes() throws {
        let bytes = Self.bytes(1)
        let name = Self.name(1)
        var total = 0
        for fault in FaultyStore.Fault.allCases {
            var number = 0
            while true {
                let memory = MemoryStore()
                _ = try Self.archive(memory)
                let faulty = FaultyStore(memory)
                let doomed = try Self.archive(faulty)
                faulty.plant(fault, at: number)
                let pushed = Result { try Self.push(doomed, name, bytes) }
                let reached = faulty.operations > number
                let survivor = try Self.archive(memory)
                let fetched = try survivor.fetch(name)
                if case .success = pushed {
                    #expect(same(fetched, bytes), "\(fault) at \(number)")
                } else {
                    #expect(fetched == nil || same(fetched, bytes), "\(fault) at \(number)")
                }
                // A summary may stand alone, a segment never.
                let listed = try memory.list(survivor.layout.wal(.first)).map(\.name)
                #expect(listed.count < 2 || listed.contains("\(name).summary"))
                #expect(listed.count != 1 || listed == ["\(name).summary"])
                try Self.push(survivor, name, bytes)
                #expect(try same(survivor.fetch(name), bytes))
                if !reached { break }
                number += 1
                total += 1
            }
        }
        print("push: crashed or failed at \(total) operations")
        #expect(total > 20)
    }

    @Test(
        "D4: a segment that is empty, short, damaged, missing or exchanged is named and never returned",
        arguments: [false, true])
    func damage(isReplay: Bool) throws {
        for codec in Codec.allCases {
            let memory = MemoryStore()
            let archive = try Self.archive(memory, Compression(codec, level: 1))
            for number in UInt64(1)...3 { try Self.push(archive, Self.name(number), Self.bytes(number)) }
            let path = archive.layout.segment(Self.name(2), codec)
            let neighbour = try #require(
                try memory.read(archive.layout.segment(Self.name(3), codec), limit: 1 << 25))
            let whole = try #require(try memory.read(path, limit: 1 << 25))
            var flipped = whole
            flipped[whole.count / 2] ^= 4
            let variants: [(String, [UInt8])] = [
                ("empty", []), ("short", Array(whole.dropLast(whole.count / 3))), ("cut by a byte", whole.dropLast(1)),
                ("grown", whole + [0]), ("damaged", flipped), ("exchanged", neighbour),
            ]
            for (what, bytes) in variants {
                memory.overwrite(path, bytes)
                do {
                    if isReplay {
                        _ = try archive.fetch(Self.name(2), into: SegmentBuffer())
                    } else {
                        _ = try archive.fetch(Self.name(2))
                    }
                    Issue.record("\(codec.name), \(what): it was returned")
                } catch let error as RepositoryError {
                    guard case .segmentDamaged(let name, _, let why) = error else {
                        Issue.record("\(codec.name), \(what): \(error)")
                        continue
                    }
                    #expect(name == Self.name(2))
                    #expect(error.diagnosis.next != nil)
                    #expect(error.diagnosis.status == .dataError)
                    if what == "exchanged" { #expect(why.contains(Self.name(3).description)) }
                }
                // Pushing again does not report as safe what cannot be restored.
                #expect(throws: RepositoryError.self) { try Self.push(archive, Self.name(2), Self.bytes(2)) }
            }
            try memory.delete(path)
            #expect(try archive.fetch(Self.name(2)) == nil)
            #expect(throws: RepositoryError.segmentMissing(Self.name(2))) { try archive.fetchExisting(Self.name(2)) }
            #expect(try archive.inventory(of: .first).gaps == [SegmentNumber(2)...SegmentNumber(2)])
            try Self.push(archive, Self.name(2), Self.bytes(2))
            #expect(try same(archive.fetch(Self.name(2)), Self.bytes(2)))
        }
    }

    @Test("D4: the same of its summary")
    func damagedSummary() throws {
        for number in UInt64(1)...2 { try Self.push(archive, Self.name(number), Self.bytes(number)) }
        let path = archive.layout.summary(Self.name(1))
        let whole = try #require(try store.read(path, limit: 1 << 20))
        let neighbour = try #require(try store.read(archive.layout.summary(Self.name(2)), limit: 1 << 20))
        for index in whole.indices {
            var flipped = whole
            flipped[index] ^= 1
            store.overwrite(path, flipped)
            #expect(throws: RepositoryError.self) { _ = try archive.fetch(Self.name(1)) }
        }
        for count in 0..<whole.count {
            store.overwrite(path, Array(whole.prefix(count)))
            #expect(throws: RepositoryError.self) { _ = try archive.fetch(Self.name(1)) }
        }
        store.overwrite(path, neighbour)
        #expect(throws: RepositoryError.self) { _ = try archive.fetch(Self.name(1)) }
        try store.delete(path)
        do {
            _ = try archive.fetch(Self.name(1))
            Issue.record("it was returned without a summary")
        } catch RepositoryError.segmentDamaged(_, let object, _) {
            #expect(object.hasSuffix(".summary"))
        }
        store.overwrite(path, whole)
        #expect(try same(archive.fetch(Self.name(1)), Self.bytes(1)))
    }

    @Test("D2, D4: a summary whose two checksums are of different bytes is neither pushed nor believed")
    func contradiction() throws {
        let bytes = Self.bytes(1)
        var summary = Self.summary(Self.name(1), bytes)
        summary.crc32c ^= 1
        #expect(throws: RepositoryError.self) { try Self.push(archive, Self.name(1), bytes, summary) }
        #expect(try archive.summary(Self.name(1)) == nil)
        try Self.push(archive, Self.name(1), bytes)
        store.overwrite(archive.layout.summary(Self.name(1)), summary.encoded())
        #expect(throws: RepositoryError.self) { try Self.push(archive, Self.name(1), bytes) }
        let refused = { (body: () throws -> Void) in
            let error = #expect(throws: RepositoryError.self) { try body() }
            #expect("\(String(describing: error))".contains("CRC32C"))
        }
        refused { _ = try archive.fetch(Self.name(1)) }
        refused { _ = try archive.fetch(Self.name(1), into: SegmentBuffer()) }
    }

    @Test("D4: a neighbour's summary is named as that where nothing but summaries is read, as a plan does")
    func exchangedSummary() throws {
        for number in UInt64(1)...2 { try Self.push(archive, Self.name(number), Self.bytes(number)) }
        let neighbour = try #require(try store.read(archive.layout.summary(Self.name(2)), limit: 1 << 20))
        store.overwrite(archive.layout.summary(Self.name(1)), neighbour)
        do {
            _ = try archive.summary(Self.name(1))
            Issue.record("a neighbour's summary was believed")
        } catch RepositoryError.segmentDamaged(let name, _, let why) {
            #expect(name == Self.name(1) && why.contains(Self.name(2).description), "\(why)")
        }
    }

    @Test("its inventory names contiguous ranges and what is missing between them, for each timeline")
    func inventory() throws {
        let names: [UInt64] = [1, 2, 5, 6, 9]
        for number in names {
            _ = try store.create(archive.layout.summary(Self.name(number)), [1])
            _ = try store.create(archive.layout.segment(Self.name(number), .zstd), [1, 2])
        }
        // A summary without its segment is a push under way.
        _ = try store.create(archive.layout.summary(Self.name(10)), [1])
        _ = try store.create(archive.layout.segment(Self.name(3, timeline: 2), .gzip), [1, 2])
        _ = try store.create(archive.layout.summary(Self.name(3, timeline: 2)), [1])
        func range(_ a: UInt64, _ b: UInt64) -> ClosedRange<SegmentNumber> { SegmentNumber(a)...SegmentNumber(b) }
        let inventory = try archive.inventory()
        #expect(inventory.map(\.timeline) == [TimelineID(1), TimelineID(2)])
        #expect(inventory[0].ranges == [range(1, 2), range(5, 6), range(9, 9)])
        #expect(inventory[0].gaps == [range(3, 4), range(7, 8)])
        #expect(inventory[0].first == Self.name(1) && inventory[0].last == Self.name(9))
        #expect(inventory[0].bytes == 10 && inventory[0].segments == 5)
        #expect(inventory[1].gaps.isEmpty && inventory[1].contains(SegmentNumber(3)))
    }

    @Test("the prefetching reader returns each segment in order, then nil, and later what has come since")
    func prefetch() throws {
        for number in UInt64(1)...6 { try Self.push(archive, Self.name(number), Self.bytes(number)) }
        let reader = SegmentPrefetcher(archive, ahead: 3, workers: 2)
        defer { reader.stop() }
        for number in UInt64(1)...6 { #expect(try same(reader.segment(Self.name(number)), Self.bytes(number))) }
        #expect(try reader.segment(Self.name(7)) == nil)
        try Self.push(archive, Self.name(7), Self.bytes(7))
        #expect(try same(reader.segment(Self.name(7)), Self.bytes(7)))
        store.overwrite(archive.layout.segment(Self.name(4), .zstd), [])
        #expect(try same(reader.segment(Self.name(2)), Self.bytes(2)))
        #expect(try same(reader.segment(Self.name(3)), Self.bytes(3)))
        #expect(throws: RepositoryError.self) { _ = try reader.segment(Self.name(4)) }
    }

    @Test("a segment that the prefetching reader handed out stays as it is until it is given back")
    func prefetchReuse() throws {
        for number in UInt64(1)...12 { try Self.push(archive, Self.name(number), Self.bytes(number)) }
        let reader = SegmentPrefetcher(archive, ahead: 3, workers: 2)
        defer { reader.stop() }
        let kept = try #require(try reader.segment(Self.name(1)))
        var spent: SegmentBuffer?
        // Kept, so that no address comes again.
        var seen: [SegmentBuffer] = []
        for number in UInt64(2)...12 {
            let segment = try #require(try reader.segment(Self.name(number), reusing: spent))
            #expect(segment !== kept)
            #expect(same(segment, Self.bytes(number)))
            if !seen.contains(where: { $0 === segment }) { seen.append(segment) }
            spent = segment
        }
        #expect(same(kept, Self.bytes(1)))
        // Ahead, being fetched, handed out; and never one more for each segment.
        #expect(seen.count <= 3 + 2 + 1)
    }
}

private func same(_ one: SegmentBuffer?, _ other: [UInt8]) -> Bool {
    one.map { segment in other.withUnsafeBytes { same(segment.bytes, $0) } } ?? false
}

private func same(_ one: UnsafeRawBufferPointer, _ other: UnsafeRawBufferPointer) -> Bool {
    one.count == other.count && memcmp(one.baseAddress!, other.baseAddress!, one.count) == 0
}

/// Equality of segments at the speed of memory, and without printing them.
private func same(_ one: [UInt8]?, _ other: [UInt8]) -> Bool {
    guard let one, one.count == other.count else { return false }
    return memcmp(one, other, one.count) == 0
}
