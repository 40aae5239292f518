import Foundation
import HoldfastTestSupport
import Testing

@Suite("Stock tools read what is written", .serialized)
struct StockFormatTests {
    @Test(
        "tar and the compressor read a backup's archives; segments decompress to whole segments",
        arguments: ["zstd", "gzip"])
    func archives(codec: String) throws {
        let cluster = try TestCluster(settings: "")
        var text = try String(contentsOfFile: cluster.configuration, encoding: .utf8)
        text = text.replacing(
            "repository: {path: \(cluster.repository)}",
            with: "repository: {path: \(cluster.repository), compression: {codec: \(codec)}}")
        #expect(text.contains("codec:"))
        try text.write(toFile: cluster.configuration, atomically: true, encoding: .utf8)
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.fill(50, bytes: 20_000)
        let backup = try cluster.json(["backup"])
        let archives = try #require(backup["archives"] as? [[String: Any]])
        let unpacked = cluster.root + "/unpacked"
        try FileManager.default.createDirectory(atPath: unpacked, withIntermediateDirectories: true)
        let tool = try #require(BuiltBinary.tool(codec))
        let tar = try #require(BuiltBinary.tool("tar"))
        for archive in archives {
            let path = cluster.repository + "/main/" + (try #require(archive["path"] as? String))
            let test = try BuiltBinary.runTool(tool, ["-t", path])
            #expect(test.status == 0, "\(test.errors)")
            let extract = codec == "zstd" ? ["--zstd", "-xf"] : ["-xzf"]
            let result = try BuiltBinary.runTool(tar, extract + [path, "-C", unpacked])
            #expect(result.status == 0, "\(result.errors)")
            #expect(result.errors == "")
        }
        // The pages that tar unpacked are those that restore unpacks.
        try cluster.archivedPoint("end")
        #expect(cluster.stopAgent() == 0)
        cluster.killLeader()
        try cluster.expect(["restore", "--data", cluster.root + "/new", "--target-name", "end"])
        let names = try FileManager.default.contentsOfDirectory(atPath: cluster.root + "/new/pages").sorted()
        #expect(!names.isEmpty)
        for name in names {
            #expect(
                FileManager.default.contents(atPath: unpacked + "/pages/" + name)
                    == FileManager.default.contents(atPath: cluster.root + "/new/pages/" + name), "\(name)")
        }
        let wal = cluster.repository + "/main/wal/00000001"
        for name in try FileManager.default.contentsOfDirectory(atPath: wal) where !name.hasSuffix(".summary") {
            let result = try BuiltBinary.runTool(tool, ["-t", wal + "/" + name])
            #expect(result.status == 0, "\(name): \(result.errors)")
        }
    }

    @Test("pg_verifybackup accepts a restored directory, and names what was changed in it")
    func verifyBackup() throws {
        let program = PostgresServer.program("pg_verifybackup")
        let cluster = try TestCluster()
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.fill(50, bytes: 20_000)
        try cluster.expect(["backup"])
        #expect(cluster.stopAgent() == 0)
        cluster.killLeader()
        let fresh = cluster.root + "/new"
        try cluster.expect(["restore", "--data", fresh])
        let result = try BuiltBinary.runTool(program, ["-n", fresh])
        #expect(result.status == 0, "\(result.errors)")
        #expect(result.output.contains("successfully verified"), "\(result.output)")
        let page = fresh + "/pages/00000000"
        var bytes = try #require(FileManager.default.contents(atPath: page))
        bytes[bytes.count / 2] ^= 1
        try bytes.write(to: URL(filePath: page))
        let damaged = try BuiltBinary.runTool(program, ["-n", fresh])
        #expect(damaged.status != 0)
        #expect(damaged.errors.contains("pages/00000000"), "\(damaged.errors)")
    }
}
