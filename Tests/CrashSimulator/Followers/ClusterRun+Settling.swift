import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL

/// The end of a seed: nothing fails any more, and the cluster must come together.
extension ClusterRun {
    func settle() throws {
        crashPoint = "the end"
        archive.isAway = false
        for node in nodes {
            node.disk.failPower(atCall: nil)
            node.disk.injectFaults(nil)
            node.skew = 0
        }
        try lookAround()
        for index in streams.indices { lose(index, nil) }
        try start(nodes[claimant])
        guard let leader = currentLeader, let engine = leader.leader, let token = leader.token else {
            throw Violation("node-\(claimant) has claimed the newest timeline, and does not lead it")
        }
        try transact(leader, flushing: true)
        // What a crash has torn is written anew.
        try checkpoint(leader)
        try comeTogether(leader, engine)
        // Once more: a restartpoint takes over a checkpoint that was replayed with readers about.
        try checkpoint(leader)
        try comeTogether(leader, engine)
        for node in nodes where node !== leader {
            guard let follower = node.follower, isCaughtUp(node, engine) else {
                let state = node.engine?.followerStatus.map { "\($0)" } ?? "it does not run"
                throw Violation("\(node.name) does not catch up with \(engine.durableLSN): \(state)")
            }
            guard follower.timelineToken == token else { throw Violation("\(node.name) follows another timeline") }
            try requireState(follower, node.name)
            // The restartpoint at the checkpoint above.
            try keep(node)
            try requirePages(follower, node.name)
        }
        for node in nodes { try requireMarkedSegments(node.disk, node.name) }
        try requireState(engine, leader.name)
        try requirePages(engine, leader.name)
        try requireArchive(leader, engine, token)
    }

    private func comeTogether(_ leader: ClusterNode, _ engine: Engine) throws {
        for _ in 0..<400 {
            if nodes.allSatisfy({ $0 === leader || isCaughtUp($0, engine) }) { break }
            try archiveSome(leader)
            for node in nodes where node !== leader { try comeNearer(node) }
            try lookAround()
        }
    }

    private func isCaughtUp(_ node: ClusterNode, _ leader: Engine) -> Bool {
        node.follower.map { $0.publishedLSN >= leader.durableLSN } ?? false
    }

    private func comeNearer(_ node: ClusterNode) throws {
        if node.engine == nil, !node.isRewinding { try open(node) }
        if try mustRejoin(node) { try rejoin(node) }
        node.disk.failPower(atCall: nil)
        guard node.follower != nil else { return }
        try replay(node, turns: 8)
        try connect(node)
        if let stream = streams[node.index] { (stream.isForwardCut, stream.isBackwardCut) = (false, false) }
        for _ in 0..<8 {
            try send(node.index, atMost: 60_000)
            try deliver(node.index)
        }
        try acknowledge(node.index)
        try deliverAcknowledgement(node.index)
        try replay(node, turns: 8)
        try keep(node)
        // Only a stream that has nothing more to bring is given up: the archive may have what it lacks.
        if let stream = streams[node.index], stream.toFollower.isEmpty, stream.leader.leader == nil || stream.isEnded {
            lose(node.index, nil)
        }
    }

    /// The archived log along the newest history is one log, and a node that has nothing else comes to the leader's state by it.
    private func requireArchive(_ leader: ClusterNode, _ engine: Engine, _ token: TimelineToken) throws {
        try switchSegment(leader)
        for node in nodes { try archiveSome(node) }
        let history = try engine.timelineHistory()
        let end = archive.end(along: history, from: firstLog)
        guard end >= engine.durableLSN else {
            throw Violation("the archive has the log to \(end) without a gap, and the leader to \(engine.durableLSN)")
        }
        let reader = archive.makeReader(history, system, from: firstLog)
        while try reader.next() != nil {}
        guard reader.position >= end else {
            throw Violation(
                "the archived log breaks off at \(reader.position) of \(end): \(reader.end.map { "\($0)" } ?? "")")
        }
        for backup in try backups.filter({ try isUsable($0) }).shuffled(using: &random).prefix(2) {
            let node = ClusterNode(3, try makeFollower(of: backup, 3))
            defer { node.abandon() }
            try open(node)
            guard let follower = node.follower else { throw Violation("a new copy does not start") }
            for _ in 0..<64 where follower.publishedLSN < engine.publishedLSN { follower.replayStep(turns: 16) }
            guard follower.publishedLSN >= engine.publishedLSN, follower.timelineToken == token else {
                throw Violation(
                    "a new copy comes to \(follower.publishedLSN) by the archive: \(follower.followerStatus.map { "\($0)" } ?? "")"
                )
            }
            try requireState(follower, "a new copy")
            try requireStructure(follower, "a new copy")
        }
    }
}
