import HoldfastCore
import HoldfastTestSupport
import Testing

@testable import HoldfastWAL

@Suite("The log survives a power loss at any call")
struct CrashTests {
    /// Writes commits, with switches and witnesses, until the power fails. Returns the last one acknowledged.
    private func run(_ disk: SimulatedDisk, _ start: LogStart, from number: Int, count: Int) -> UInt64 {
        var acknowledged: UInt64 = 0
        do throws(WALError) {
            let writer = try makeWriter(disk, start, archiving: true)
            for number in number..<number + count {
                let done = try writer.appendCommit(number, pages: number % 5 + 1, fill: number * 37 % 3000)
                if number % 3 != 0 {
                    try writer.flush(through: done.end)
                    acknowledged = UInt64(number)
                }
                if number % 4 == 0 { try writer.flush(through: try writer.appendWitness()) }
                if number % 7 == 0 { _ = try writer.switchSegment() }
                if number % 8 == 0 {
                    try writer.recycle(below: writer.durableLSN) { $0.segment < SegmentNumber(3) && number > 20 }
                }
            }
        } catch {
            // The power failed.
        }
        return acknowledged
    }

    @Test("A1: a power loss at every call: every acknowledged commit is there, none is there twice or after a gap")
    func everyCall() throws {
        let seed = SeededGenerator.announcedSeed("log crash")
        let dry = try makeDisk(seed: seed)
        let made = dry.calls
        _ = run(dry, .newLog, from: 1, count: 10)
        let total = dry.calls - made
        #expect(total > 50)
        for call in 1...total {
            let disk = try makeDisk(seed: seed &+ UInt64(call))
            disk.failPower(atCall: disk.calls + call)
            var acknowledged = run(disk, .newLog, from: 1, count: 10)
            var survivor = disk.restart(seed: seed ^ UInt64(call))
            var present: [UInt64] = []
            // Twice: the recovery's own end, and what is written behind it, are crashed into as well.
            for life in 0..<2 {
                let reading = try read(survivor)
                #expect(reading.commits.starts(with: present), "call \(call), life \(life), seed \(seed)")
                try #require((reading.commits.last ?? 0) >= acknowledged, "call \(call), life \(life), seed \(seed)")
                #expect(reading.commits == reading.commits.sorted())
                #expect(try judge(survivor, reading.end) == .end, "call \(call), seed \(seed)")
                try EndOfLog(disk: survivor, system: testSystem).clearBehind(reading.end)
                present = reading.commits
                survivor.failPower(atCall: survivor.calls + 1 + call % 23)
                let before = Int(reading.commits.last ?? 0)
                acknowledged = max(
                    reading.commits.last ?? 0, run(survivor, reading.start, from: before + 1, count: 8))
                survivor = survivor.restart(seed: seed ^ UInt64(call * 31 + life))
            }
        }
    }
}
