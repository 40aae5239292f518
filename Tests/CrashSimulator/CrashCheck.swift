import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL

/// What a seed has counted.
public struct Counts: RunTally, Equatable {
    public init() {}
    public var seeds = 0
    public var transactions = 0
    public var checkpoints = 0
    public var switches = 0
    public var restores = 0
    public var crashPoints = 0
    public var recoveries = 0
    public var secondCrashes = 0
    /// Recoveries behind bit rot, and how many of them were refused, as they may be.
    public var rotten = 0
    public var refused = 0

    public static func += (a: inout Counts, b: Counts) {
        a.seeds += b.seeds
        a.transactions += b.transactions
        a.checkpoints += b.checkpoints
        a.switches += b.switches
        a.restores += b.restores
        a.crashPoints += b.crashPoints
        a.recoveries += b.recoveries
        a.secondCrashes += b.secondCrashes
        a.rotten += b.rotten
        a.refused += b.refused
    }
}

/// Recovers what a crash left, with further crashes meanwhile, and checks all that was promised: what was acknowledged
/// is there, the rest whole or not at all, the structure sound, and the engine goes on.
struct CrashCheck {
    let settings: Settings
    var random: SeededGenerator
    /// How often work may go on after a recovery, to end in another crash.
    var depth = 0
    var counts = Counts()

    mutating func run(_ crashed: SimulatedDisk, _ before: History) throws {
        var (disk, history) = (crashed, before)
        if random.chance(25) { (disk, history) = try cutOff(disk, history) }
        if random.chance(6) { disk = try failRead(disk) }
        counts.recoveries += 1
        let driver = try open(disk, history)
        defer { driver.abandon() }
        try requireStructure(driver.engine)
        if depth < 3, random.chance(40) { try goOn(driver) }
    }

    private mutating func open(_ disk: SimulatedDisk, _ history: History) throws -> Driver {
        do {
            return try Driver(
                disk, settings, archive: nil, history: history, random: SeededGenerator(seed: random.next()))
        } catch let error as Violation { throw error } catch { throw Violation("recovery failed: \(error)") }
    }

    private func requireStructure(_ engine: Engine) throws {
        let problems = try engine.structureProblems()
        guard problems.isEmpty else { throw Violation("the structure is damaged: \(problems.prefix(3))") }
    }

    /// Crashes in the recovery, at any of its calls, again and again.
    private mutating func cutOff(_ crashed: SimulatedDisk, _ before: History) throws -> (SimulatedDisk, History) {
        var (disk, history) = (crashed, before)
        for _ in 0..<random.number(1...3) {
            disk.failPower(atCall: random.chance(30) ? random.number(1...120) : random.number(15...55))
            do {
                counts.recoveries += 1
                let driver = try Driver(disk, settings, archive: nil, history: history, random: random)
                history = driver.history
                driver.abandon()
            } catch let error as Violation { throw error } catch {
                guard disk.isPowerLost else { throw Violation("recovery failed: \(error)") }
                counts.secondCrashes += 1
            }
            disk = disk.restart(seed: random.next())
        }
        return (disk, history)
    }

    /// A read of the log fails: recovery must say so.
    private mutating func failRead(_ disk: SimulatedDisk) throws -> SimulatedDisk {
        let copy = disk.afterKill(seed: random.next())
        let countdown = Countdown(random.number(1...4))
        copy.injectFaults { call in
            call.kind == .read && call.path.hasPrefix("wal/") && countdown.isOver() ? .error(.inputOutput) : nil
        }
        do {
            // What it holds is checked by whoever opens it next.
            try Engine(opening: copy, options: settings.options {}).abandon()
        } catch {}
        return copy.afterKill(seed: random.next())
    }

    /// Works on after the recovery, and crashes once more.
    private mutating func goOn(_ driver: Driver) throws {
        let disk = driver.disk
        if random.chance(50) { disk.failPower(atCall: disk.calls + random.number(1...60)) }
        disk.interleave { [unowned driver] in driver.meanwhile($0) }
        do {
            for _ in 0..<random.number(1...5) { try driver.step() }
            if random.chance(40) { try driver.switchSegment() }
            if random.chance(60) { try driver.transact(flushing: true) }
        } catch let error as Violation { throw error } catch {}
        disk.interleave(nil)
        counts.transactions += driver.transactions
        let positions = Rot.Positions(driver.engine)
        driver.abandon()
        counts.secondCrashes += 1
        depth += 1
        if random.chance(15) { return try crash(disk, driver.history, rottenAt: positions) }
        try run(
            random.chance(85) ? disk.restart(seed: random.next()) : disk.afterKill(seed: random.next()), driver.history)
    }
}

/// Says so at the `count`th question, once.
final class Countdown: @unchecked Sendable {
    // Sendable: used by one thread.
    private var left: Int
    init(_ count: Int) { left = count }
    func isOver() -> Bool {
        left -= 1
        return left == 0
    }
}
