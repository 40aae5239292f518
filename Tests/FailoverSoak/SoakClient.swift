import Foundation
import HoldfastCore
import HoldfastTestSupport
import HoldfastWire

/// One client on a host of its own: looks for whoever accepts writes, does one operation after the other there, and
/// records each.
///
/// Used by the one thread that runs it.
final class SoakClient: @unchecked Sendable {
    private let index: Int
    private let nodes: [(name: String, address: WireAddress)]
    private let history: SoakHistory
    private var random: SeededGenerator
    /// No two clients write the same value.
    private var nextValue: Int64
    private var next: Int
    private var open: (node: String, wire: WireClient, timeline: UInt32?)?
    /// Few, so that clients meet on them.
    static let sharedKeys = 6
    /// Longer than the leader waits for its followers.
    private static let replySeconds = 5.0

    init(_ index: Int, _ nodes: [(name: String, address: WireAddress)], seed: UInt64, _ history: SoakHistory) {
        self.index = index
        self.nodes = nodes
        self.history = history
        random = SeededGenerator(seed: seed)
        nextValue = Int64(index + 1) << 40
        next = index
    }

    func run() {
        defer { history.clientStopped() }
        while !history.isOver {
            guard let round = history.round else {
                history.setIdle(true)
                while history.round == nil, !history.isOver { usleep(2000) }
                history.setIdle(false)
                continue
            }
            guard connect() else {
                usleep(20_000)
                continue
            }
            step(round)
            // Whoever else accepts writes should be found, though this one does.
            if Int.random(in: 0..<100, using: &random) == 0 { open = nil }
            usleep(UInt32.random(in: 0...6000, using: &random))
        }
    }

    private func connect() -> Bool {
        guard open == nil else { return true }
        let node = nodes[next % nodes.count]
        next += 1
        var options = WireClient.Options()
        options.connectSeconds = 1
        options.replySeconds = Self.replySeconds
        guard let wire = try? WireClient(to: node.address, options: options) else { return false }
        open = (node.name, wire, nil)
        return true
    }

    private func step(_ round: Int) {
        guard let (node, wire, timeline) = open else { return }
        nextValue += 1
        let value = nextValue
        let kind: Attempt.Kind =
            switch Int.random(in: 0..<10, using: &random) {
            case 0...3: .once
            case 4...5: .set
            case 6: .swap
            case 7...8: .get
            // Of a node that has not acknowledged a write on this connection nobody knows that it leads.
            default: timeline == nil ? .get : .plainGet
            }
        let key =
            kind == .once
            ? "once:\(round):\(value)"
            : "shared:\(round):\(Int.random(in: 0..<Self.sharedKeys, using: &random))"
        var attempt = Attempt(
            kind: kind, key: key, value: value, invoked: monotonicNanoseconds(), returned: 0, node: node)
        do {
            let requests = requests(kind, key, value)
            for request in requests { wire.send(request.map { Array($0.utf8) }) }
            if attempt.isWrite { wire.send("CLIENT", "LASTLSN") }
            if attempt.isWrite, timeline == nil { wire.send("INFO", "replication") }
            var reply = WireValue.null
            for _ in requests { reply = try wire.receive() }
            attempt.returned = monotonicNanoseconds()
            let end = attempt.isWrite ? try wire.receive().text.flatMap { LSN($0) } : nil
            if attempt.isWrite, timeline == nil { open?.timeline = Self.timeline(try wire.receive()) }
            if understand(reply, &attempt) {
                if attempt.isAcknowledgedWrite {
                    // A process leads one timeline: what the node says behind its acknowledgement was so before.
                    attempt.timeline = open?.timeline
                    attempt.end = end
                    if attempt.timeline == nil || end == nil { history.fail("\(node) tells no timeline or LSN") }
                } else {
                    attempt.returned = .max
                }
                history.add(attempt)
            }
        } catch {
            open = nil
            guard attempt.isWrite else { return }
            // The acknowledgement may have come, and what follows it not: then nothing is known of it, which is no error.
            attempt.outcome = nil
            attempt.returned = .max
            history.add(attempt)
        }
    }

    private func requests(_ kind: Attempt.Kind, _ key: String, _ value: Int64) -> [[String]] {
        switch kind {
        case .once, .set: [["SET", key, "\(value)"]]
        case .swap: [["GETSET", key, "\(value)"]]
        case .get: [["MULTI"], ["GET", key], ["SET", "mark:\(index)", "\(value)"], ["EXEC"]]
        case .plainGet: [["GET", key]]
        }
    }

    /// - Returns: whether the attempt is to be recorded: what was refused has not happened.
    private func understand(_ reply: WireValue, _ attempt: inout Attempt) -> Bool {
        if case .error(let text) = reply.elements?.last ?? reply {
            switch text.prefix(while: { $0 != " " }) {
            // Nothing happened. Another may lead; who has more to say than this is asked later.
            case "READONLY", "EXECABORT", "LOADING":
                open = nil
                usleep(5000)
                return false
            case "UNKNOWN":
                return attempt.isWrite
            default:
                history.fail("\(attempt.node) answers \(attempt.kind) with \(text)")
                return attempt.isWrite
            }
        }
        switch attempt.kind {
        case .once, .set: attempt.outcome = reply == .simple("OK") ? .ok : nil
        case .swap, .plainGet: attempt.outcome = Self.value(reply)
        case .get:
            let elements = reply.elements ?? []
            attempt.outcome = elements.count == 2 && elements[1] == .simple("OK") ? Self.value(elements[0]) : nil
        }
        if attempt.outcome == nil { history.fail("\(attempt.node) answers \(attempt.kind) with \(reply)") }
        return true
    }

    private static func value(_ reply: WireValue) -> RegisterOperation.Outcome? {
        reply == .null ? .value(nil) : reply.integer.map { .value($0) }
    }

    private static func timeline(_ reply: WireValue) -> UInt32? {
        let line = reply.text?.split(separator: "\r\n").first { $0.hasPrefix("timeline:") }
        return line.flatMap { UInt32($0.dropFirst(9)) }
    }
}
