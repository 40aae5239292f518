import Foundation
import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWire
import Testing

@testable import HoldfastServer

extension ServerTests {
    @Suite("MULTI and EXEC are one transaction, and WATCH guards it")
    struct TransactionTests {
        @Test(
            "commands see their predecessors; an error of one undoes no other", arguments: ServedEngine.Writes.allCases)
        func exec(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes) { served in
                let client = try served.anonymous()
                let queued = WireValue.simple("QUEUED")
                let replies = try client.pipeline([
                    "SET text x", "MULTI", "SET a 1", "INCR a", "INCR text", "GET a", "SELECT 2", "SET b 1", "EXEC",
                    "GET b", "GET a",
                ])
                #expect(
                    replies == [
                        .ok, .ok, queued, queued, queued, queued, queued, queued,
                        .array([
                            .ok, .integer(2), .error("ERR value is not an integer or out of range"), .text("2"), .ok,
                            .ok,
                        ]), .text("1"), .null,
                    ])
                #expect(served.engine.status.lastTransaction.rawValue == 2, "SET is one transaction, EXEC another")
            }
        }

        @Test("an error while queueing gives the whole up")
        func aborted() async throws {
            try await ServedEngine.with { served in
                let client = try served.administrator()
                for broken in ["nosuch", "GET", "CHECKPOINT", "INFO"] {
                    #expect(try client("MULTI") == .ok)
                    #expect(try client("SET", "a", "1") == .simple("QUEUED"))
                    #expect(try client(broken).errorText != nil)
                    #expect(
                        try client("EXEC") == .error("EXECABORT Transaction discarded because of previous errors."),
                        "\(broken)")
                }
                #expect(try client("GET", "a") == .null)
                #expect(try client("EXEC") == .error("ERR EXEC without MULTI"))
                #expect(try client("DISCARD") == .error("ERR DISCARD without MULTI"))
                #expect(
                    try client.pipeline(["MULTI", "MULTI", "WATCH a", "DISCARD", "PING"]) == [
                        .ok, .error("ERR MULTI calls can not be nested"),
                        .error("ERR WATCH inside MULTI is not allowed"), .ok,
                        .simple("PONG"),
                    ])
            }
        }

        @Test("EXEC fails on any change of a watched key, and on nothing else", arguments: ServedEngine.Writes.allCases)
        func watch(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes) { served in
                let client = try served.anonymous()
                let other = try served.anonymous()
                func attempt(_ change: () throws -> Void) throws -> Bool {
                    try client("SET", "w", "0")
                    try other("SET", "unrelated", "0")
                    #expect(try client("WATCH", "w", "none") == .ok)
                    try change()
                    try client("MULTI")
                    try client("SET", "result", "x")
                    return try client("EXEC") != .null
                }
                #expect(try attempt {})
                #expect(try attempt { try other("SET", "unrelated", "1") })
                #expect(try attempt { try other("DEL", "none") })
                #expect(try attempt { try other("SETNX", "w", "1") })
                #expect(
                    try attempt {
                        try other("SELECT", "1"); try other("SET", "w", "1"); try other("SELECT", "0")
                    })
                #expect(
                    try attempt {
                        try client("UNWATCH"); try other("SET", "w", "1")
                    })
                #expect(try !attempt { try other("SET", "w", "0") })
                #expect(try !attempt { try other("INCR", "w") })
                #expect(
                    try !attempt {
                        try other("SET", "none", "1"); try other("DEL", "none")
                    })
                #expect(try !attempt { try other("FLUSHDB") })
                #expect(
                    try !attempt {
                        try other("MULTI"); try other("APPEND", "w", "x"); try other("EXEC")
                    })
                #expect(try !attempt { try client("SET", "w", "own") })
            }
        }

        @Test(
            "A7, A12: an EXEC of what it watches that cannot be done says why, and is not taken for a conflict",
            arguments: ServedEngine.Writes.allCases)
        func refusedExec(_ writes: ServedEngine.Writes) async throws {
            let options = EngineOptions(cacheBytes: 16 << 20, transactionBytes: 2 << 20)
            try await ServedEngine.with(writes, options: options) { served in
                let client = try served.anonymous()
                #expect(try client("WATCH", "k") == .ok)
                #expect(try client("MULTI") == .ok)
                #expect(try client("SET", "k", "1") == .simple("QUEUED"))
                #expect(try client("SET", "large", String(repeating: "x", count: 8 << 20)) == .simple("QUEUED"))
                #expect(try client("EXEC").errorText?.hasPrefix("DATAERR the transaction is too large") == true)
                #expect(try client("GET", "k") == .null)
            }
        }

        @Test("read, watch, write by many clients at once loses no update", arguments: ServedEngine.Writes.allCases)
        func optimistic(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes) { served in
                try await withThrowingTaskGroup(of: Int.self) { group in
                    for index in 0..<6 {
                        group.addTask {
                            try await onThread {
                                let client = try served.anonymous()
                                var retries = 0
                                for _ in 0..<25 {
                                    while true {
                                        try client("WATCH", "sum")
                                        let value = try client("GET", "sum").integer ?? 0
                                        try client("MULTI")
                                        try client("SET", "sum", "\(value + 1)")
                                        try client("SET", "by\(index)", "\(value)")
                                        if try client("EXEC") != .null { break }
                                        retries += 1
                                    }
                                }
                                return retries
                            }
                        }
                    }
                    try await group.waitForAll()
                }
                #expect(try served.anonymous()("GET", "sum") == .text("150"))
            }
        }

        @Test("increments of many pipelining clients all count", arguments: ServedEngine.Writes.allCases)
        func increments(_ writes: ServedEngine.Writes) async throws {
            try await ServedEngine.with(writes) { served in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for _ in 0..<5 {
                        group.addTask {
                            try await onThread {
                                let client = try served.anonymous()
                                var last: Int64 = 0
                                for _ in 0..<10 {
                                    for reply in try client.pipeline(Array(repeating: "INCR n", count: 20)) {
                                        let value = reply.integer ?? -1
                                        #expect(value > last)
                                        last = value
                                    }
                                    #expect(
                                        (try client("GET", "n").integer ?? 0) >= last,
                                        "a connection reads its own writes")
                                }
                            }
                        }
                    }
                    try await group.waitForAll()
                }
                #expect(try served.anonymous()("GET", "n") == .text("1000"))
                #expect(served.engine.status.lastTransaction.rawValue == 1000, "each command has a transaction number")
            }
        }
    }
}

/// Runs blocking work beside the cooperative pool.
func onThread<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread { continuation.resume(with: Result(catching: body)) }
    }
}
