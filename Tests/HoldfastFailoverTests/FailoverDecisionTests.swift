import HoldfastCore
import HoldfastFailover
import HoldfastTestSupport
import Testing

@Suite("What a node does about the leader's key")
struct FailoverDecisionTests {
    private func record(
        _ node: String, _ flushed: UInt64, vacant term: Int64? = 7, timeline: TimelineID = .first
    ) -> NodeRecord {
        NodeRecord(
            node: node, role: .follower, address: "unix:/\(node)", timeline: timeline, flushed: LSN(flushed),
            applied: .zero, time: Timestamp(microseconds: 0), vacantTerm: term)
    }

    /// `a` led; `b`, `c` and `d` follow; nobody holds the key.
    private func vacancy(_ records: [NodeRecord], minimumFollowers: Int = 1) -> ClusterView {
        var view = ClusterView()
        view.word = LeaderWord(
            term: 7, node: "a", timeline: .first, lsn: LSN(1000), minimumFollowers: minimumFollowers)
        view.members = ["a", "b", "c", "d"]
        view.nodes = records
        return view
    }

    private func follower(_ name: String, vacantFor milliseconds: Int = 2000) -> NodeFacts {
        NodeFacts(name: name, isFollower: true, timeline: .first, lease: 15, vacantMilliseconds: milliseconds)
    }

    private func decide(_ view: ClusterView, _ facts: NodeFacts, lag: Int? = nil) -> FailoverDecision {
        FailoverDecision(view, facts, maximumLag: lag)
    }

    private func waits(_ decision: FailoverDecision) -> Bool {
        if case .wait = decision { true } else { false }
    }

    @Test("E5: only the furthest of enough followers takes over, and of equal ones the first by name")
    func furthest() {
        let all = vacancy([record("b", 900), record("c", 950), record("d", 950)])
        #expect(waits(decide(all, follower("b"))))
        #expect(decide(all, follower("c")) == .takeOver)
        #expect(waits(decide(all, follower("d"))))
    }

    @Test("E2: followers - min_followers + 1 must have said how far they are since the key is gone")
    func enough() {
        let two = [record("b", 950), record("c", 900)]
        #expect(waits(decide(vacancy(two, minimumFollowers: 1), follower("b"))))
        #expect(decide(vacancy(two, minimumFollowers: 2), follower("b")) == .takeOver)
        let stale = [record("b", 950), record("c", 900), record("d", 100, vacant: 6)]
        #expect(waits(decide(vacancy(stale, minimumFollowers: 1), follower("b"))))
        // Nobody need have what was acknowledged: all are asked.
        #expect(waits(decide(vacancy(two, minimumFollowers: 0), follower("b"))))
        #expect(decide(vacancy(stale, minimumFollowers: 2), follower("b", vacantFor: 0)) != .takeOver)
        #expect(decide(vacancy([record("c", 1)]), follower("b")) == .report(term: 7))
    }

    @Test("E2: a follower that lacks more than max_lag of the last leader's log is not promoted")
    func lag() {
        let all = vacancy([record("b", 900), record("c", 800), record("d", 800)])
        #expect(waits(decide(all, follower("b"), lag: 99)))
        #expect(decide(all, follower("b"), lag: 100) == .takeOver)
        let old = vacancy([record("b", 900), record("c", 800), record("d", 800)])
        var later = old
        later.word?.timeline = TimelineID(rawValue: 2)
        #expect(waits(decide(later, follower("b"))))
    }

    @Test(
        "E2, E5: whose promotion failed behind its claim is chosen again, though the others have gone along to that claim"
    )
    func claimed() {
        let second = TimelineID(rawValue: 2)
        let all = vacancy([
            record("b", 950, timeline: second), record("c", 950), record("d", 900, timeline: second),
        ])
        #expect(decide(all, follower("c")) == .takeOver)
        var gone = follower("b")
        gone.timeline = second
        #expect(waits(decide(all, gone)))
        // Who has not even come to the last leader's timeline is behind, however much it has of another.
        var later = vacancy([record("b", 990), record("c", 950, timeline: second), record("d", 900, timeline: second)])
        later.word?.timeline = second
        var own = follower("c")
        own.timeline = second
        #expect(decide(later, own) == .takeOver)
    }

    @Test("E5: a leader that finds another's key, or another's later lead, stops")
    func leftBehind() {
        var view = vacancy([])
        var leader = NodeFacts(name: "b", isFollower: false, timeline: .first, lease: 5, vacantMilliseconds: 0)
        guard case .stop = decide(view, leader) else { return #expect(Bool(false), "b goes on although a has led") }
        leader.name = "a"
        #expect(decide(view, leader) == .takeBack)
        view.holder = KeyHolder(node: "c", lease: 6, madeAt: 9)
        guard case .stop = decide(view, leader) else { return #expect(Bool(false), "a goes on although c leads") }
        view.holder = KeyHolder(node: "a", lease: 4, madeAt: 9)
        #expect(waits(decide(view, leader)))
        view.holder = KeyHolder(node: "a", lease: 5, madeAt: 9)
        #expect(decide(view, leader) == .lead)
        #expect(decide(view, follower("d")).follows == "a")
    }

    @Test(
        "E2: a node that opened a timeline and never led yields to the old leader that has led again meanwhile, to nobody else"
    )
    func overtaken() throws {
        var view = vacancy([])
        let leader = NodeFacts(
            name: "b", isFollower: false, timeline: TimelineID(rawValue: 2), lease: 5, vacantMilliseconds: 0)
        let last = try #require(view.word)
        view.word = last.takingOver("b")
        #expect(decide(view, leader) == .takeBack)
        // Another took the key meanwhile, and came to nothing: it leads on no timeline.
        view.word = last.takingOver("b").takingOver("c")
        #expect(decide(view, leader) == .takeBack)
        var back = last
        back.term += 3
        view.word = back.following(view.word).following(back.following(view.word))
        guard case .stop = decide(view, leader) else { return #expect(Bool(false), "b goes on without what a wrote") }
        // It was rewound, and is chosen once more.
        view.word = view.word?.takingOver("b")
        #expect(decide(view, leader) == .takeBack)
    }

    @Test("E2, E5: in random histories two nodes never may acknowledge at one time, and no promotion loses a write")
    func histories() throws {
        let seed = SeededGenerator.announcedSeed("FailoverDecisionTests")
        var promotions = 0, writes = 0
        for run in 0..<100 {
            for minimumFollowers in [1, 2] {
                let model = FailoverModel(
                    seed: seed &+ UInt64(run), nodes: run % 2 == 0 ? 3 : 4, minimumFollowers: minimumFollowers)
                do {
                    try model.run(seconds: 60)
                } catch {
                    Issue.record("run \(run) with min_followers \(minimumFollowers): \(error)")
                    return
                }
                promotions += model.promotions
                writes += model.acknowledged.count
            }
        }
        #expect(promotions > 100 && writes > 10_000, "too little happened: \(promotions) promotions, \(writes) writes")
    }
}

extension FailoverDecision {
    fileprivate var follows: String? { if case .follow(let name) = self { name } else { nil } }
}
