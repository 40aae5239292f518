import HoldfastCore
import HoldfastFailover
import HoldfastTestSupport

/// A cluster in one thread: nodes that decide with `FailoverDecision`, a model of etcd, clocks that drift, messages that
/// take their time or are lost, nodes that stand still at any point or die. Times are true microseconds.
final class FailoverModel {
    final class Node {
        let name: String
        var isFollower: Bool
        var timeline: TimelineID = .first
        /// The writes that are on its disk, in order.
        var log: [Int] = []
        var lease: Int64 = 0
        var leaseDeadline: Int64 = 0
        /// By its own clock; nothing is acknowledged from then on.
        var deadline: Int64 = 1
        var following: String?
        var leftTerm: Int64?
        var vacantSince: Int64?
        var pausedUntil: Int64 = 0
        /// It serves, and does not reach etcd.
        var isCutOffUntil: Int64 = 0
        var isGone = false
        let rate: Double, offset: Int64

        init(_ name: String, isFollower: Bool, rate: Double, offset: Int64) {
            (self.name, self.isFollower, self.rate, self.offset) = (name, isFollower, rate, offset)
        }

        func clock(_ now: Int64) -> Int64 { offset + Int64(Double(now) * rate) }
        func mayAcknowledge(_ now: Int64) -> Bool { !isGone && clock(now) < deadline }
    }

    struct Broken: Error, CustomStringConvertible {
        let description: String
    }

    let ttlMilliseconds = 3000
    let minimumFollowers: Int
    private(set) var nodes: [Node] = []
    private(set) var acknowledged: Set<Int> = []
    private(set) var promotions = 0
    private var random: SeededGenerator
    private var now: Int64 = 0
    /// The next one is the last.
    private var events: [(at: Int64, body: () throws -> Void)] = []
    private var view = ClusterView()
    private var revision: Int64 = 1
    private var leases: [Int64: Int64] = [:]
    private var recordLeases: [String: Int64] = [:]
    private var lastWrite = 0
    private let etcdRate: Double

    init(seed: UInt64, nodes count: Int, minimumFollowers: Int) {
        random = SeededGenerator(seed: seed)
        self.minimumFollowers = minimumFollowers
        etcdRate = Double.random(in: 0.98...1.02, using: &random)
        for index in 0..<count {
            nodes.append(
                Node(
                    "n\(index)", isFollower: index > 0, rate: Double.random(in: 0.98...1.02, using: &random),
                    offset: Int64.random(in: 0...1_000_000_000, using: &random)))
        }
    }

    /// Runs for so long; throws when two may acknowledge at one time, or a leader lacks what was acknowledged.
    func run(seconds: Int64) throws {
        for node in nodes { at(delay(100_000)) { [self] in try tick(node) } }
        at(500_000) { [self] in try write() }
        at(3_000_000) { [self] in disturb() }
        while let event = events.popLast(), event.at < seconds * 1_000_000 {
            now = event.at
            lapse()
            try event.body()
            try checkOnlyOne()
        }
    }

    // MARK: Time

    private func at(_ delay: Int64, _ body: @escaping () throws -> Void) {
        let time = now + delay
        var low = 0, high = events.count
        while low < high {
            let middle = (low + high) / 2
            if events[middle].at > time { low = middle + 1 } else { high = middle }
        }
        events.insert((time, body), at: low)
    }

    /// A write has its number once, so equal numbers at one place mean equal logs up to there.
    private func continues(_ log: [Int], _ sent: [Int]) -> Bool {
        guard let last = log.last else { return true }
        return sent.count >= log.count && sent[log.count - 1] == last
    }

    /// Something that a node does, as soon as it can.
    private func on(_ node: Node, after delay: Int64, _ body: @escaping () throws -> Void) {
        at(delay) { [self] in
            guard !node.isGone else { return }
            guard now >= node.pausedUntil else { return on(node, after: node.pausedUntil - now, body) }
            try body()
        }
    }

    private func delay(_ most: Int64) -> Int64 { Int64.random(in: 1...most, using: &random) }
    private func happens(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }

    /// A request to etcd and its answer, both of which take time and may be lost.
    private func ask<R>(_ node: Node, _ request: @escaping () -> R, then: @escaping (R) throws -> Void) {
        guard now >= node.isCutOffUntil else { return on(node, after: 300_000) { [self] in try tick(node) } }
        let isSlow = happens(3)
        if happens(2) { return on(node, after: 400_000) { [self] in try tick(node) } }
        at(delay(isSlow ? 900_000 : 20_000)) { [self] in
            let answer = request()
            if happens(2) { return on(node, after: 400_000) { [self] in try tick(node) } }
            on(node, after: delay(20_000)) { try then(answer) }
        }
    }

    private func checkOnlyOne() throws {
        let able = nodes.filter { $0.mayAcknowledge(now) }
        for node in able where view.holder?.node != node.name {
            throw Broken(description: "\(node.name) may acknowledge at \(now) us, and its key is gone")
        }
        guard able.count > 1 else { return }
        throw Broken(description: "\(able.map(\.name)) may acknowledge at one time, at \(now) us")
    }

    // MARK: etcd

    private func lapse() {
        for (lease, end) in leases where end <= now {
            leases[lease] = nil
            if view.holder?.lease == lease { view.holder = nil }
            view.nodes.removeAll { recordLeases[$0.node] == lease }
        }
    }

    private func renewLease(_ lease: Int64) -> Int64 {
        let end = now + Int64(Double(ttlMilliseconds) * 1000 / etcdRate)
        if lease != 0, leases[lease] != nil {
            leases[lease] = end
            return lease
        }
        revision += 1
        leases[revision] = end
        return revision
    }

    private func campaign(_ node: Node, _ seen: ClusterView, _ word: LeaderWord) -> Bool {
        guard leases[node.lease] != nil, view.holder == nil, view.wordRevision == seen.wordRevision else {
            return false
        }
        revision += 1
        view.holder = KeyHolder(node: node.name, lease: node.lease, madeAt: revision)
        (view.word, view.wordRevision) = (word, revision)
        return true
    }

    private func publish(_ node: Node, _ vacantTerm: Int64?) {
        guard leases[node.lease] != nil else { return }
        view.nodes.removeAll { $0.node == node.name }
        view.nodes.append(
            NodeRecord(
                node: node.name, role: node.isFollower ? .follower : .leader, address: node.name,
                timeline: node.timeline, flushed: LSN(UInt64(node.log.count)), applied: .zero,
                time: Timestamp(microseconds: 0), vacantTerm: vacantTerm))
        recordLeases[node.name] = node.lease
    }

    // MARK: A node's turn, as the service does it

    private func tick(_ node: Node) throws {
        let sent = node.clock(now)
        ask(node) { [self] in
            view.members.insert(node.name)
            return renewLease(node.lease)
        } then: { [self] lease in
            if lease != node.lease { node.leaseDeadline = 0 }
            node.lease = lease
            node.leaseDeadline = max(
                node.leaseDeadline, LeaseDeadline.after(sent: sent, ttlMilliseconds: ttlMilliseconds))
            ask(node) { [self] in
                view
            } then: { [self] view in
                try decide(node, view)
            }
        }
    }

    private func decide(_ node: Node, _ seen: ClusterView) throws {
        node.vacantSince = seen.holder == nil ? node.vacantSince ?? now : nil
        let facts = NodeFacts(
            name: node.name, isFollower: node.isFollower, timeline: node.timeline, lease: node.lease,
            vacantMilliseconds: Int((now - (node.vacantSince ?? now)) / 1000))
        func again() { on(node, after: delay(300_000)) { [self] in try tick(node) } }
        func word(_ term: Int64) -> LeaderWord {
            LeaderWord(
                term: term, node: node.name, timeline: node.timeline, lsn: LSN(UInt64(node.log.count)),
                minimumFollowers: minimumFollowers)
        }
        switch FailoverDecision(seen, facts, maximumLag: nil) {
        case .lead:
            if node.isFollower {
                node.isFollower = false
                node.timeline = TimelineID(rawValue: node.timeline.rawValue + 1)
                node.following = nil
                promotions += 1
                try requireAcknowledged(node)
                // It may die before it has led.
                if happens(20) { die(node, for: delay(12_000_000)) }
                return on(node, after: delay(200_000)) { [self] in try tick(node) }
            }
            let said = word(seen.word!.term).following(seen.word), madeAt = seen.holder!.madeAt
            let deadline = node.leaseDeadline
            let isSaid = seen.word?.node == node.name && seen.word?.timeline == node.timeline
            if isSaid { node.deadline = deadline }
            ask(node) { [self] in
                guard view.holder?.madeAt == madeAt else { return false }
                revision += 1
                (view.word, view.wordRevision) = (said, revision)
                return true
            } then: { [self] isSaid in
                if isSaid {
                    node.deadline = deadline
                    if node.mayAcknowledge(now) { try requireAcknowledged(node) }
                }
                again()
            }
        case .takeBack:
            let said = word((seen.word?.term ?? 0) + 1).following(seen.word)
            ask(node) { [self] in
                campaign(node, seen, said)
            } then: { _ in
                again()
            }
        case .takeOver:
            let said = seen.word!.takingOver(node.name)
            ask(node) { [self] in
                campaign(node, seen, said)
            } then: { _ in
                again()
            }
        case .follow(let name):
            (node.leftTerm, node.following) = (nil, name)
            ask(node) { [self] in
                publish(node, nil)
            } then: {
                again()
            }
        case .report(let term):
            (node.leftTerm, node.following) = (term, nil)
            ask(node) { [self] in
                publish(node, term)
            } then: {
                again()
            }
        case .wait:
            let term = seen.holder == nil ? node.leftTerm : nil
            ask(node) { [self] in
                publish(node, term)
            } then: {
                again()
            }
        case .stop:
            node.isGone = true
        }
    }

    /// Whoever may acknowledge has everything that was.
    private func requireAcknowledged(_ node: Node) throws {
        let lost = acknowledged.subtracting(node.log)
        guard !lost.isEmpty else { return }
        throw Broken(description: "\(node.name) leads without \(lost.sorted()) at \(now) us")
    }

    // MARK: Clients

    private func write() throws {
        at(delay(200_000)) { [self] in try write() }
        guard let leader = nodes.first(where: { !$0.isFollower && $0.mayAcknowledge(now) && now >= $0.pausedUntil })
        else { return }
        lastWrite += 1
        let id = lastWrite
        leader.log.append(id)
        let sent = leader.log, timeline = leader.timeline
        var confirmed = 0
        if minimumFollowers == 0, leader.mayAcknowledge(now) { acknowledged.insert(id) }
        for follower in nodes where follower !== leader {
            on(follower, after: delay(happens(5) ? 2_000_000 : 30_000)) { [self] in
                guard follower.isFollower, follower.following == leader.name, continues(follower.log, sent) else {
                    return
                }
                (follower.log, follower.timeline) = (sent, timeline)
                on(leader, after: delay(30_000)) { [self] in
                    confirmed += 1
                    if confirmed == minimumFollowers, leader.mayAcknowledge(now) { acknowledged.insert(id) }
                }
            }
        }
    }

    /// A node stands still, or dies and comes back as it was, without its lease and with nothing allowed.
    private func disturb() {
        at(delay(8_000_000)) { [self] in disturb() }
        let node = nodes[Int.random(in: 0..<nodes.count, using: &random)]
        if happens(40) {
            // The leader first, and then a follower stands still: what that one said of itself grows old.
            let leader = nodes.first { $0.mayAcknowledge(now) } ?? node
            leader.isCutOffUntil = now + delay(8_000_000)
            if let follower = nodes.first(where: { $0.isFollower }), happens(70) {
                at(delay(3_500_000)) { [self] in follower.pausedUntil = now + delay(2_500_000) }
            }
            return
        }
        guard happens(30) else { return node.pausedUntil = now + delay(7_000_000) }
        die(node, for: delay(5_000_000))
    }

    private func die(_ node: Node, for time: Int64) {
        (node.lease, node.leaseDeadline, node.deadline, node.leftTerm) = (0, 0, 1, nil)
        node.pausedUntil = now + time
    }
}
