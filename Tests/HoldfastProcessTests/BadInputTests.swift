import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

/// Every refusal has the right exit status, says what, where, why and what next, and changes nothing on disk.
@Suite("Bad input gets a clear error, and nothing is changed", .serialized)
struct BadInputTests {
    /// A cluster with a few records, one backup, and its WAL archived; nothing runs any more.
    private func preparedCluster(settings: String = "") throws -> TestCluster {
        let cluster = try TestCluster(settings: settings)
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.expect(["load"], input: Data((0..<500).map { "key\($0)\tvalue\($0)\n" }.joined().utf8))
        try cluster.expect(["backup"])
        try cluster.expect(["load"], input: Data("late\t1\n".utf8))
        try cluster.expect(["restorepoint", "here"])
        try cluster.expect(["load"], input: Data("later\t1\n".utf8))
        let end = try #require(try cluster.field("lsn", of: ["wal", "switch"]))
        try waitUntil("the WAL is archived") {
            try LSN(cluster.field("archived_lsn", of: ["status"]) ?? "") ?? .zero >= LSN(end)!
        }
        #expect(cluster.stopAgent() == 0)
        #expect(cluster.stopLeader() == 0)
        return cluster
    }

    @Test("data directories: missing, not ours, in use")
    func dataDirectories() throws {
        let cluster = try preparedCluster()
        try cluster.refused(["control", "--data", cluster.root + "/nowhere"], status: 65, saying: ["nowhere"])
        try FileManager.default.createDirectory(atPath: cluster.root + "/foreign", withIntermediateDirectories: true)
        try Data("x".utf8).write(to: URL(filePath: cluster.root + "/foreign/file"))
        for command in ["serve", "control", "check", "dump"] {
            try cluster.refused([command, "--data", cluster.root + "/foreign"], status: 65, saying: ["foreign"])
        }
        try cluster.refused(["init", "--data", cluster.root + "/foreign"], status: 73, saying: ["foreign", "empty"])
        try cluster.refused(["init", "--data", cluster.data], status: 73, saying: [cluster.data])
        let parentless = cluster.root + "/no/where"
        for command in ["init", "restore"] {
            try cluster.refused([command, "--data", parentless], status: 73, saying: [parentless, "above it"])
        }
        try cluster.startLeader()
        // The log is the running leader's to change.
        try cluster.refused(
            ["serve", "--data", cluster.data, "--socket", cluster.root + "/other.sock", "--listen", "127.0.0.1:0"],
            status: 75, saying: ["another process", cluster.data], except: ["data/wal"])
        try cluster.refused(
            ["restore", "--data", cluster.data], status: 75, saying: ["another process", cluster.data],
            except: ["data/wal"])
    }

    @Test(
        "S9: a data directory that a newer version wrote, in both control slots or in either",
        arguments: [[0, 1], [0], [1]])
    func newerFormat(_ slots: [Int]) throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        try cluster.expect(["load"], input: Data("key\tvalue\n".utf8))
        #expect(cluster.stopLeader() == 0)
        let control = URL(filePath: cluster.data + "/control")
        let saved = try Data(contentsOf: control)
        var bytes = [UInt8](saved)
        for slot in slots {
            let start = slot * 4096
            #expect(bytes[start + 8] == 1, "the version")
            bytes[start + 8] = 2
            withUnsafeBytes(of: crc32c(bytes[start..<start + 4092]).littleEndian) {
                bytes.replaceSubrange(start + 4092..<start + 4096, with: $0)
            }
        }
        try Data(bytes).write(to: control)
        let words = ["newer format", "control", "version is 2", "use the version of holdfast that wrote it"]
        for command in ["control", "check", "dump", "serve"] {
            try cluster.refused([command, "--data", cluster.data], status: 65, saying: words)
        }
        try saved.write(to: control)
        try cluster.startLeader()
        #expect(try cluster.dump() == "key\tvalue\n")
    }

    /// Bit by bit: what the product's own code is held against.
    private func crc32c(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        var crc = UInt32.max
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 0 ? crc >> 1 : crc >> 1 ^ 0x82F6_3B78 }
        }
        return ~crc
    }

    @Test("D6: restores: not empty, unknown backup, targets out of reach, a timeline that is not there")
    func restores() throws {
        let cluster = try preparedCluster()
        let fresh = cluster.root + "/new"
        try FileManager.default.createDirectory(atPath: cluster.root + "/full", withIntermediateDirectories: true)
        try Data("x".utf8).write(to: URL(filePath: cluster.root + "/full/file"))
        try cluster.refused(["restore", "--data", cluster.root + "/full"], status: 73, saying: ["not empty", "file"])
        try cluster.refused(["restore", "--data", cluster.data], status: 73, saying: [cluster.data])
        try cluster.refused(
            ["restore", "--data", fresh, "--backup", "20200101T000000Z-full"], status: 65,
            saying: ["20200101T000000Z-full"])
        try cluster.refused(["restore", "--data", fresh, "--backup", "../../etc"], status: 65, saying: ["../../etc"])
        try cluster.refused(
            ["restore", "--data", fresh, "--target-time", "2020-01-01T00:00:00Z"], status: 65,
            saying: ["before the first backup", "2020-01-01"])
        try cluster.refused(
            ["restore", "--data", fresh, "--target-lsn", "0/1000040"], status: 65, saying: ["0/1000040"])
        try cluster.refused(
            ["restore", "--data", fresh, "--target-lsn", "FF/0"], status: 65, saying: ["FF/0", "end"])
        try cluster.refused(
            ["restore", "--data", fresh, "--target-transaction", "999999"], status: 65, saying: ["999999"])
        try cluster.refused(["restore", "--data", fresh, "--target-name", "nobody"], status: 65, saying: ["nobody"])
        try cluster.refused(
            ["restore", "--data", fresh, "--target-time", "2199-01-01T00:00:00Z"], status: 65, saying: ["2199"]
        )
        try cluster.refused(["restore", "--data", fresh, "--target-timeline", "9"], status: 65, saying: ["00000009"])
        try cluster.refused(
            ["restore", "--data", fresh, "--target-immediate", "--target-name", "here"], status: 64,
            saying: ["--target-immediate", "--target-name", "exclude each other"])
        try cluster.refused(
            ["restore", "--data", fresh, "--target-time", "2026-01-01T00:00:00"], status: 64,
            saying: ["--target-time", "2026-01-01T00:00:00", "zone"])
        #expect(!FileManager.default.fileExists(atPath: fresh))
    }

    @Test("D4: WAL segments missing in the middle, truncated, flipped, exchanged")
    func damagedSegments() throws {
        let cluster = try preparedCluster()
        let directory = cluster.repository + "/main/wal/00000001"
        let clusters = try #require(try cluster.json(["info"])["clusters"] as? [[String: Any]])
        let backup = try #require((clusters.first?["backups"] as? [[String: Any]])?.first)
        let first = try #require((backup["wal"] as? [String: Any])?["first"] as? String)
        // One from before the backup is not replayed: `serve` would start, and stay.
        let segments = try FileManager.default.contentsOfDirectory(atPath: directory)
            .filter { $0.hasSuffix(".zst") && $0.prefix(24) >= first }.sorted()
        try #require(segments.count >= 3)
        let fresh = cluster.root + "/new"
        for (index, segment) in segments.enumerated() {
            let path = directory + "/" + segment
            let saved = try #require(FileManager.default.contents(atPath: path))
            var variants: [Data] = [Data(), saved.prefix(saved.count / 2)]
            var flipped = saved
            flipped[flipped.count / 2] ^= 0x10
            variants.append(flipped)
            let neighbour = directory + "/" + segments[index == 0 ? 1 : index - 1]
            variants.append(try #require(FileManager.default.contents(atPath: neighbour)))
            for variant in variants {
                try variant.write(to: URL(filePath: path))
                // The restore plans without reading segments; what replays them refuses, and leaves the directory as it is.
                let restore = try cluster.unchanged("a restore", below: cluster.repository) {
                    try cluster.run(["restore", "--data", fresh])
                }
                if restore.status == 0 {
                    let serve = try cluster.unchanged("a refused serve") {
                        try cluster.run(["serve", "--data", fresh])
                    }
                    #expect(serve.status == 65, "\(segment): \(serve.errors)")
                    #expect(serve.errors.contains(String(segment.prefix(24))), "\(serve.errors)")
                } else {
                    #expect(restore.status == 65, "\(restore.errors)")
                }
                try? FileManager.default.removeItem(atPath: fresh)
            }
            try saved.write(to: URL(filePath: path))
        }
        // Missing in the middle.
        let middle = directory + "/" + segments[segments.count - 2]
        try FileManager.default.moveItem(atPath: middle, toPath: cluster.root + "/aside")
        try cluster.refused(
            ["restore", "--data", fresh, "--target-name", "here"], status: 65,
            saying: [String(segments[segments.count - 2].prefix(24)), "missing"])
    }

    @Test("D4, S9: a segment of another cluster, whole and with its summary, under a name that is needed")
    func foreignSegments() throws {
        // Without switches by time both have the same segments.
        let cluster = try preparedCluster(settings: "archive: {timeout: none}")
        let other = try preparedCluster(settings: "archive: {timeout: none}")
        let wal = "/main/wal/00000001/"
        let names = try FileManager.default.contentsOfDirectory(atPath: cluster.repository + wal)
        let segments = Set(names.map { String($0.prefix(24)) }).sorted()
        let theirs = try FileManager.default.contentsOfDirectory(atPath: other.repository + wal)
        let foreign = try #require(try other.field("system_identifier", of: ["control"]))
        let backup = try #require(try cluster.backups().first)
        let range = try #require(backup["wal"] as? [String: Any])
        let first = try #require(range["first"] as? String)
        let fresh = cluster.root + "/new"
        // One that makes the backup whole, and the last one, which only a later target needs.
        for segment in [first, try #require(segments.last)] {
            let objects = names.filter { $0.hasPrefix(segment) }
            try #require(objects.count == 2 && Set(theirs).isSuperset(of: objects))
            for name in objects {
                let path = cluster.repository + wal + name
                try FileManager.default.moveItem(atPath: path, toPath: cluster.root + "/" + name)
                try FileManager.default.copyItem(atPath: other.repository + wal + name, toPath: path)
            }
            try cluster.refused(
                ["restore", "--data", fresh], status: 65,
                saying: [segment, "belongs to the cluster with identifier \(foreign)"])
            #expect(!FileManager.default.fileExists(atPath: fresh))
            // With their log under our summary, which only a reader of the log can tell.
            let summary = cluster.repository + wal + segment + ".summary"
            try FileManager.default.removeItem(atPath: summary)
            try FileManager.default.copyItem(atPath: cluster.root + "/" + segment + ".summary", toPath: summary)
            try cluster.expect(["restore", "--data", fresh])
            try cluster.refused(["serve", "--data", fresh], status: 65, saying: [segment, "SHA-256"])
            try FileManager.default.removeItem(atPath: fresh)
            for name in objects {
                let path = cluster.repository + wal + name
                try FileManager.default.removeItem(atPath: path)
                try FileManager.default.moveItem(atPath: cluster.root + "/" + name, toPath: path)
            }
        }
        try cluster.expect(["restore", "--data", fresh])
    }

    @Test("archives, tables, manifest and marker: truncated or flipped at many places")
    func damagedBackup() throws {
        let cluster = try preparedCluster()
        let backups = cluster.repository + "/main/backups"
        let id = try #require(try FileManager.default.contentsOfDirectory(atPath: backups).first)
        let fresh = cluster.root + "/new"
        for name in try FileManager.default.contentsOfDirectory(atPath: backups + "/" + id)
        where !name.hasPrefix("started") {
            let path = backups + "/\(id)/\(name)"
            let saved = try #require(FileManager.default.contents(atPath: path))
            // The last byte of a JSON text may be a line feed, which says nothing.
            for place in [0, saved.count / 3, saved.count / 2, saved.count - 2] {
                for cut in [true, false] {
                    var bytes = saved
                    if cut { bytes = saved.prefix(place) } else { bytes[place] ^= 0x01 }
                    try bytes.write(to: URL(filePath: path))
                    let result = try cluster.unchanged("a restore", below: cluster.repository) {
                        try cluster.run(["restore", "--data", fresh, "--target-immediate"])
                    }
                    #expect(
                        result.status == 65,
                        "\(name) \(cut ? "cut" : "flipped") at \(place): \(result.status) \(result.errors)")
                    #expect(result.errors.contains("hint:"), "\(result.errors)")
                    if FileManager.default.fileExists(atPath: fresh + "/control") {
                        try cluster.refused(["serve", "--data", fresh], status: 65, saying: ["restore"])
                    }
                    try? FileManager.default.removeItem(atPath: fresh)
                }
            }
            try saved.write(to: URL(filePath: path))
        }
        try cluster.expect(["restore", "--data", fresh, "--target-immediate"])
    }

    @Test("configuration: unknown key, another cluster's repository, a wrong catalog address")
    func configuration() throws {
        let cluster = try preparedCluster()
        let saved = try String(contentsOfFile: cluster.configuration, encoding: .utf8)
        try (saved + "archiv: {timeout: 1s}\n").write(toFile: cluster.configuration, atomically: true, encoding: .utf8)
        try cluster.refused(["info"], status: 78, saying: ["archiv", "holdfast.yaml:9"])
        try saved.write(toFile: cluster.configuration, atomically: true, encoding: .utf8)

        let other = try TestCluster()
        let mixed = try String(contentsOfFile: other.configuration, encoding: .utf8).replacing(
            other.repository, with: cluster.repository)
        try mixed.write(toFile: other.configuration, atomically: true, encoding: .utf8)
        let control = try #require(try other.field("system_identifier", of: ["control"]))
        try other.refused(["serve"], status: 65, saying: ["system identifier", control])
        try other.startLeader(["--no-archive"])
        let before = TestCluster.fingerprint(cluster.repository)
        try other.refused(["backup"], status: 65, saying: ["system identifier"], except: ["data/wal"])
        #expect(TestCluster.fingerprint(cluster.repository) == before)
    }
}
