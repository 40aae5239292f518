import Foundation
import HoldfastTestSupport
import Testing

@Suite("Commands as they are typed", .serialized)
struct CommandTests {
    @Test("dump and load carry every byte value, through a server and through a directory")
    func everyByte() throws {
        let cluster = try TestCluster()
        let bytes = (0...255).map { String(format: "%02X", $0) }
        var lines = bytes.map { "\\x\($0)\t\\x\($0)\n" }
        lines.append("\(bytes.map { "\\x\($0)" }.joined())\t\(bytes.reversed().map { "\\x\($0)" }.joined())\n")
        lines.append("empty\t\n")
        lines.append("big\t\(String(repeating: "v", count: 3 << 20))\n")
        try cluster.startLeader()
        try cluster.load(lines.joined())
        let once = try cluster.dump()
        #expect(once.split(separator: "\n").count == lines.count)
        #expect(once.contains("\\\\\t\\\\\n") && once.contains("\\t\t\\t\n") && once.contains("\\n\t\\n\n"))
        #expect(once.allSatisfy { $0 == "\n" || $0 == "\t" || (" "..."~").contains($0) })
        try cluster.load(once, tree: 7)
        #expect(try cluster.dump(tree: 7) == once)
        #expect(try cluster.dump() == once)
        #expect(cluster.stopLeader() == 0)
        // The directory of a leader that archives, while it does not run.
        #expect(try cluster.expect(["dump", "--data", cluster.data]) == once)
        // Without a server, into a directory of its own.
        let copy = try TestCluster()
        try copy.expect(["load", "--data", copy.data], input: Data(once.utf8))
        #expect(try copy.expect(["dump", "--data", copy.data]) == once)
    }

    @Test("a bad line ends load with 65 and its number; what stands before it is there")
    func badLine() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        for (line, number) in [("no tab", 2), ("a\t\\q", 2), ("a\t\\x4", 2), ("a\tb\tc", 2)] {
            let result = try cluster.run(["load"], input: Data("fine\t1\n\(line)\nlater\t2\n".utf8))
            #expect(result.status == 65, "\(result.errors)")
            #expect(result.errors.contains("line \(number)"), "\(result.errors)")
        }
        #expect(try cluster.dump() == "fine\t1\n")
    }

    @Test(
        "commands, types and options of later releases end with 64 and change nothing",
        arguments: [
            ["verify"], ["expire"], ["annotate"], ["keep"], ["backup", "--type", "incr"],
            ["restore", "--delta"],
        ])
    func later(arguments: [String]) throws {
        let cluster = try TestCluster()
        let before = TestCluster.fingerprint(cluster.root)
        let result = try cluster.run(arguments + (arguments[0] == "restore" ? ["--data", cluster.root + "/new"] : []))
        #expect(result.status == 64, "\(result.errors)")
        #expect(
            result.errors.contains(arguments.last!) || result.errors.contains(arguments[arguments.count > 1 ? 1 : 0]))
        #expect(result.errors.contains("not in this release"), "\(result.errors)")
        #expect(TestCluster.fingerprint(cluster.root) == before)
    }

    @Test(
        "every command has help with examples",
        arguments: [
            [], ["init"], ["serve"], ["agent"], ["backup"], ["restore"], ["info"], ["wal"], ["wal", "push"],
            ["wal", "fetch"], ["wal", "list"], ["wal", "dump"], ["wal", "switch"], ["catalog"], ["catalog", "migrate"],
            ["catalog", "status"], ["catalog", "flush"], ["catalog", "rebuild"], ["check"], ["control"],
            ["page", "dump"], ["dump"],
            ["load"], ["checkpoint"], ["restorepoint"], ["promote"], ["status"],
        ])
    func help(command: [String]) throws {
        let result = try BuiltBinary.run(command + ["--help"])
        #expect(result.status == 0)
        #expect(result.output.contains("EXAMPLES"), "\(command)")
        #expect(result.output.contains((["holdfast"] + command).joined(separator: " ")), "\(command)")
    }

    @Test("every report is one JSON object when asked, and nothing else is on stdout")
    func json() throws {
        let cluster = try TestCluster()
        _ = try cluster.json(["control"])
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.load("a\t1\n")
        let backup = try cluster.json(["backup", "--label", "one"])
        #expect(backup["label"] as? String == "one")
        for command in [
            ["status"], ["checkpoint"], ["wal", "switch"], ["restorepoint", "here"], ["wal", "list"], ["info"],
            ["check"], ["wal", "dump"], ["page", "dump", "1"],
        ] {
            _ = try cluster.json(command)
        }
        // A server that is not there.
        let away = try cluster.run(["status", "--connect", "unix:\(cluster.root)/none.sock", "--format", "json"])
        #expect(away.status == 69)
        #expect(away.output == "")
        #expect(away.errors.contains("none.sock"))
        #expect(cluster.stopAgent() == 0)
        #expect(cluster.stopLeader() == 0)
    }
}
