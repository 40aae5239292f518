import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL

/// One seed of a cluster: a leader, two followers and a repository, with all that may go wrong between and in them, one step
/// at a time on one thread. The engines have no threads: what a follower's replaying thread and its keeper do is a step as well.
///
/// A seed fixes every choice, the contents, the order of all steps and calls, and what each crash leaves. It does not fix the
/// timelines' tokens, which the engine draws at random and on which no step depends; nor does it interleave anything inside a
/// call but where `meanwhile` says so.
public final class ClusterRun: SeededRun, @unchecked Sendable {
    // Sendable: used by one thread; disks and archive call back on the thread that called them.
    let seed: UInt64
    let options: ClusterOptions
    var random: SeededGenerator
    /// Apart from the run's own numbers, so that the density of crash points does not change the run.
    var crashRandom: SeededGenerator
    let settings: ClusterSettings
    let archive = SharedArchive()
    var model = ClusterModel()
    var nodes: [ClusterNode] = []
    /// By the index of their follower.
    var streams: [SimulatedStream?] = [nil, nil, nil]
    var backups: [ClusterBackup] = []
    var copying: CopyingBackup?
    /// The newest timeline that was claimed, and who did.
    var current = TimelineToken(rawValue: 0)
    var claimant = 0
    /// The end of the last commit that was acknowledged because a follower has it.
    var promised = LSN.zero
    /// Set while a promotion is under way for which no follower streams and the furthest was chosen.
    var isOrderly = false
    var system = SystemIdentifier(rawValue: 1)
    /// Where the archive's log begins.
    var firstLog = LogLayout.firstPosition
    /// Broken where nothing can be thrown.
    var violation: Violation?
    var crashPoint: String?
    var isChecking = false
    public private(set) var counts = ClusterCounts()

    public init(seed: UInt64, options: ClusterOptions) {
        self.seed = seed
        self.options = options
        random = SeededGenerator(seed: seed)
        crashRandom = SeededGenerator(seed: ~seed)
        settings = ClusterSettings(
            cachePages: random.chance(50) ? 64 : 1024, isTight: random.chance(40),
            slotSegments: random.chance(30) ? 4 : 64)
        archive.onClaim = { [unowned self] in claimed($0) }
    }

    /// Runs the seed.
    /// - Returns: the first broken promise, if any.
    public func run() -> Failure? {
        counts.seeds = 1
        do {
            try begin()
            for _ in 0..<options.steps {
                do { try step() } catch {
                    // A call of a node whose power has failed, in the middle of something that others take part in.
                    guard !(error is Violation), nodes.contains(where: { $0.engine != nil && !$0.isUp }) else {
                        throw error
                    }
                    try lookAround()
                }
                counts.steps += 1
            }
            try settle()
        } catch {
            for node in nodes { node.abandon() }
            return Failure(seed: seed, crashPoint: crashPoint, violation: "\(error)")
        }
        for node in nodes { node.abandon() }
        return nil
    }

    /// For whoever looks for the cause of what a seed has found.
    func tell(_ what: @autoclosure () -> String) {
        if options.isTraced { print("\(counts.steps): \(what())") }
    }

    func count(_ change: (inout ClusterCounts) -> Void) { change(&counts) }

    // MARK: The beginning

    /// A leader with some content and a backup, and two followers that were made of it.
    private func begin() throws {
        let disk = SimulatedDisk(seed: random.next())
        disk.setSectors(bytes: random.chance(50) ? 512 : 4096)
        system = SystemIdentifier(rawValue: seed | 1)
        try Engine.initialize(disk, options: InitializeOptions(systemIdentifier: system))
        nodes = [ClusterNode(0, disk)]
        try open(nodes[0])
        guard let engine = nodes[0].leader, let token = nodes[0].token else { throw Violation("no leader at first") }
        current = token
        model.add(token, .init(timeline: .first, parent: nil, from: .zero))
        for _ in 0..<random.number(2...6) { try transact(nodes[0], flushing: true) }
        try beginBackup(nodes[0], engine)
        while copying != nil {
            try transact(nodes[0], flushing: true)
            try copySome()
        }
        try archiveSome(nodes[0])
        guard let backup = backups.first else { throw Violation("no backup at first") }
        firstLog = backup.start.startLSN
        for index in 1...2 {
            nodes.append(ClusterNode(index, try makeFollower(of: backup, index)))
            try open(nodes[index])
        }
        for node in nodes { observe(node) }
    }

    // MARK: Steps

    /// One step of the run, whatever the seed says.
    private func step() throws {
        let node = nodes[random.number(0...2)]
        crashPoint = "step \(counts.steps)"
        switch random.number(0...199) {
        case 0..<24: try eachLeader { try transact($0, flushing: true) }
        case 24..<32: try eachLeader { try transact($0, flushing: false) }
        case 32..<36: try eachLeader { try flush($0) }
        case 36..<41: try onLeader(node) { try checkpoint($0) }
        case 41..<45: try eachLeader { try switchSegment($0) }
        case 45..<48: try onLeader(node) { try work($0) { try $0.prepareSegments() } }
        case 48..<50: try onLeader(node) { try work($0) { try $0.witness() } }
        case 50..<57: try eachLeader { try archiveSome($0) }
        case 57..<60: try eachNode { try work($0) { _ = try $0.writePagesOut(atMost: self.random.number(1...64)) } }
        case 60..<70: for index in nodes.indices { try connect(nodes[index]) }
        case 70..<84: for index in nodes.indices { try send(index) }
        case 84..<106: for index in nodes.indices { try deliver(index) }
        case 106..<116: for index in nodes.indices { try acknowledge(index) }
        case 116..<125: for index in nodes.indices { try deliverAcknowledgement(index) }
        case 125..<129: troubleNetwork(node.index)
        case 129..<145: try eachNode { try replay($0) }
        case 145..<153: try eachNode { try keep($0) }
        case 153..<159: try read(node)
        case 159..<161: try checkPages(node)
        case 161..<168: try backupStep(node)
        case 168..<172: armPowerFailure(node)
        case 172..<174: armFailedSync(node)
        case 174..<177: try crash(node)
        case 177..<189: try start(node)
        case 189: node.skew = Int64(random.number(-3_600_000_000...3_600_000_000))
        case 190: archive.isAway.toggle()
        case 191..<193: archive.isAway = false
        case 193..<196: try promoteSomebody()
        default: try rejoin(node)
        }
        try lookAround()
    }

    /// What is looked at behind each step: who has crashed, and what must hold of the rest at any time.
    func lookAround() throws {
        if let violation { throw violation }
        for node in nodes where node.engine != nil && !node.isUp { try crash(node) }
        var leaders: [TimelineID: Int] = [:]
        for node in nodes {
            guard let engine = node.engine else { continue }
            engine.tidy()
            if let problem = engine.followerStatus?.problem, problem.hasPrefix("replay cannot go on") {
                throw Violation("\(node.name): \(problem)")
            }
            guard !engine.isFollower else { continue }
            let timeline = try model.branch(engine.timelineToken).timeline
            if let other = leaders[timeline] {
                throw Violation("nodes \(other) and \(node.index) both lead timeline \(timeline)")
            }
            leaders[timeline] = node.index
            try checkSlots(node, engine)
        }
        if let violation { throw violation }
    }

    // MARK: What may fail

    /// Runs what may fail without harm. A node whose power has failed, or that has stopped, is found by `lookAround`.
    func attempt(_ node: ClusterNode, _ body: () throws -> Void) throws {
        do { try body() } catch {
            if let violation { throw violation }
            if error is Violation { throw error }
        }
    }

    func work(_ node: ClusterNode, _ body: (Engine) throws -> Void) throws {
        guard node.isUp, let engine = node.engine else { return }
        node.activity = "work"
        try attempt(node) { try body(engine) }
    }

    func eachNode(_ body: (ClusterNode) throws -> Void) throws {
        for node in nodes where node.isUp && random.chance(70) { try body(node) }
    }

    func eachLeader(_ body: (ClusterNode) throws -> Void) throws {
        for node in nodes where node.leader != nil { try body(node) }
    }

    func onLeader(_ node: ClusterNode, _ body: (ClusterNode) throws -> Void) throws {
        if node.leader != nil { try body(node) } else if let leader = currentLeader { try body(leader) }
    }

    /// The node that leads the newest timeline, while it runs.
    var currentLeader: ClusterNode? { nodes.first { $0.leader != nil && $0.token == current } }

    // MARK: Claims

    /// A timeline was claimed: from here on it is the one to follow.
    private func claimed(_ history: TimelineHistory) {
        guard let parent = history.entries.dropLast().last?.token else { return }
        let entry = history.current
        if parent != current {
            violation = Violation("timeline \(entry.timeline) was claimed, and does not come from the newest one")
        }
        if isOrderly, promised > entry.switchLSN {
            violation = Violation(
                "timeline \(entry.timeline) begins at \(entry.switchLSN), and a commit that ends at \(promised) was acknowledged"
            )
        }
        tell("timeline \(entry.timeline) is claimed at \(entry.switchLSN): \(entry.reason)")
        model.add(entry.token, .init(timeline: entry.timeline, parent: parent, from: entry.switchLSN))
        promised = min(promised, entry.switchLSN)
        current = entry.token
        claimant = nodes.first { history.current.reason.hasSuffix($0.name) }?.index ?? claimant
    }
}

/// How clusters are simulated; what happens in them a seed decides.
public struct ClusterOptions: Sendable {
    public var steps: Int
    /// Of 1,000 I/O calls, so many are crash points.
    public var density: Int

    /// Prints what happens.
    public var isTraced = false

    public init(steps: Int = 260, density: Int = 60) {
        self.steps = steps
        self.density = density
    }
}
