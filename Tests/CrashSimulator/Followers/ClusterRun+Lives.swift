import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL

/// How nodes start, and how they end.
extension ClusterRun {
    func options(_ node: ClusterNode, _ archive: SharedArchive, onStop: @escaping () -> Void) -> EngineOptions {
        let isFollower = !node.disk.peek(StandbySignal.fileName, 0..<1).isEmpty
        return settings.options(follower: isFollower, skew: node.skew, archive: archive, onStop: onStop)
    }

    /// Starts a node, whose directory is some node's. What is recovered must be what it may hold.
    func open(_ node: ClusterNode) throws {
        node.activity = "start"
        node.isStopped = false
        let needsNoArchive = archive.isAway && holdsItsLog(node)
        do {
            node.engine = try Engine(
                opening: node.disk, options: options(node, archive) { [unowned node] in node.isStopped = true })
        } catch {
            if let violation { throw violation }
            if node.disk.isPowerLost || node.isStopped { return afterCrash(node) }
            if try lacksLog(node) { return }
            guard archive.isAway, !needsNoArchive else { throw Violation("\(node.name) does not start: \(error)") }
            return
        }
        guard let engine = node.engine, node.isUp else { return }
        node.awaited = nil
        tell("\(node.name) starts as \(engine.isFollower ? "a follower" : "the leader") at \(engine.publishedLSN)")
        if engine.isFollower {
            try requireState(engine, node.name)
        } else {
            node.confirmed = nil
            let (end, digest) = try engine.read { ($0.lsn, try Model.digest($0)) }
            if let token = node.token, current != TimelineToken(rawValue: 0) {
                try model.recovered(token, end: end, digest: digest)
            }
        }
    }

    /// A rewound node waits for the log that its pages need.
    private func lacksLog(_ node: ClusterNode) throws -> Bool {
        guard let awaited = node.awaited else { return false }
        return archive.end(along: try history(of: awaited.token), from: firstLog) < awaited.lsn
    }

    /// A follower that has gone over to a later timeline, and has all log from its redo point on to where its pages are
    /// whole, needs no archive to start: it has kept that timeline's history.
    private func holdsItsLog(_ node: ClusterNode) -> Bool {
        guard let confirmed = node.confirmed, let branch = try? model.branch(confirmed.token), branch.parent != nil,
            let control = node.lastControl, control.demand == nil, let mark = control.minimumRecoveryPoint,
            mark.timeline == branch.timeline, control.redo.timeline == branch.timeline,
            node.disk.peek(PromoteSignal.path, 0..<1).isEmpty
        else { return false }
        let there = Set(node.disk.names(in: "wal"))
        var number = SegmentNumber(containing: control.redo.lsn)
        while number.start < mark.lsn {
            guard there.contains("\(SegmentName(timeline: branch.timeline, segment: number))") else { return false }
            number = number.next
        }
        return true
    }

    func start(_ node: ClusterNode) throws {
        guard node.engine == nil else { return }
        if node.isRewinding { return try rejoin(node) }
        try open(node)
    }

    // MARK: Ends

    func armPowerFailure(_ node: ClusterNode) {
        guard node.isUp else { return }
        node.disk.failPower(atCall: node.disk.calls + random.number(1...60))
    }

    func armFailedSync(_ node: ClusterNode) {
        guard node.isUp else { return }
        let once = Countdown(1), from = node.disk.calls + random.number(1...20)
        let ofPages = random.chance(50)
        node.disk.injectFaults { call in
            call.number >= from && call.kind == .sync && call.path.hasPrefix(ofPages ? "pages/" : "wal/")
                && !call.path.hasSuffix(".tmp") && once.isOver() ? .error(.inputOutput) : nil
        }
    }

    /// Ends a node that runs, or whose power has failed: by a power loss, or as `kill -9` does.
    func crash(_ node: ClusterNode) throws {
        guard node.engine != nil else { return }
        afterCrash(node)
    }

    /// Whatever runs of the node ends here.
    func afterCrash(_ node: ClusterNode) {
        count {
            $0.crashes += 1
            $0.distinctCrashPoints.insert("\(node.activity), between calls")
        }
        for index in streams.indices {
            guard let stream = streams[index] else { continue }
            if stream.follower === node {
                streams[index] = nil
            } else if stream.leader === node {
                lose(index, "its leader is gone")
            }
        }
        if copying?.node === node { copying = nil }
        tell("\(node.name) crashes while it is at \(node.activity)")
        node.lastControl = node.engine?.controlData ?? node.lastControl
        let isLoss = node.disk.isPowerLost || random.chance(60)
        node.abandon()
        let old = node.disk
        old.observe(nil)
        old.interleave(nil)
        node.disk = isLoss ? old.restart(seed: random.next()) : old.afterKill(seed: random.next())
        if isLoss {
            for name in node.saved.keys.sorted() { node.saved[name] = node.saved[name]!.restart(seed: random.next()) }
        }
        observe(node)
    }

    // MARK: Crash points

    /// What happens around a node's calls: others go on, and a copy of its disk is what a crash there would leave.
    func observe(_ node: ClusterNode) {
        let disk = node.disk
        disk.interleave { [unowned node] in node.meanwhile?($0) }
        disk.observe { [unowned self, unowned node] call in
            guard violation == nil, !isChecking, !disk.isPowerLost, crashRandom.number(0...999) < options.density else {
                return
            }
            isChecking = true
            defer { isChecking = false }
            let kind = call.path.split(separator: "/").first.map(String.init) ?? "."
            count {
                $0.crashPoints += 1
                $0.distinctCrashPoints.insert("\(node.activity), \(call.kind.rawValue) \(kind)")
            }
            do {
                try checkCrash(node)
            } catch {
                crashPoint = "\(crashPoint ?? ""), \(node.name) at \(node.activity), \(call)"
                violation = error as? Violation ?? Violation("\(error)")
            }
        }
    }

    /// Recovers a copy of the node's disk, as a crash at this moment would leave it.
    private func checkCrash(_ node: ClusterNode) throws {
        let seed = crashRandom.next()
        let disk = crashRandom.chance(25) ? node.disk.afterKill(seed: seed) : node.disk.restart(seed: seed)
        let engine: Engine
        do {
            engine = try Engine(opening: disk, options: options(node, archive.copy()) {})
        } catch {
            // From its mark on, and where its signal has no control file to go with it, a rewind must be repeated.
            if try lacksLog(node) { return }
            if node.activity == "rewind", let error = error as? EngineError, error.waitsForRewind { return }
            throw Violation("after a crash it does not start: \(error)")
        }
        defer { engine.abandon() }
        try requireMarkedSegments(disk, node.name + " after a crash")
        let control = engine.controlData
        var name =
            "\(node.name) after a crash (redo from \(control.redo.lsn), whole from \(control.minimumRecoveryPoint?.lsn ?? .zero))"
        guard engine.isFollower else {
            try requireState(engine, name, mayBePending: true, mayHaveLost: node.activity == "start")
            let durable = try model.branch(engine.timelineToken).durable
            guard engine.publishedLSN >= durable else {
                throw Violation("\(name) starts at \(engine.publishedLSN), and \(durable) was durable")
            }
            return try requireStructure(engine, name)
        }
        try requireState(engine, name)
        if crashRandom.chance(30) { engine.keeperStep() }
        engine.replayStep(turns: 64)
        name += ", and replay"
        if let problem = engine.followerStatus?.problem, problem.hasPrefix("replay cannot go on") {
            throw Violation("\(name): \(problem)")
        }
        try requireState(engine, name)
        if let confirmed = node.confirmed, confirmed.token == engine.timelineToken, engine.publishedLSN < confirmed.lsn
        {
            throw Violation("\(name) has \(engine.publishedLSN), and had confirmed \(confirmed.lsn)")
        }
        engine.keeperStep()
        if crashRandom.chance(30) { try requireStructure(engine, name) }
    }
}

extension EngineError {
    fileprivate var waitsForRewind: Bool {
        switch self {
        case .restoreInProgress, .needsArchive: true
        default: false
        }
    }
}
