import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL

/// How a simulation is carried out; what happens in it a seed decides.
public struct SimulationOptions: Sendable {
    /// Transactions of each seed, at least.
    public var transactions: Int
    /// Of 1,000 I/O calls, so many are crash points.
    public var density: Int

    public init(transactions: Int = 200, density: Int = 250) {
        self.transactions = transactions
        self.density = density
    }
}

/// Where a promise was broken.
public struct Failure: Sendable, CustomStringConvertible {
    public var seed: UInt64
    /// The call before which the power failed, or `nil` when the engine broke the promise while it ran.
    public var crashPoint: String?
    public var violation: String
    public var description: String {
        let what = violation.replacing("\n", with: "; ")
        return "seed \(seed), \(crashPoint.map { "crash at \($0)" } ?? "no crash"): \(what)"
    }
}

/// One seed: a data directory from its beginning, through several lives of an engine that end in order, by a kill, by a
/// power loss or by a failed sync. At many of the I/O calls, a copy of the disk is what a crash there would leave: it is
/// recovered and checked, and the run goes on as if nothing had happened.
public final class SeedRun: SeededRun, @unchecked Sendable {
    // Sendable: used by one thread; the disk calls back on the thread that called it.
    let seed: UInt64
    let options: SimulationOptions
    private(set) var settings: Settings
    private var random: SeededGenerator
    /// Apart from the run's own numbers, so that the density of crash points does not change the run.
    private var crashRandom: SeededGenerator
    private let archive: Archive?
    private var history = History()
    private var driver: Driver?
    private var backup: Backup?
    private var life = 0
    private var failure: Failure?
    public private(set) var counts = Counts()

    public init(seed: UInt64, options: SimulationOptions) {
        self.seed = seed
        self.options = options
        random = SeededGenerator(seed: seed)
        crashRandom = SeededGenerator(seed: ~seed)
        let isArchiving = random.chance(50)
        archive = isArchiving ? Archive() : nil
        settings = Settings(
            isArchiving: isArchiving, isAsynchronous: random.chance(15), cachePages: random.chance(50) ? 64 : 1024)
    }

    /// Runs the seed.
    /// - Returns: the first broken promise, if any.
    public func run() -> Failure? {
        counts.seeds = 1
        do {
            var disk = SimulatedDisk(seed: random.next())
            disk.setSectors(bytes: random.chance(50) ? 512 : 4096)
            try Engine.initialize(
                disk, options: InitializeOptions(systemIdentifier: SystemIdentifier(rawValue: seed | 1)))
            while counts.transactions < options.transactions || counts.checkpoints == 0 || counts.switches == 0 {
                disk = try live(on: disk)
                life += 1
            }
            try last(on: disk)
        } catch {
            if failure == nil { failure = Failure(seed: seed, crashPoint: nil, violation: "\(error)") }
        }
        return failure
    }

    // MARK: Lives

    /// Opens the directory, works, and ends somehow.
    /// - Returns: the disk that the next life finds.
    private func live(on disk: SimulatedDisk) throws -> SimulatedDisk {
        // Recoveries are crash points too.
        disk.observe { [unowned self] in observe($0, disk) }
        let driver = try Driver(disk, settings, archive: archive, history: history, random: random)
        defer { random = driver.random }
        self.driver = driver
        defer { self.driver = nil }
        try requireStructure(driver)
        disk.interleave { [unowned driver, unowned self] call in
            driver.meanwhile(call)
            // What was just seen or appended, and no further I/O since.
            if call.kind == .sync { observe(call, disk) }
        }
        let trouble = Trouble.allCases.randomElement(using: &random)!
        if random.chance(60) { trouble.arm(disk, driver, from: disk.calls + random.number(5...250), &random) }
        let wanted = random.number(20...70)
        var error: (any Error)?
        do {
            while driver.transactions < wanted, failure == nil { try driver.step() }
        } catch let thrown { error = thrown }
        if let failure { throw Violation(failure.violation) }
        if let violation = error as? Violation { throw violation }
        disk.injectFaults(nil)
        disk.limitCapacity(nil)
        let next = try end(driver, disk, stopped: error)
        if let failure { throw Violation(failure.violation) }
        history = driver.history
        if let taken = driver.backup { backup = taken }
        counts.transactions += driver.transactions
        counts.checkpoints += driver.checkpoints
        counts.switches += driver.switches
        return next
    }

    private func end(_ driver: Driver, _ disk: SimulatedDisk, stopped error: (any Error)?) throws -> SimulatedDisk {
        if error == nil, random.chance(30) {
            try driver.close()
            disk.observe(nil)
            disk.interleave(nil)
            return random.chance(50) ? disk.restart(seed: random.next()) : disk.afterKill(seed: random.next())
        }
        if error == nil, random.chance(30) {
            // In the middle of something.
            disk.failPower(atCall: disk.calls + random.number(1...80))
            do { while true { try driver.step() } } catch let violation as Violation { throw violation } catch {}
        }
        disk.observe(nil)
        disk.interleave(nil)
        driver.abandon()
        // After a failed sync the cache lies: more of that.
        return random.chance(error == nil ? 60 : 40)
            ? disk.restart(seed: random.next()) : disk.afterKill(seed: random.next())
    }

    /// The last life: everything is archived, and a backup restored.
    private func last(on disk: SimulatedDisk) throws {
        let driver = try Driver(disk, settings, archive: archive, history: history, random: random)
        defer { driver.abandon() }
        random = driver.random
        try requireStructure(driver)
        guard let archive else { return }
        try driver.switchSegment()
        try driver.archiveSome()
        if let gap = archive.gaps.first { throw Violation("segment \(gap) is missing from the archive") }
        guard archive.end >= driver.engine.durableLSN else {
            throw Violation("the archive ends at \(archive.end), the log at \(driver.engine.durableLSN)")
        }
        guard let backup else { return }
        counts.restores += 1
        var restore = RestoreRun(
            backup: backup, archive: archive, history: driver.history, settings: settings,
            random: SeededGenerator(seed: crashRandom.next()))
        defer { counts += restore.counts }
        do { try restore.run(crashPoints: max(2, options.density / 25)) } catch {
            failure = Failure(seed: seed, crashPoint: restore.crashPoint, violation: "\(error)")
            throw error
        }
    }

    private func requireStructure(_ driver: Driver) throws {
        let problems = try driver.engine.structureProblems()
        guard problems.isEmpty else { throw Violation("the structure is damaged: \(problems.prefix(3))") }
    }

    // MARK: Crash points

    private func observe(_ call: SimulatedDisk.Call, _ disk: SimulatedDisk) {
        guard failure == nil, !disk.isPowerLost, crashRandom.number(0...999) < options.density else { return }
        counts.crashPoints += 1
        var check = CrashCheck(settings: settings, random: SeededGenerator(seed: crashRandom.next()))
        do {
            try crash(disk, &check)
        } catch {
            failure = Failure(seed: seed, crashPoint: "life \(life), \(call)", violation: "\(error)")
        }
        counts += check.counts
    }

    private func crash(_ disk: SimulatedDisk, _ check: inout CrashCheck) throws {
        let history = driver?.history ?? history
        if check.random.chance(20) { return try check.run(disk.afterKill(seed: check.random.next()), history) }
        if let engine = driver?.engine, check.random.chance(15) {
            return try check.crash(disk, history, rottenAt: Rot.Positions(engine))
        }
        try check.run(disk.restart(seed: check.random.next()), history)
    }
}

/// What goes wrong with the disk in a life.
enum Trouble: CaseIterable {
    case failedSync, failedPreparation, failedPageSync, failedDirectorySync, failedWrite, failedRead, shortWrite,
        noSpace

    /// It happens at the first call of its kind at or behind number `from`.
    func arm(_ disk: SimulatedDisk, _ driver: Driver, from: Int, _ random: inout SeededGenerator) {
        let once = Countdown(1)
        func fault(_ fault: SimulatedDisk.Fault, _ matches: @escaping @Sendable (SimulatedDisk.Call) -> Bool) {
            disk.injectFaults { call in
                call.number >= from && matches(call) && once.isOver() ? fault : nil
            }
        }
        switch self {
        case .failedSync:
            fault(.error(.inputOutput)) {
                $0.kind == .sync && $0.path.hasPrefix("wal/") && !$0.path.hasSuffix(".tmp")
            }
        case .failedPreparation: fault(.error(.inputOutput)) { $0.kind == .sync && $0.path.hasSuffix(".tmp") }
        case .failedPageSync: fault(.error(.inputOutput)) { $0.kind == .sync && $0.path.hasPrefix("pages/") }
        case .failedDirectorySync: fault(.error(.inputOutput)) { $0.kind == .syncDirectory }
        case .failedWrite: fault(.error(.inputOutput)) { $0.kind == .write }
        case .failedRead: fault(.error(.inputOutput)) { $0.kind == .read }
        case .shortWrite: fault(.half(.inputOutput)) { $0.kind == .write }
        case .noSpace:
            // For a while: then there is room again.
            let until = from + random.number(1...120)
            disk.injectFaults { call in
                (from..<until).contains(call.number)
                    && [.write, .allocate, .setSize, .open, .createDirectory].contains(call.kind)
                    && (call.kind != .write || call.path.hasSuffix(".tmp") || call.path.contains("archive_status"))
                    ? .error(.noSpace) : nil
            }
        }
    }
}
