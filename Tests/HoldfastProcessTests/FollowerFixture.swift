import Foundation
import HoldfastCore
import HoldfastTestSupport

/// A leader `a` with its agent, a follower `b` of it on the same repository, and copies that are restored from there.
final class FollowerFixture {
    let a: TestCluster
    let b: TestCluster
    /// The backup of `a` that `b` was made of.
    let first: String

    /// - Parameters:
    ///   - fill: records of 1 KiB; a backup of many takes a moment.
    ///   - timeout: when the leader completes a segment by itself.
    init(fill: Int = 2000, timeout: String = "1s") throws {
        a = try TestCluster(settings: "archive: {timeout: \(timeout)}")
        b = try TestCluster(
            settings: "repository: {path: \(a.repository)}\narchive: {timeout: \(timeout)}", initialize: false)
        try a.startLeader()
        try a.startAgent()
        try a.fill(fill, bytes: 1000)
        try a.expect(["backup"])
        first = try a.backupIDs()[0]
        try a.archivedPoint("before-b")
        try b.expect(["restore", "--follow", "unix:\(a.socket)", "--node", "b"])
        try b.startLeader()
        try caughtUp()
    }

    /// Writes to `a` for as long as it lives: it is stopped by its own pid.
    func writer() throws -> RunningProcess {
        let script = """
            import socket, random
            s = socket.create_connection(('127.0.0.1', \(a.port)))
            f = s.makefile('rb')
            n = 0
            while True:
                n += 1
                k = 'fill:%06d' % random.randrange(3000)
                v = '%d-' % n + 'x' * random.randrange(2000)
                s.sendall(('*3\\r\\n$3\\r\\nSET\\r\\n$%d\\r\\n%s\\r\\n$%d\\r\\n%s\\r\\n' % (len(k), k, len(v), v)).encode())
                if f.readline() != b'+OK\\r\\n': break
                if n % 100 == 0: print(n, flush=True)
            """
        let writer = try RunningProcess("/usr/bin/python3", ["-c", script])
        try waitUntil("somebody writes", while: writer) { !writer.output.isEmpty }
        return writer
    }

    /// `b` shows everything that `a` had.
    func caughtUp() throws {
        let end = try lsn("lsn", a)
        try waitUntil("b has caught up with \(end)", while: b.leader) { try lsn("replay_lsn", b) >= end }
    }

    func lsn(_ name: String, _ node: TestCluster) throws -> LSN {
        try LSN(node.field(name, of: ["status", "--connect", "unix:\(node.socket)"]) ?? "") ?? .zero
    }

    /// The records of a copy restored so, which is gone afterwards.
    func restored(_ arguments: [String]) throws -> String {
        let copy = try TestCluster(settings: b.settings, initialize: false)
        try copy.expect(["restore", "--no-archive"] + arguments)
        try copy.startLeader(["--no-archive"])
        defer { copy.killLeader() }
        let check = try copy.run(["check", "--connect", "unix:\(copy.socket)"])
        guard check.status == 0 else { throw NeverHappened(what: "a sound copy", errors: check.output + check.errors) }
        return try copy.dump()
    }

    /// The names of the archived segments.
    func segments() -> [SegmentName] {
        (FileManager.default.enumerator(atPath: a.repository + "/main/wal")?.allObjects as? [String] ?? [])
            .compactMap { path in
                guard path.hasSuffix(".zst") else { return nil }
                return SegmentName(path.split(separator: "/").last?.dropLast(4) ?? "")
            }.sorted()
    }
}
