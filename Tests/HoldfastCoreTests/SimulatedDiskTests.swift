import HoldfastCore
import HoldfastTestSupport
import Synchronization
import Testing

@Suite("The simulated disk loses what was not synced, and only that")
struct SimulatedDiskTests {
    @Test("synced bytes and entries survive every power loss; unsynced ones do not always")
    func durability() throws {
        var bytesLost = 0
        var nameLost = 0
        var torn = 0
        for seed in UInt64(1)...60 {
            let disk = SimulatedDisk(seed: seed)
            let file = try disk.open("a", .create)
            try disk.syncDirectory("")
            try file.write(bytes: [UInt8](repeating: 1, count: 4096), at: 0)
            try file.sync()
            try file.write(bytes: [UInt8](repeating: 2, count: 4096), at: 0)
            _ = try disk.open("b", .create)
            let after = disk.restart(seed: seed)
            let bytes = try after.readAll("a")
            #expect(bytes.count == 4096)
            #expect(bytes.allSatisfy { $0 == 1 || $0 == 2 })
            for sector in 0..<8 { #expect(Set(bytes[sector * 512..<sector * 512 + 512]).count == 1) }
            if bytes.contains(1) { bytesLost += 1 }
            if bytes.contains(1), bytes.contains(2) { torn += 1 }
            if try !after.exists("b") { nameLost += 1 }
        }
        #expect(bytesLost > 5 && torn > 5 && nameLost > 5 && nameLost < 55)
    }

    @Test("from the chosen call on everything fails, and a restart works again")
    func powerFailure() throws {
        let disk = SimulatedDisk(seed: 1)
        let file = try disk.open("a", .create)
        disk.failPower(atCall: 3)
        try file.write(bytes: [1], at: 0)
        #expect(throws: PowerLoss.error("a")) { try file.sync() }
        #expect(throws: PowerLoss.error("")) { try disk.list("") }
        _ = try disk.restart(seed: 2).list("")
    }

    @Test("a failed sync marks pages clean that are not on the medium, and a later sync does not write them")
    func failedSync() throws {
        var lies = 0
        for seed in UInt64(1)...40 {
            let disk = SimulatedDisk(seed: seed)
            let file = try disk.open("a", .create)
            try disk.syncDirectory("")
            try file.write(bytes: [UInt8](repeating: 7, count: 512), at: 0)
            disk.injectFaults { $0.kind == .sync ? .error(.inputOutput) : nil }
            #expect(throws: DiskError.self) { try file.sync() }
            disk.injectFaults(nil)
            try file.sync()
            #expect(try file.readBytes(count: 512, at: 0) == [UInt8](repeating: 7, count: 512))
            if try disk.restart(seed: seed).readAll("a").first != 7 { lies += 1 }
            file.dropCache()
        }
        #expect(lies > 5 && lies < 35)
    }

    @Test("a full disk refuses, and an unsynced cut is not taken for durable")
    func capacityAndCuts() throws {
        let disk = SimulatedDisk(seed: 9)
        disk.limitCapacity(1000)
        let file = try disk.open("a", .create)
        let error = #expect(throws: DiskError.self) { try file.write(bytes: [UInt8](repeating: 1, count: 1001), at: 0) }
        #expect(error?.isNoSpace == true)
        try file.write(bytes: [UInt8](repeating: 1, count: 1000), at: 0)
        try file.sync()
        try disk.syncDirectory("")
        try file.setSize(0)
        try file.setSize(1000)
        #expect(try file.readBytes(count: 1000, at: 0) == [UInt8](repeating: 0, count: 1000))
        try file.sync()
        #expect(try disk.restart(seed: 1).readAll("a") == [UInt8](repeating: 0, count: 1000))
    }

    @Test("sectors of 4,096 bytes are kept or lost whole")
    func largeSectors() throws {
        var mixed = 0
        for seed in UInt64(1)...40 {
            let disk = SimulatedDisk(seed: seed)
            disk.setSectors(bytes: 4096)
            let file = try disk.open("a", .create)
            try disk.syncDirectory("")
            try file.write(bytes: [UInt8](repeating: 1, count: 16_384), at: 0)
            try file.sync()
            try file.write(bytes: [UInt8](repeating: 2, count: 16_384), at: 0)
            let bytes = try disk.restart(seed: seed).readAll("a")
            for sector in 0..<4 { #expect(Set(bytes[sector * 4096..<sector * 4096 + 4096]).count == 1) }
            if bytes.contains(1), bytes.contains(2) { mixed += 1 }
        }
        #expect(mixed > 5)
    }

    @Test("B5: a write that is misdirected lands elsewhere, says nothing, and leaves its own place as it was")
    func misdirected() throws {
        let disk = SimulatedDisk(seed: 1)
        let file = try disk.open("a", .create)
        try file.write(bytes: [UInt8](repeating: 1, count: 1024), at: 0)
        disk.injectFaults { $0.kind == .write ? .misdirected(to: 512) : nil }
        try file.write(bytes: [UInt8](repeating: 2, count: 512), at: 0)
        disk.injectFaults(nil)
        try file.write(bytes: [3], at: 0)
        try file.sync()
        try disk.syncDirectory("")
        let bytes = try disk.restart(seed: 1).readAll("a")
        #expect(bytes[0] == 3 && bytes[1..<512].allSatisfy { $0 == 1 } && bytes[512...].allSatisfy { $0 == 2 })
    }

    @Test("a flipped bit is on the medium as well as in the cache, and nothing else has changed")
    func rot() throws {
        let disk = SimulatedDisk(seed: 1)
        let file = try disk.open("a", .create)
        try file.write(bytes: [UInt8](repeating: 0, count: 10_000), at: 0)
        try file.sync()
        try disk.syncDirectory("")
        disk.rot("a", at: 9000, 4)
        var expected = [UInt8](repeating: 0, count: 10_000)
        expected[9000] = 4
        #expect(try disk.readAll("a") == expected)
        #expect(try disk.restart(seed: 3).readAll("a") == expected)
        #expect(disk.peek("a", 8999..<9002) == [0, 4, 0])
    }

    @Test("every call is observed, those of interleaved work too, and a copy is the disk as it then was")
    func observed() throws {
        let disk = SimulatedDisk(seed: 1)
        let seen = Mutex<[(kind: SimulatedDisk.Call.Kind, bytes: Int)]>([])
        disk.observe { [unowned disk] call in
            let bytes = disk.afterKill(seed: 1).contents().values.reduce(0) { $0 + $1.count }
            seen.withLock { $0.append((call.kind, bytes)) }
        }
        let file = try disk.open("a", .create)
        disk.interleave { [unowned disk] call in
            if call.kind == .sync { _ = try? disk.exists("a") }
        }
        try file.write(bytes: [1, 2, 3], at: 0)
        try file.sync()
        #expect(seen.withLock { $0.map(\.kind) } == [.open, .write, .sync, .exists])
        #expect(seen.withLock { $0.map(\.bytes) } == [0, 0, 3, 3])
    }
}
