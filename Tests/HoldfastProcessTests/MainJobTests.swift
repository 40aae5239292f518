import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

/// Whole processes: the built binary, real files, real sockets.
@Suite("The main job, from the command line", .serialized)
struct MainJobTests {
    private func load(_ cluster: TestCluster, _ records: Range<Int>, value: String = "v") throws {
        let lines = records.map { "key:\(String(format: "%06d", $0))\t\(value)-\($0)\n" }.joined()
        try cluster.expect(["load"], input: Data(lines.utf8))
    }

    /// Restores into a new directory, serves it and returns its dump of tree 0.
    private func restored(_ cluster: TestCluster, _ arguments: [String]) throws -> String {
        cluster.killLeader()
        let data = cluster.root + "/restored-\(UUID().uuidString.prefix(8))"
        try cluster.expect(["restore", "--data", data] + arguments)
        cluster.data = data
        try cluster.writeConfiguration()
        try cluster.startLeader()
        return try cluster.dump()
    }

    @Test("D5: backup, archive, and a restore of a restore of a restore, each to a named point")
    func restoreOfARestore() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        try cluster.startAgent()
        try load(cluster, 0..<2000)
        try cluster.expect(["backup"])
        var expected = try cluster.dump()
        for round in 1...3 {
            try load(cluster, 0..<(500 * round), value: "round\(round)")
            expected = try cluster.dump()
            let point = try #require(try cluster.field("lsn", of: ["restorepoint", "round-\(round)"]))
            try load(cluster, 0..<2000, value: "accident")
            try cluster.expect(["wal", "switch"])
            try waitUntil("the restore point is archived") {
                try LSN(cluster.field("archived_lsn", of: ["status"]) ?? "") ?? .zero >= LSN(point)!
            }
            #expect(cluster.stopAgent() == 0)
            let found = try restored(cluster, ["--target-name", "round-\(round)"])
            #expect(found == expected)
            try cluster.startAgent()
            #expect(try cluster.field("timeline", of: ["status"]) == String(round + 1))
        }
    }

    @Test("A1: kill -9 under writers, twenty rounds: nothing acknowledged is lost")
    func killUnderWriters() throws {
        let cluster = try TestCluster()
        var acknowledged: [String: Int] = [:]
        for round in 0..<20 {
            try cluster.startLeader()
            // Each writer sets its keys to rising numbers and notes the last one that was acknowledged.
            let script = """
                import socket, sys, time
                s = socket.create_connection(('127.0.0.1', \(cluster.port)))
                f = s.makefile('rb')
                n = int(sys.argv[2])
                while True:
                    n += 1
                    k = 'writer%s:%d' % (sys.argv[1], n % 50)
                    v = str(n)
                    s.sendall(('*3\\r\\n$3\\r\\nSET\\r\\n$%d\\r\\n%s\\r\\n$%d\\r\\n%s\\r\\n' % (len(k), k, len(v), v)).encode())
                    if f.readline() != b'+OK\\r\\n': break
                    print(k, n, flush=True)
                """
            let writers = try (0..<4).map {
                try RunningProcess("/usr/bin/python3", ["-c", script, String($0), String(round * 1_000_000)])
            }
            try waitUntil("every writer has written") {
                writers.allSatisfy { $0.output.split(separator: "\n").count > 20 + round * 5 }
            }
            cluster.killLeader()
            for writer in writers {
                writer.wait()
                for line in writer.output.split(separator: "\n") {
                    let fields = line.split(separator: " ")
                    if fields.count == 2, let number = Int(fields[1]) { acknowledged[String(fields[0])] = number }
                }
            }
            try cluster.startLeader()
            var found: [String: Int] = [:]
            for line in try cluster.dump().split(separator: "\n") {
                let fields = line.split(separator: "\t")
                found[String(fields[0])] = Int(fields[1])
            }
            for (key, number) in acknowledged {
                // A later write of the same key may have arrived without its acknowledgement.
                #expect((found[key] ?? -1) >= number, "round \(round): \(key)")
            }
            cluster.killLeader()
        }
    }
}
