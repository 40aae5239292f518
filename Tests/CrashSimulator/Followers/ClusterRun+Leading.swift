import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL

/// What leaders do.
extension ClusterRun {
    func transact(_ node: ClusterNode, flushing: Bool) throws {
        try work(node) { engine in
            guard let end = try stage(node, engine, operations: random.chance(6) ? 40 : random.number(1...10)), flushing
            else { return }
            try flush(node, engine, through: end)
        }
    }

    /// Commits without waiting for the disk; nothing when another transaction runs.
    @discardableResult
    func stage(_ node: ClusterNode, _ engine: Engine, operations: Int) throws -> LSN? {
        guard let transaction = try engine.tryBeginTransaction(), let token = node.token else { return nil }
        var state = try model.newest(token)
        do {
            for _ in 0..<operations { try state.change(transaction, &random) }
        } catch {
            transaction.rollback()
            throw error
        }
        let time = engine.lastCommitTimeNow
        model.begin(token, state)
        let staged: StagedCommit
        do {
            staged = try transaction.stage()
        } catch {
            model.refuse(token)
            throw error
        }
        if staged.transactions == nil { model.refuse(token) } else { model.commit(token, end: staged.end) }
        guard engine.lastCommitTimeNow >= time else {
            throw Violation("\(node.name): a commit's time lies before that of the one before it")
        }
        count { $0.transactions += 1 }
        return staged.end
    }

    func flush(_ node: ClusterNode) throws {
        try work(node) { try flush(node, $0, through: $0.appendedLSN) }
    }

    func flush(_ node: ClusterNode, _ engine: Engine, through lsn: LSN) throws {
        guard let token = node.token else { return }
        node.activity = "flush"
        node.meanwhile = { [unowned self, unowned node] in duringSync(node, $0) }
        defer { node.meanwhile = nil }
        try engine.flush(through: lsn)
        model.madeDurable(token, to: lsn)
    }

    func checkpoint(_ node: ClusterNode) throws {
        try work(node) { engine in
            node.activity = "checkpoint"
            node.meanwhile = { [unowned self, unowned node] in duringSync(node, $0) }
            defer { node.meanwhile = nil }
            try engine.checkpoint()
        }
    }

    func switchSegment(_ node: ClusterNode) throws {
        try work(node) { engine in
            node.activity = "switch"
            guard let token = node.token else { return }
            model.madeDurable(token, to: try engine.switchWAL())
        }
    }

    /// What others do while a leader waits for its disk: no lock is held that they need.
    private func duringSync(_ node: ClusterNode, _ call: SimulatedDisk.Call) {
        guard call.kind == .sync, !call.path.hasSuffix(".tmp"), violation == nil, node.isUp, let engine = node.engine,
            call.path.hasPrefix("wal/") || call.path.hasPrefix("pages/")
        else { return }
        do {
            switch random.number(0...9) {
            case 0..<3: try stage(node, engine, operations: random.number(1...5))
            case 3..<5: for index in nodes.indices { try send(index) }
            case 5: try archiveSome(node)
            case 6: for index in nodes.indices { try deliverAcknowledgement(index) }
            default: break
            }
        } catch let error as Violation { violation = error } catch {}
    }

    // MARK: The archive

    /// Pushes the segments that are marked, and marks them done, as the agent does.
    func archiveSome(_ node: ClusterNode) throws {
        guard node.leader != nil else { return }
        try work(node) { _ in
            for entry in try node.disk.list("wal/archive_status") where entry.hasSuffix(".ready") {
                guard let name = SegmentName(entry.dropLast(6)) else { continue }
                let bytes = node.disk.peek(name.walPath, 0..<SegmentNumber.bytes)
                guard bytes.count == SegmentNumber.bytes else {
                    throw Violation("\(node.name): segment \(name) is to be archived and has \(bytes.count) bytes")
                }
                try archive.push(name, bytes)
                try node.disk.rename(name.readyPath, to: name.donePath)
                try node.disk.syncDirectory("wal/archive_status")
            }
        }
    }

    /// A mark without its segment stops the archiver of whoever leads next.
    func requireMarkedSegments(_ disk: SimulatedDisk, _ name: String) throws(Violation) {
        let segments = Set(disk.names(in: "wal"))
        for mark in disk.names(in: "wal/archive_status") where mark.hasSuffix(".ready") {
            guard !segments.contains(String(mark.dropLast(6))) else { continue }
            throw Violation("\(name): \(mark) is to be archived, and there is no such segment")
        }
    }

    /// Below what a leader says that its segments are archived.
    func archivedLSN(_ engine: Engine) throws -> LSN {
        archive.end(along: try history(of: engine.timelineToken), from: firstLog)
    }

    /// A slot that is valid keeps its log, through all checkpoints.
    func checkSlots(_ node: ClusterNode, _ engine: Engine) throws {
        let durable = engine.durableLSN
        let slots = engine.slots.all.filter { $0.slot.invalidReason == nil && $0.slot.restart < durable }
        guard let lowest = slots.min(by: { $0.slot.restart < $1.slot.restart }) else { return }
        let history = try history(of: engine.timelineToken)
        let there = Set(node.disk.names(in: "wal"))
        var number = SegmentNumber(containing: lowest.slot.restart)
        while number.start < durable {
            let isThere = history.entries.contains {
                $0.switchLSN < number.end && there.contains("\(SegmentName(timeline: $0.timeline, segment: number))")
            }
            guard isThere else {
                throw Violation(
                    "\(node.name): slot \(lowest.name) keeps the log from \(lowest.slot.restart) on, and segment \(number) is gone"
                )
            }
            number = number.next
        }
    }
}
