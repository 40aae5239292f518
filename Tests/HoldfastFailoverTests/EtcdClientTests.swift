import HoldfastCore
import HoldfastFailover
import HoldfastTestSupport
import Testing

@Suite("The client of etcd", .serialized, .enabled(if: EtcdServer.program != nil, "etcd-server is not installed"))
struct EtcdClientTests {
    private let keys = FailoverKeys(cluster: "main")

    /// Runs `body` with a server and a client whose first endpoint is one where nobody listens.
    private func with(_ body: (EtcdServer, EtcdClient) async throws -> Void) async throws {
        let server = try EtcdServer()
        let client = EtcdClient(
            endpoints: ["http://127.0.0.1:\(try TestCluster.freePort())", server.endpoint + "/"],
            access: try EtcdAccess(),
            timeoutMilliseconds: 10_000)
        do {
            try await body(server, client)
        } catch {
            Issue.record(error)
        }
        await client.close()
    }

    @Test("E5: of two nodes that want the leader's key one gets it, and nobody speaks for it who has it not")
    func twoCandidates() async throws {
        try await with { _, client in
            // Long enough that it does not lapse on a machine that does much else.
            let a = LeaderKey(client, keys, node: "a", ttlMilliseconds: 3_600_000)
            let b = LeaderKey(client, keys, node: "b", ttlMilliseconds: 3_600_000)
            let before = BootClock.microseconds()
            let deadline = try await a.renew()
            #expect((before + 3_240_000_000...BootClock.microseconds() + 3_240_000_000).contains(deadline))
            try await b.renew()
            let empty = try await a.look()
            #expect(empty == ClusterView())
            let word = LeaderWord(term: 1, node: "a", timeline: .first, lsn: LSN(7), minimumFollowers: 1)
            #expect(try await a.campaign(empty, word: word))
            #expect(try await !b.campaign(empty, word: word))
            let taken = try await b.look()
            let lease = await a.lease
            #expect(taken.holder?.node == "a" && taken.holder?.lease == lease && taken.word == word)
            #expect(try await a.say(word, holding: #require(taken.holder)))
            #expect(try await !a.say(word, holding: KeyHolder(node: "a", lease: 0, madeAt: 1)))
            try await a.join()
            let record = NodeRecord(
                node: "a", role: .leader, address: "unix:/a", timeline: .first, flushed: LSN(7), applied: LSN(7),
                time: Timestamp(microseconds: 1))
            try await a.publish(record)
            #expect(try await b.look().nodes == [record])
            await a.release()
            let gone = try await b.look()
            #expect(gone.holder == nil && gone.nodes.isEmpty && gone.members == ["a"] && gone.word == word)
            // What was seen before is no ground for a campaign.
            #expect(try await !b.campaign(empty, word: word))
            #expect(try await b.campaign(gone, word: word))
            await b.release()
            #expect(try await a.look().holder == nil)
        }
    }

    @Test("E2: the key of a leader that says nothing more goes, and not before the leader's own deadline")
    func lapse() async throws {
        try await with { _, client in
            let a = LeaderKey(client, keys, node: "a", ttlMilliseconds: 5000)
            let b = LeaderKey(client, keys, node: "b", ttlMilliseconds: 3_600_000)
            let word = LeaderWord(term: 1, node: "a", timeline: .first, lsn: LSN(7), minimumFollowers: 1)
            var deadline: Int64 = 0
            var isTaken = false
            while !isTaken {
                deadline = try await a.renew()
                // Here the machine may do something else for longer than the lease lasts.
                do throws(EtcdError) { isTaken = try await a.campaign(a.look(), word: word) } catch .leaseGone {}
            }
            try await b.renew()
            while try await b.look().holder != nil {}
            #expect(BootClock.microseconds() >= deadline, "the key went before the leader's deadline")
        }
    }

    @Test("errors say what is wrong: a lease that is gone, an etcd that is away, something else that answers")
    func errors() async throws {
        try await with { server, client in
            await #expect(throws: EtcdError.leaseGone) { try await client.keepAlive(4711) }
            await #expect(throws: EtcdError.leaseGone) { try await client.put("/x", [1], lease: 4711) }
            server.kill()
            do {
                _ = try await client.grant(seconds: 2)
                Issue.record("a killed etcd answered")
            } catch EtcdError.unreachable(let reasons) {
                #expect(reasons.count == 2)
            } catch { Issue.record(error) }
            try server.restart()
            #expect(try await client.grant(seconds: 2) != 0)
        }
    }
}
