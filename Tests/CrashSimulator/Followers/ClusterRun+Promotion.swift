import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL

/// Followers become leaders, the old one alive or not.
extension ClusterRun {
    func promoteSomebody() throws {
        let candidates = nodes.filter { $0.index != claimant }
        // A leader that was claimed and does not run is waited for, unless this is to go wrong.
        if currentLeader == nil, try model.branch(current).durable == .zero { return try start(nodes[claimant]) }
        if random.chance(60) { try crash(nodes[claimant]) }
        switch random.number(0...9) {
        case 0..<6: try promoteFurthest(candidates)
        case 6..<8: try promoteBoth(candidates)
        default: try promote(candidates[random.number(0...1)])
        }
    }

    /// What loses nothing: no follower listens to the old leader any more, each says what it has, and the furthest is taken.
    private func promoteFurthest(_ candidates: [ClusterNode]) throws {
        for node in candidates {
            try start(node)
            lose(node.index, "its leader is gone")
        }
        // One that has just started says what it has when it has read its log.
        for node in candidates { node.follower?.replayStep(turns: 16) }
        try lookAround()
        guard candidates.allSatisfy({ $0.follower != nil }) else { return }
        // Who has what the newest leader had at most; another's log is of no use.
        var said: [(node: ClusterNode, timeline: TimelineID, flushed: LSN)] = []
        for node in candidates {
            guard let engine = node.follower, let status = engine.followerStatus, status.hasReadItsLog else { return }
            let positions = status.positions
            let token = engine.timelineToken
            guard try model.contains(positions.flushed, of: token, along: current) else { continue }
            said.append((node, try model.branch(token).timeline, positions.flushed))
        }
        guard said.count == 2, let best = said.max(by: { ($0.timeline, $0.flushed) < ($1.timeline, $1.flushed) }) else {
            return
        }
        isOrderly = true
        defer { isOrderly = false }
        try promote(best.node)
    }

    /// Both at once: one is carried out between the other's choice of a number and its claim.
    private func promoteBoth(_ candidates: [ClusterNode]) throws {
        let first = candidates[random.number(0...1)]
        let second = candidates[first === candidates[0] ? 1 : 0]
        guard first.follower != nil, second.follower != nil else { return }
        archive.beforeClaim = { [unowned self] in
            do { try promote(second) } catch { violation = violation ?? error as? Violation }
        }
        try promote(first)
        archive.beforeClaim = nil
        let winners = candidates.filter { $0.leader != nil }
        guard winners.count <= 1 else { throw Violation("both of two candidates lead") }
    }

    private func promote(_ node: ClusterNode) throws {
        guard let engine = node.follower, let follower = engine.logFollower else { return }
        lose(node.index, nil)
        if random.chance(40) { node.disk.failPower(atCall: node.disk.calls + random.number(1...120)) }
        node.activity = "promotion"
        let had = follower.positions
        let parent = engine.timelineToken
        tell("\(node.name) is promoted with \(had)\(isOrderly ? ", in order" : "")")
        do {
            try engine.promote()
        } catch {
            if let violation { throw violation }
            count { $0.refusedPromotions += 1 }
            tell("the promotion of \(node.name) ends: \(error)")
            return try judge(error, node)
        }
        guard node.isUp else { return }
        node.disk.failPower(atCall: nil)
        count { $0.promotions += 1 }
        node.confirmed = nil
        let branch = try model.branch(engine.timelineToken)
        guard branch.parent == parent, LogLayout.canonical(branch.from) >= had.flushed else {
            throw Violation(
                "\(node.name) had \(had.flushed), and its timeline \(branch.timeline) begins at \(branch.from)")
        }
        try requireState(engine, node.name)
        model.madeDurable(engine.timelineToken, to: engine.durableLSN)
        if random.chance(30) { try requireStructure(engine, node.name) }
    }

    /// A refusal must have a reason that is true.
    private func judge(_ error: any Error, _ node: ClusterNode) throws {
        guard node.isUp, !(error is SharedArchive.Away), !(error is SharedArchive.Refused), !archive.isAway else {
            return
        }
        guard let follower = node.engine?.followerStatus else {
            throw Violation("\(node.name) neither follows nor leads: \(error)")
        }
        let text = "\(error)"
        if text.contains("has nothing of it") || text.contains("nothing was replayed yet") { return }
        throw Violation("\(node.name), which has \(follower.positions), is not promoted: \(text)")
    }
}
