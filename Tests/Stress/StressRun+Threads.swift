import Glibc
import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport

/// What the threads of a run do until its end.
extension StressRun {
    /// Commits, some without waiting for the disk, and now and then takes all back.
    func write(_ random: inout SeededGenerator) throws {
        while goesOn {
            let group = Int.random(in: 0..<settings.groups, using: &random)
            let first = Int.random(in: 0..<settings.keys, using: &random)
            let transaction = try engine.beginTransaction()
            let number = try transaction.get(StressRecords.counterTree, [0]).map(StressRecords.decode) ?? 0
            if Int.random(in: 0..<8, using: &random) == 0 {
                // A number that no transaction ever has.
                try records.write(number | 1 << 63, to: group, beginningAt: first, in: transaction)
                transaction.rollback()
                count { $0.rollbacks += 1 }
                continue
            }
            try records.write(number + 1, to: group, beginningAt: first, in: transaction)
            let staged = try transaction.stage()
            try engine.flush(through: staged.end)
            published[group].raise(to: number + 1)
            count { $0.transactions += 1 }
        }
    }

    private struct Held {
        var handle: SnapshotHandle
        /// What had been published of each group before the snapshot was taken.
        var atLeast: [UInt64]
        /// What the snapshot said of each group when it was first asked.
        var seen: [UInt64?]
    }

    /// Holds snapshots of different ages, and reads them again and again.
    func readOld(_ random: inout SeededGenerator) throws {
        var held: [Held] = []
        while goesOn {
            if held.count < 4 {
                let atLeast = published.map(\.value)
                held.append(
                    Held(
                        handle: try engine.makeSnapshot(), atLeast: atLeast,
                        seen: Array(repeating: nil, count: settings.groups)))
                count { $0.snapshots += 1 }
            }
            let index = Int.random(in: 0..<held.count, using: &random)
            do {
                try readAgain(&held[index], &random)
            } catch EngineError.snapshotTooOld {
                count { $0.tooOld += 1 }
                held.remove(at: index).handle.close()
                continue
            }
            if Int.random(in: 0..<40, using: &random) == 0 { held.remove(at: index).handle.close() }
        }
        for one in held { one.handle.close() }
    }

    private func readAgain(_ held: inout Held, _ random: inout SeededGenerator) throws {
        let group = Int.random(in: 0..<settings.groups, using: &random)
        let order = StressRecords.Order.allCases.randomElement(using: &random)!
        let number = try held.handle.read { snapshot in
            let number = try records.read(group, order, in: snapshot)
            try check(number, of: group, atLeast: held.atLeast[group], in: snapshot)
            return number
        }
        if let before = held.seen[group], before != number {
            throw StressViolation(
                description: "group \(group) at \(held.handle.lsn) was of \(before) and is of \(number)")
        }
        held.seen[group] = number
        let isOld = published[group].value > number
        count {
            $0.reads += 1
            if isOld { $0.oldReads += 1 }
        }
    }

    /// Reads the newest state, one snapshot for several groups.
    func readNewest(_ random: inout SeededGenerator) throws {
        while goesOn {
            let atLeast = published.map(\.value)
            let groups = (0..<4).map { _ in Int.random(in: 0..<settings.groups, using: &random) }
            let order = StressRecords.Order.allCases.randomElement(using: &random)!
            do {
                try engine.read { snapshot in
                    for group in groups {
                        let number = try records.read(group, order, in: snapshot)
                        try check(number, of: group, atLeast: atLeast[group], in: snapshot)
                    }
                }
                count {
                    $0.snapshots += 1
                    $0.reads += groups.count
                }
            } catch EngineError.snapshotTooOld {
                count { $0.tooOld += 1 }
            }
        }
    }

    private func check(_ number: UInt64, of group: Int, atLeast: UInt64, in snapshot: borrowing Snapshot) throws {
        guard number >= atLeast else {
            throw StressViolation(
                description: "group \(group) at \(snapshot.lsn) is of \(number), and \(atLeast) had been published")
        }
        let counter = try records.counter(snapshot)
        guard number <= counter else {
            throw StressViolation(
                description: "group \(group) at \(snapshot.lsn) is of \(number), and the counter says \(counter)")
        }
    }

    func takeCheckpoints(_ random: inout SeededGenerator) throws {
        while goesOn {
            try engine.checkpoint()
            count { $0.checkpoints += 1 }
            usleep(UInt32.random(in: 0..<50_000, using: &random))
        }
    }

    /// Reads all pages as a backup does; each must be whole, since none is read while it is written.
    func takeBackups(_ random: inout SeededGenerator) throws {
        let most = 16
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: most * Page.bytes, alignment: 4096)
        defer { buffer.deallocate() }
        while goesOn {
            let backup = try engine.beginBackup(label: "stress", fast: true)
            var pages = 0
            for file in try engine.backupFiles(backup.token) {
                let count = Int(file.bytes) / Page.bytes
                while pages < count, goesOn {
                    let taken = min(most, count - pages)
                    try engine.readPages(from: PageNumber(UInt32(pages)), count: taken, into: buffer)
                    for place in 0..<taken {
                        let number = PageNumber(UInt32(pages + place))
                        let page = Page(buffer.baseAddress! + place * Page.bytes)
                        if let fault = page.fault(expected: number) {
                            throw StressViolation(description: "page \(number) of a backup: \(fault)")
                        }
                    }
                    pages += taken
                }
            }
            _ = try engine.endBackup(backup.token)
            let total = pages
            count {
                $0.backups += 1
                $0.backupPages += total
            }
            usleep(UInt32.random(in: 0..<100_000, using: &random))
        }
    }
}
