import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL

/// What followers do, and what is looked at on any node.
extension ClusterRun {
    func replay(_ node: ClusterNode, turns: Int? = nil) throws {
        guard let engine = node.follower else { return }
        node.activity = "replay"
        // The keeper goes on while replay waits for its disk.
        node.meanwhile = { [unowned self, unowned node] call in
            guard call.kind == .read, call.path.hasPrefix("wal/"), random.chance(12) else { return }
            node.follower?.keeperStep()
        }
        engine.replayStep(turns: turns ?? random.number(1...3))
        node.meanwhile = nil
        if random.chance(10), node.isUp, node.pinned.count < 2 { try pin(node) }
    }

    func keep(_ node: ClusterNode) throws {
        guard let engine = node.follower else { return }
        node.activity = "restartpoint"
        // Stream and replay go on while the keeper waits for its disk.
        node.meanwhile = { [unowned self, unowned node] call in
            guard call.kind == .sync, call.path.hasPrefix("pages/"), violation == nil, node.isUp else { return }
            do {
                switch random.number(0...3) {
                case 0: try deliver(node.index)
                case 1: node.follower?.replayStep(turns: 1)
                default: break
                }
            } catch let error as Violation { violation = error } catch {}
        }
        engine.keeperStep()
        node.meanwhile = nil
    }

    // MARK: Readers

    /// A reader of now sees a state that the timeline's leader had, and the one of its LSN.
    func read(_ node: ClusterNode) throws {
        guard node.isUp, let engine = node.engine else { return }
        for (at, entry) in node.pinned.enumerated().reversed() {
            do {
                guard try entry.handle.read({ try Model.digest($0) }) == entry.digest else {
                    throw Violation("\(node.name): a snapshot of \(entry.handle.lsn) shows something else")
                }
            } catch EngineError.snapshotTooOld {} catch let error as EngineError where !error.isDamage {}
            if random.chance(50) { node.pinned.remove(at: at).handle.close() }
        }
        try attempt(node) { try requireState(engine, node.name) }
    }

    private func pin(_ node: ClusterNode) throws {
        guard let engine = node.engine, let token = node.token else { return }
        let handle = try engine.makeSnapshot()
        node.pinned.append((handle, try model.state(at: handle.lsn, on: token).digest))
    }

    /// - Parameters:
    ///   - mayBePending: a commit whose end nobody was told may be there.
    ///   - mayHaveLost: a start has dropped what was not durable, and goes on behind it with other log.
    func requireState(
        _ engine: Engine, _ name: String, mayBePending: Bool = false, mayHaveLost: Bool = false
    ) throws {
        let token = engine.timelineToken
        let (lsn, digest) = try reading(name) { try engine.read { ($0.lsn, try Model.digest($0)) } }
        if try model.state(at: lsn, on: token).digest == digest { return }
        if mayBePending, try model.branch(token).pending?.digest == digest { return }
        if mayHaveLost, try model.mayLeave(digest, on: token) { return }
        let role = engine.isFollower ? "follower" : "leader"
        throw Violation("\(name), a \(role), shows a state at \(lsn) that its timeline's leader never had there")
    }

    func checkPages(_ node: ClusterNode) throws {
        try work(node) { try requireStructure($0, node.name) }
    }

    func requireStructure(_ engine: Engine, _ name: String) throws {
        let problems = try reading(name) { try engine.structureProblems() }
        guard problems.isEmpty else { throw Violation("\(name): the structure is damaged: \(problems.prefix(3))") }
    }

    /// The structure, and every page as it lies on the disk: those that a crash has torn are whole from the next checkpoint
    /// or restartpoint on.
    func requirePages(_ engine: Engine, _ name: String) throws {
        do {
            let problems = try reading(name) { try engine.check() }.problems
            guard problems.isEmpty else { throw Violation("\(name): the pages are damaged: \(problems.prefix(3))") }
        } catch EngineError.snapshotTooOld {}
    }

    private func reading<R>(_ name: String, _ body: () throws -> R) throws -> R {
        do { return try body() } catch let error as EngineError where error.isDamage {
            throw Violation("\(name): a reader meets damage: \(error)")
        }
    }
}
