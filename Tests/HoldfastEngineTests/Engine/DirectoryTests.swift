import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

@testable import HoldfastEngine

@Suite("A data directory is whole or refused, and one engine's at a time")
struct DirectoryTests {
    @Test("A9: the power fails at every call of initializing: never a half-made directory, and it can be done again")
    func halfMade() throws {
        let count = SimulatedDisk(seed: 1)
        try Engine.initialize(count)
        print("calls of initializing: \(count.calls)")
        for call in 1...count.calls {
            for seed in 0..<UInt64(3) {
                let disk = SimulatedDisk(seed: seed)
                disk.failPower(atCall: call)
                #expect(throws: (any Error).self) { try Engine.initialize(disk) }
                let after = disk.restart(seed: seed)
                do {
                    let engine = try Engine(opening: after, options: quietOptions())
                    try engine.write { try $0.put("t", bytes("a"), bytes("b")) }
                    #expect(try engine.problems() == [])
                } catch EngineError.notADataDirectory {
                    try Engine.initialize(after)
                    _ = try Engine(opening: after, options: quietOptions())
                }
            }
        }
    }

    @Test("A2, A9: a directory whose initializing has returned is there when the power fails at that moment")
    func durableWhenMade() throws {
        for seed in 1...16 as ClosedRange<UInt64> {
            let disk = SimulatedDisk(seed: seed)
            try Engine.initialize(disk)
            #expect(throws: Never.self, "seed \(seed)") {
                _ = try Engine(opening: disk.restart(seed: seed), options: quietOptions())
            }
        }
    }

    @Test("A9: an error at every call of initializing leaves what no start accepts, or all of it")
    func failedInit() throws {
        let count = SimulatedDisk(seed: 1)
        try Engine.initialize(count)
        for call in 1...count.calls {
            let disk = SimulatedDisk(seed: 1)
            disk.injectFaults { $0.number == call ? .error(.noSpace) : nil }
            #expect(throws: (any Error).self) { try Engine.initialize(disk) }
            disk.injectFaults(nil)
            do {
                _ = try Engine(opening: disk, options: quietOptions())
            } catch EngineError.notADataDirectory {
                try Engine.initialize(disk)
                _ = try Engine(opening: disk, options: quietOptions())
            }
        }
    }

    @Test("A directory with something else in it, or with a cluster, is not initialized")
    func foreign() throws {
        let disk = SimulatedDisk(seed: 1)
        try disk.open("letter.txt", .create).close()
        #expect(throws: EngineError.self) { try Engine.initialize(disk) }
        #expect(throws: EngineError.self) { _ = try Engine(opening: disk, options: quietOptions()) }
        #expect(try disk.list("") == ["letter.txt"])
        let made = try CrashTests.initialized(seed: 1)
        #expect(throws: EngineError.self) { try Engine.initialize(made) }
        _ = try Engine(opening: made, options: quietOptions())
    }

    @Test("A10: two engines on one directory: the second is refused, until the first has gone")
    func lock() throws {
        let directory = try TemporaryDirectory("lock")
        try Engine.initialize(RealDisk(root: directory.path))
        let first = try Engine(opening: RealDisk(root: directory.path), options: quietOptions())
        do {
            _ = try Engine(opening: RealDisk(root: directory.path), options: quietOptions())
            Issue.record("two engines on one directory")
        } catch EngineError.disk(let error) {
            #expect(error.code == .wouldBlock)
            #expect(error.diagnosis.status == .tryAgain)
        }
        #expect(throws: (any Error).self) { try Engine.initialize(RealDisk(root: directory.path)) }
        try first.write { try $0.put("t", bytes("a"), bytes("b")) }
        try first.close()
        let second = try Engine(opening: RealDisk(root: directory.path), options: quietOptions())
        #expect(try second.read { try $0.get("t", bytes("a")) } == bytes("b"))
        second.abandon()
        // An engine that could not start leaves no lock behind either.
        let control = directory.path + "/control"
        let sound = try Data(contentsOf: URL(filePath: control))
        try Data(count: sound.count).write(to: URL(filePath: control))
        #expect(throws: EngineError.self) {
            _ = try Engine(opening: RealDisk(root: directory.path), options: quietOptions())
        }
        try sound.write(to: URL(filePath: control))
        try Engine(opening: RealDisk(root: directory.path), options: quietOptions()).close()
    }

    @Test("A10: a start that was refused leaves nothing locked, for its own process neither")
    func refusedStart() throws {
        let directory = try TemporaryDirectory("refused-start")
        let disk = try RealDisk(root: directory.path)
        try Engine.initialize(disk)
        let control = try disk.readAll("control")
        try disk.replaceAtomically("control", with: [UInt8](repeating: 0, count: control.count))
        #expect(throws: EngineError.self) { _ = try Engine(opening: disk, options: quietOptions()) }
        try disk.replaceAtomically("control", with: control)
        try Engine(opening: disk, options: quietOptions()).close()
    }
}
