import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWire
import Testing

@testable import HoldfastServer

extension ServerTests {
    @Suite("OK means durable, and an error reaches the command it belongs to")
    struct DurabilityTests {
        private func options(cache: Int = 16 << 20, transaction: Int = 64 << 20) -> EngineOptions {
            var options = EngineOptions(cacheBytes: cache, transactionBytes: transaction, runsBackgroundWork: false)
            options.onFatal = { _ in }
            return options
        }

        @Test("what was answered is there after a power loss at that moment", arguments: ServedEngine.Writes.allCases)
        func powerLoss(_ writes: ServedEngine.Writes) async throws {
            let seed = SeededGenerator.announcedSeed("server durability")
            let disk = SimulatedDisk(seed: seed)
            try Engine.initialize(disk)
            try await ServedEngine.with(writes, disk: disk, options: options()) { served in
                let clients = try (0..<3).map { _ in try served.anonymous() }
                var acknowledged: [String: String] = [:]
                for round in 0..<12 {
                    for (index, client) in clients.enumerated() {
                        client.wire.send(["SET", "k\(index)", "\(round)"].map { Array($0.utf8) })
                        client.wire.send(["MULTI"].map { Array($0.utf8) })
                        client.wire.send(["APPEND", "log\(index)", "\(round),"].map { Array($0.utf8) })
                        client.wire.send(["EXEC"].map { Array($0.utf8) })
                        try client.wire.flush()
                    }
                    for (index, client) in clients.enumerated() {
                        for _ in 0..<4 { #expect(try client.wire.receive().errorText == nil) }
                        acknowledged["k\(index)"] = "\(round)"
                        acknowledged["log\(index)", default: ""] += "\(round),"
                    }
                    // What a machine would find if the power failed right now.
                    let after = try Engine(opening: disk.restart(seed: seed &+ UInt64(round)), options: options())
                    for (key, value) in acknowledged {
                        let found = try after.read { try $0.get("0", Array(key.utf8)) as [UInt8]? }
                        #expect(found == Array(value.utf8), "\(key) in round \(round)")
                    }
                    try after.close()
                }
            }
        }

        @Test("a sync that fails is never answered with OK", arguments: ServedEngine.Writes.allCases)
        func failedSync(_ writes: ServedEngine.Writes) async throws {
            let disk = SimulatedDisk(seed: 1)
            try Engine.initialize(disk)
            try await ServedEngine.with(writes, disk: disk, closing: false, options: options()) { served in
                let client = try served.anonymous()
                #expect(try client("SET", "a", "1") == .ok)
                disk.injectFaults { $0.kind == .sync ? .error(.inputOutput) : nil }
                let reply = Result { try client("SET", "a", "2") }
                if case .success(let value) = reply { #expect(value.errorText != nil, "answered \(value)") }
                let again = Result { try served.anonymous()("SET", "a", "3") }
                if case .success(let value) = again { #expect(value.errorText != nil, "answered \(value)") }
                disk.injectFaults(nil)
            }
        }

        @Test(
            "A7: no space: writes are refused by name, reads go on, writes resume by themselves",
            arguments: ServedEngine.Writes.allCases)
        func noSpace(_ writes: ServedEngine.Writes) async throws {
            let disk = SimulatedDisk(seed: 2)
            try Engine.initialize(disk)
            try await ServedEngine.with(writes, disk: disk, options: options()) { served in
                let client = try served.anonymous()
                #expect(try client("SET", "a", "1") == .ok)
                disk.injectFaults { call in
                    switch call.kind {
                    case .allocate, .setSize: .error(.noSpace)
                    case .open where call.path.contains("wal/"): .error(.noSpace)
                    default: nil
                    }
                }
                // Fills what was prepared, then meets the end of it.
                let block = String(repeating: "x", count: 1 << 20)
                var refusal: String?
                for index in 0..<80 where refusal == nil {
                    refusal = try client("SET", "big\(index)", block).errorText
                }
                #expect(refusal?.hasPrefix("MISCONF ") == true, "\(refusal ?? "never refused")")
                #expect(try client("GET", "a") == .text("1"))
                let mixed = try client.pipeline(["GET a", "SET b \(block)", "GET a"])
                #expect(mixed[0] == .text("1") && mixed[2] == .text("1"))
                #expect(mixed[1].errorText?.hasPrefix("MISCONF ") == true)
                disk.injectFaults(nil)
                #expect(try client("SET", "b", block) == .ok)
            }
        }

        @Test(
            "A12: a command beyond the transaction's budget fails alone, whoever else was in its turn",
            arguments: ServedEngine.Writes.allCases)
        func budget(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes, options: options(transaction: 2 << 20)) { served in
                let client = try served.anonymous()
                let small = Array("SET".utf8)
                let large = [UInt8](repeating: 1, count: 8 << 20)
                client.wire.send([small, Array("a".utf8), [1]])
                client.wire.send([small, Array("b".utf8), large])
                client.wire.send([small, Array("c".utf8), [3]])
                let others = try (0..<3).map { _ in try served.anonymous() }
                for (index, other) in others.enumerated() { other.wire.send([small, Array("o\(index)".utf8), [1]]) }
                try client.wire.flush()
                for other in others { #expect(try other.wire.receive() == .ok) }
                #expect(try client.wire.receive() == .ok)
                #expect(try client.wire.receive().errorText?.hasPrefix("DATAERR the transaction is too large") == true)
                #expect(try client.wire.receive() == .ok)
                #expect(try client("EXISTS", "a", "b", "c", "o0", "o1", "o2") == .integer(5))
            }
        }

        @Test(
            "small commands that are too much together are each answered once, in their order",
            arguments: ServedEngine.Writes.allCases)
        func tooMuchTogether(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes, options: options(transaction: 1 << 20)) { served in
                let client = try served.anonymous()
                var lines: [String] = []
                var expected: [WireValue] = []
                for index in 0..<60 {
                    lines += [
                        "SET k\(index) \(String(repeating: "v", count: 60_000))", "INCR n", "STRLEN k\(index)", "PING",
                    ]
                    expected += [.ok, .integer(Int64(index + 1)), .integer(60_000), .simple("PONG")]
                }
                #expect(try client.pipeline(lines) == expected)
                #expect(served.engine.status.lastTransaction.rawValue == 120)
            }
        }

        @Test(
            "with a cache much smaller than the data every read and write is still right",
            arguments: ServedEngine.Writes.allCases)
        func smallCache(_ writes: ServedEngine.Writes) async throws {
            let seed = SeededGenerator.announcedSeed("server small cache")
            try await ServedEngine.with(writes, options: options(cache: 1 << 20)) { served in
                var random = SeededGenerator(seed: seed)
                let client = try served.anonymous()
                var model: [String: String] = [:]
                func key() -> String { "key\(Int.random(in: 0..<3000, using: &random))" }
                for round in 0..<60 {
                    var lines: [String] = []
                    var expected: [WireValue] = []
                    for step in 0..<60 {
                        let key = key()
                        switch Int.random(in: 0..<4, using: &random) {
                        case 0, 1:
                            let value =
                                "\(round).\(step)-"
                                + String(repeating: "v", count: Int.random(in: 0..<1500, using: &random))
                            lines.append("SET \(key) \(value)")
                            expected.append(.ok)
                            model[key] = value
                        case 2:
                            lines.append("GET \(key)")
                            expected.append(model[key].map { .text($0) } ?? .null)
                        default:
                            lines.append("DEL \(key)")
                            expected.append(.integer(model.removeValue(forKey: key) == nil ? 0 : 1))
                        }
                    }
                    #expect(try client.pipeline(lines) == expected, "round \(round)")
                    if round % 20 == 19 { try served.engine.checkpoint() }
                }
                #expect(try client("DBSIZE") == .integer(Int64(model.count)))
            }
        }
    }
}
