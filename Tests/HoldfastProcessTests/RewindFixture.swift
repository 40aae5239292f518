import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

/// Two nodes of one cluster and one repository whose logs part: `a` led, `b` followed and was cut off, `a` wrote on and was
/// killed, `b` was promoted and wrote too.
final class Divergence {
    let a: TestCluster
    let b: TestCluster
    /// Transactions of `a` that `b` never got.
    private(set) var lost: ClosedRange<Int>?
    private var random: SeededGenerator
    /// `a`'s data directory as it was when `a` died.
    private var keptData: String { a.root + "/kept" }

    struct Shape {
        /// Bytes of log, about, that each side writes behind the fork, in records of 4 KiB.
        var bytes = 200_000
        /// The old leader's redo point goes past the fork, in both slots of its control file.
        var checkpoints = false
        var lostWrites = true
        /// The new leader's log comes to the archive.
        var newAgent = true
    }

    init(seed: UInt64, _ shape: Shape = Shape()) throws {
        a = try TestCluster()
        b = try TestCluster(
            settings: "repository: {path: \(a.repository)}\narchive: {timeout: 1s}", initialize: false)
        random = SeededGenerator(seed: seed)
        try a.startLeader()
        try a.startAgent()
        try a.load(records(1500))
        try a.expect(["backup"])
        try a.load(records(700))
        try a.archivedPoint("before-b")
        try b.expect(["restore", "--follow", "unix:\(a.socket)", "--node", "b", "--slot", "b"])
        try b.startLeader()
        // Behind the last whole segment, so that the fork lies inside one.
        try a.load(records(300 + Int(random.next() % 200)))
        a.killAgent()
        try same()
        let before = try transaction(a)
        _ = b.stopLeader()
        if shape.lostWrites {
            try write(to: a, bytes: shape.bytes)
            if shape.checkpoints {
                for _ in 0..<2 {
                    try a.expect(["checkpoint"])
                    try write(to: a, bytes: 50_000)
                }
            }
            lost = before + 1...(try transaction(a))
        }
        a.killLeader()
        try b.startLeader()
        if shape.newAgent { try b.startAgent() }
        try b.expect(["promote", "--connect", "unix:\(b.socket)"])
        // Few, so that most pages which differ are changed by the old branch alone: no image in the new log covers them.
        try b.load(records(5))
        try FileManager.default.copyItem(atPath: a.data, toPath: keptData)
    }

    /// Records over a small range of keys, so that both sides change the same pages.
    private func records(_ count: Int, bytes: Int = 60) -> String {
        var lines = ""
        for _ in 0..<count {
            var value = ""
            while value.utf8.count < bytes { value += String(random.next(), radix: 36) }
            lines += "key:\(random.next() % 3000)\t\(value)\n"
        }
        return lines
    }

    func write(to node: TestCluster, bytes: Int) throws {
        try node.load(records(40))
        var left = bytes
        while left > 0 {
            try node.load(records(min(left / 4096 + 1, 2000), bytes: 4096))
            left -= 2000 * 4096
        }
    }

    private func transaction(_ node: TestCluster) throws -> Int {
        let line = try node.serverInfo().split(separator: "\r\n").first { $0.hasPrefix("last_transaction:") }
        return Int(line?.dropFirst(17) ?? "") ?? 0
    }

    /// Both answer with the same records.
    func same(_ sourceLocation: SourceLocation = #_sourceLocation) throws {
        var differs = ""
        do {
            try waitUntil("both nodes hold the same", seconds: 30) {
                let (one, other) = (try dump(a), try dump(b))
                differs = one == other ? "" : "\(one.utf8.count) and \(other.utf8.count) bytes"
                return one == other
            }
        } catch {
            throw NeverHappened(
                what: "both nodes hold the same: \(differs)",
                errors: (a.leader?.errors ?? "") + "\n--- b\n" + (b.leader?.errors ?? ""))
        }
    }

    private func dump(_ node: TestCluster) throws -> String {
        try node.expect(["dump", "--connect", "unix:\(node.socket)"])
    }

    /// As `a` was when it died, nothing rewound.
    func reset() throws {
        a.killLeader()
        for name in try FileManager.default.contentsOfDirectory(atPath: a.root)
        where name == "data" || name.hasPrefix("data.rewound-") {
            try FileManager.default.removeItem(atPath: a.root + "/" + name)
        }
        try FileManager.default.copyItem(atPath: keptData, toPath: a.data)
    }

    var rewind: [String] { ["rewind", "--from", "unix:\(b.socket)", "--node", "a"] }

    /// The transactions that the saved list names, in its order.
    func listed(_ saved: String) throws -> [Int] {
        try String(contentsOfFile: saved + "/transactions.jsonl", encoding: .utf8).split(separator: "\n").flatMap {
            line -> [Int] in
            let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
            guard let first = object?["first_transaction"] as? Int, let last = object?["last_transaction"] as? Int
            else { return [] }
            return Array(first...last)
        }
    }

    /// `a` knows its leader from its configuration too.
    func configureFollow() throws {
        let text = try String(contentsOfFile: a.configuration, encoding: .utf8)
        try (text + "follow: [\"unix:\(b.socket)\"]\n").write(
            toFile: a.configuration, atomically: true, encoding: .utf8)
    }

    /// The segments of the old timeline that lie wholly behind the fork, in `a`'s log.
    func segments(behind fork: LSN) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: a.data + "/wal").filter {
            $0.hasPrefix("00000001") && (SegmentName($0)?.segment.start ?? .zero) >= fork
        }
    }

    /// Starts `a` as what it is now, writes to `b`, and waits until `a` has it; then looks at `a`'s every page.
    func follows() throws {
        try a.startLeader()
        try same()
        try write(to: b, bytes: 20_000)
        try same()
        #expect(try a.field("role", of: ["status", "--connect", "unix:\(a.socket)"]) == "follower")
        let check = try a.run(["check", "--connect", "unix:\(a.socket)"])
        #expect(check.status == 0, "\(check.output)\(check.errors)")
    }
}
