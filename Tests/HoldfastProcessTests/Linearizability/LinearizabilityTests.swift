import Foundation
import HoldfastTestSupport
import Synchronization
import Testing

/// Clients that do operations on few keys of `holdfast serve` while it is killed and started again.
@Suite("Every key is one register", .serialized)
struct LinearizabilityTests {
    private static let keys = ["k0", "k1", "k2"]
    private static let clients = 6

    @Test("operations on single keys are linearizable under kill -9", arguments: [1, 4], SyncSpeed.possible)
    func underKill(pipeline: Int, speed: SyncSpeed) throws {
        let seed = SeededGenerator.announcedSeed("linearizability")
        var random = SeededGenerator(seed: seed)
        let cluster = try TestCluster()
        try speed.start(cluster)
        let recorder = Recorder()
        for index in 0..<Self.clients {
            let client = RegisterClient(
                index: index, cluster: cluster, keys: Self.keys, pipeline: pipeline, seed: seed &+ UInt64(index),
                recorder)
            Thread.detachNewThread { client.run() }
        }
        // Whatever a process had been asked cannot happen after it is gone.
        var deaths: [UInt64] = []
        defer { recorder.stop(waitingFor: Self.clients) }
        for _ in 0..<Self.kills {
            let before = recorder.count
            try waitUntil("operations go on") { recorder.count > before + 50 || !recorder.failures.isEmpty }
            usleep(UInt32.random(in: 0...200_000, using: &random))
            cluster.killLeader()
            deaths.append(monotonicNanoseconds())
            try speed.start(cluster)
        }
        let before = recorder.count
        try waitUntil("operations go on at the end") { recorder.count > before + 50 || !recorder.failures.isEmpty }
        recorder.stop(waitingFor: Self.clients)
        #expect(recorder.failures == [])
        var unanswered = 0
        for key in Self.keys {
            let history = recorder.history(of: key).map { operation in
                guard operation.outcome == nil else { return operation }
                unanswered += 1
                var operation = operation
                operation.returned = deaths.first { $0 > operation.invoked } ?? .max
                return operation
            }
            #expect(history.contains { $0.outcome == nil } || Self.kills < 3, "no operation was under way at a kill")
            if let contradiction = LinearizabilityCheck.contradiction(in: history) {
                let start = contradiction.first?.invoked ?? 0
                let story = contradiction.map { operation in
                    var operation = operation
                    operation.invoked -= start
                    operation.returned = operation.returned == .max ? .max : operation.returned &- start
                    return "\(operation)"
                }
                Issue.record("\(key) is no register:\n\(story.joined(separator: "\n"))")
            }
        }
        print("linearizability: \(recorder.count) operations, \(unanswered) without a reply, \(deaths.count) kills")
        #expect(cluster.stopLeader() == 0)
    }

    /// More with `HOLDFAST_KILLS`.
    private static let kills = ProcessInfo.processInfo.environment["HOLDFAST_KILLS"].flatMap { Int($0) } ?? 4
}

/// What all clients did. Thread-safe.
private final class Recorder: Sendable {
    private struct State {
        var histories: [String: [RegisterOperation]] = [:]
        var failures: [String] = []
        var running = true
        var stopped = 0
    }

    private let state = Mutex(State())
    private let total = Atomic(0)

    var count: Int { total.load(ordering: .relaxed) }
    var failures: [String] { state.withLock { $0.failures } }
    var isRunning: Bool { state.withLock { $0.running } }

    func add(_ operation: RegisterOperation, of key: String) {
        total.add(1, ordering: .relaxed)
        state.withLock { $0.histories[key, default: []].append(operation) }
    }

    func fail(_ text: String) { state.withLock { $0.failures.append(text) } }

    func history(of key: String) -> [RegisterOperation] { state.withLock { $0.histories[key] ?? [] } }

    func clientStopped() { state.withLock { $0.stopped += 1 } }

    /// Returns when that many clients have stopped; each waits for no reply longer than a connection's time-out.
    func stop(waitingFor clients: Int) {
        state.withLock { $0.running = false }
        while state.withLock({ $0.stopped < clients }) { usleep(1000) }
    }
}

/// One client: sends calls, at most `pipeline` of them at once, and records them with the times around them.
private final class RegisterClient: @unchecked Sendable {
    // Used by the one thread that runs it.
    private let port: Int
    private let socket: String?
    private let keys: [String]
    private let pipeline: Int
    private var random: SeededGenerator
    private let recorder: Recorder
    private var nextValue: Int64

    init(
        index: Int, cluster: TestCluster, keys: [String], pipeline: Int, seed: UInt64, _ recorder: Recorder
    ) {
        port = cluster.port
        socket = index.isMultiple(of: 2) ? nil : cluster.socket
        self.keys = keys
        self.pipeline = pipeline
        random = SeededGenerator(seed: seed)
        self.recorder = recorder
        // No two clients set the same value, and increments stay far from others' values.
        nextValue = Int64(index + 1) << 40
    }

    func run() {
        defer { recorder.clientStopped() }
        var connection: RawConnection?
        while recorder.isRunning {
            guard let open = try? connection ?? connect() else {
                usleep(2000)
                continue
            }
            connection = exchange(open) ? open : nil
        }
    }

    private func connect() throws -> RawConnection {
        try socket.map { try RawConnection(unix: $0) } ?? RawConnection(port: port)
    }

    /// false: the connection is of no use any more.
    private func exchange(_ connection: RawConnection) -> Bool {
        let calls = (0..<Int.random(in: 1...pipeline, using: &random)).map { _ in
            (key: keys.randomElement(using: &random)!, call: randomCall())
        }
        let invoked = monotonicNanoseconds()
        connection.send(calls.map { call in words(call.call, call.key).map { Array($0.utf8) } })
        var isOpen = true
        for (key, call) in calls {
            var outcome: RegisterOperation.Outcome?
            if isOpen {
                do {
                    if let reply = try connection.reply() {
                        outcome = understand(reply, to: call)
                        if outcome == nil { recorder.fail("\(call): \(reply)") }
                    } else {
                        isOpen = false
                    }
                } catch {
                    recorder.fail("\(call): \(error)")
                    isOpen = false
                }
            }
            // Reading without a reply tells nothing.
            if outcome == nil, call == .get { continue }
            recorder.add(
                RegisterOperation(
                    call: call, outcome: outcome, invoked: invoked, returned: monotonicNanoseconds()), of: key)
        }
        return isOpen
    }

    private func randomCall() -> RegisterOperation.Call {
        nextValue += 1 << 20
        return switch Int.random(in: 0..<16, using: &random) {
        case 0...4: .get
        case 5...7: .set(nextValue)
        case 8: .setIfAbsent(nextValue)
        case 9: .setIfPresent(nextValue)
        case 10: .swap(nextValue)
        case 11...13: .increment
        case 14: .delete
        default: .take
        }
    }

    private func words(_ call: RegisterOperation.Call, _ key: String) -> [String] {
        switch call {
        case .get: ["GET", key]
        case .set(let value): ["SET", key, "\(value)"]
        case .setIfAbsent(let value): ["SETNX", key, "\(value)"]
        case .setIfPresent(let value): ["SET", key, "\(value)", "XX"]
        case .swap(let value): ["GETSET", key, "\(value)"]
        case .increment: ["INCR", key]
        case .delete: ["DEL", key]
        case .take: ["GETDEL", key]
        }
    }

    /// `nil`: no reply that this call can have.
    private func understand(_ reply: RawReply, to call: RegisterOperation.Call) -> RegisterOperation.Outcome? {
        switch call {
        case .set: reply.text == "OK" ? .ok : nil
        case .setIfPresent: reply.text == "OK" ? .ok : reply.isNull ? .value(nil) : nil
        case .setIfAbsent, .increment, .delete: reply.integer.map { .number($0) }
        case .get, .swap, .take:
            if reply.isNull {
                .value(nil)
            } else {
                reply.bulk.flatMap { Int64(String(decoding: $0, as: UTF8.self)) }.map { .value($0) }
            }
        }
    }
}
