import BenchmarkSupport
import Foundation
import HoldfastCore
import HoldfastTestSupport

/// A cluster that is lost, all of its log in the repository.
final class OurArchive {
    private let cluster: TestCluster
    private let updates: Int
    private let last: LSN
    private let directory: String

    init(megabytes: Int) throws {
        cluster = try TestCluster(settings: "archive: {timeout: 5s}", cache: "1GiB")
        try cluster.startLeader()
        try cluster.startAgent()
        let value = "__rand_int__" + String(repeating: "x", count: 88)
        let cluster = self.cluster
        func update(_ count: Int) throws {
            try shell(
                "redis-benchmark -p \(cluster.port) -n \(count) -r 1000000 -c 50 -P 64 -q set key:__rand_int__ \(value) >/dev/null"
            )
        }
        func end() throws -> LSN { LSN(try cluster.field("lsn", of: ["status"]) ?? "") ?? .zero }
        try update(2_000_000)
        try cluster.expect(["backup"])
        let from = try end()
        var updates = 0
        while try end() - from < megabytes << 20 {
            try update(1_000_000)
            updates += 1_000_000
        }
        let last = LSN(try cluster.field("lsn", of: ["wal", "switch"]) ?? "") ?? .zero
        try waitUntil("the WAL is archived", seconds: 300) {
            try LSN(cluster.field("archived_lsn", of: ["status"]) ?? "") ?? .zero >= last
        }
        _ = cluster.stopAgent()
        cluster.killLeader()
        directory = cluster.root + "/restored"
        cluster.data = directory
        try cluster.writeConfiguration()
        self.updates = updates
        self.last = last
    }

    func replay() throws -> Replayed {
        try? FileManager.default.removeItem(atPath: directory)
        let restored = try cluster.json([
            "restore", "--data", directory, "--target-lsn", last.description, "--no-archive",
        ])
        let start = LSN(restored["start_lsn"] as? String ?? "") ?? .zero
        let leader = try cluster.launchLeader(["--no-archive"])
        // Its log, and not its socket, is what is looked at: a client started each moment would take a core from replay.
        try waitUntil("redo is done", seconds: 300, while: leader) { leader.errors.contains("redo done") }
        defer { cluster.killLeader() }
        guard let done = leader.errors.split(separator: "\n").first(where: { $0.contains("redo done") }),
            let field = done.range(of: #"milliseconds"?[=:]\s*"?"#, options: .regularExpression),
            let elapsed = Double(done[field.upperBound...].prefix(while: \.isNumber))
        else { throw CommandFailed(command: "serve", status: 1, errors: leader.errors) }
        return Replayed(bytes: last - start, changes: updates, seconds: elapsed / 1000)
    }
}
