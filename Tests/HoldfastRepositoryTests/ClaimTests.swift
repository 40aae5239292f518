import HoldfastCore
import HoldfastRepositoryTestSupport
import Testing

@testable import HoldfastRepository

@Suite("A timeline has one owner")
struct ClaimTests {
    let store = MemoryStore()

    private func repository() throws -> Repository {
        try Repository.openOrCreate(
            store, cluster: "main", systemIdentifier: SystemIdentifier(rawValue: 7),
            environment: FakeMachine("node").environment)
    }

    @Test("of many that claim a number at once exactly one wins; its retry wins again")
    func race() async throws {
        let repository = try repository()
        let won = await withTaskGroup(of: UInt8?.self) { group in
            for number in 0..<16 {
                group.addTask {
                    do {
                        let timeline = try repository.timelineToClaim(own: [.first], forced: false)
                        guard timeline == TimelineID(2) else { return nil }
                        try repository.claim(timeline, history: [UInt8(number)])
                        return UInt8(number)
                    } catch {
                        return nil
                    }
                }
            }
            return await group.reduce(into: [UInt8]()) { list, winner in if let winner { list.append(winner) } }
        }
        let winner = try #require(won.first)
        #expect(won.count == 1)
        #expect(try repository.history(TimelineID(2)) == [winner])
        try repository.claim(TimelineID(2), history: [winner])
        #expect(throws: RepositoryError.claimLost(TimelineID(2))) {
            try repository.claim(TimelineID(2), history: [winner &+ 1])
        }
    }

    @Test("a claim that the node's own history lacks is refused by name, unless forced")
    func foreign() throws {
        let repository = try repository()
        #expect(try repository.timelineToClaim(own: [.first], forced: false) == TimelineID(2))
        try repository.claim(TimelineID(2), history: [1])
        #expect(throws: RepositoryError.foreignClaim(TimelineID(2))) {
            try repository.timelineToClaim(own: [.first], forced: false)
        }
        #expect(try repository.timelineToClaim(own: [.first], forced: true) == TimelineID(3))
        #expect(try repository.timelineToClaim(own: [.first, TimelineID(2)], forced: false) == TimelineID(3))
        #expect(try repository.claim(above: .first) == TimelineID(2))
        #expect(try repository.claim(above: TimelineID(2)) == nil)
    }

    @Test("a claim that was passed over when the node's own timeline was opened is in nobody's way")
    func passedOver() throws {
        let repository = try repository()
        try repository.claim(TimelineID(2), history: [1])
        try repository.claim(TimelineID(3), history: [2])
        #expect(try repository.timelineToClaim(own: [.first, TimelineID(3)], forced: false) == TimelineID(4))
        #expect(throws: RepositoryError.foreignClaim(TimelineID(3))) {
            try repository.timelineToClaim(own: [.first, TimelineID(2)], forced: false)
        }
    }

    @Test("a number with WAL but without a history is not taken either")
    func orphanWAL() throws {
        let repository = try repository()
        let name = SegmentName(timeline: TimelineID(5), segment: SegmentNumber(1))
        _ = try store.create(repository.layout.summary(name), [1])
        #expect(try repository.timelineToClaim(own: [.first], forced: false) == TimelineID(6))
        #expect(try repository.timelines() == [TimelineID(5)])
    }

    @Test("C6: a claim that crashes at every operation is made or not, and can be repeated")
    func crashes() throws {
        for fault in FaultyStore.Fault.allCases {
            for number in 0..<3 {
                let memory = MemoryStore()
                _ = try Repository.openOrCreate(
                    memory, cluster: "main", systemIdentifier: SystemIdentifier(rawValue: 7))
                let faulty = FaultyStore(memory)
                let doomed = try Repository.open(faulty, cluster: "main")
                faulty.plant(fault, at: number)
                _ = try? doomed.claim(TimelineID(2), history: [1, 2, 3])
                faulty.heal()
                try doomed.claim(TimelineID(2), history: [1, 2, 3])
                #expect(try doomed.claimedTimelines() == [TimelineID(2)])
            }
        }
    }
}
