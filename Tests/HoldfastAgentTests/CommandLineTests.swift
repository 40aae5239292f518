import Foundation
import HoldfastTestSupport
import Testing

@Suite("The command line says what it does, and refuses what it cannot do")
struct CommandLineTests {
    private static let commands: [[String]] = [
        ["init"], ["serve"], ["agent"], ["backup"], ["restore"], ["info"], ["wal", "push"], ["wal", "fetch"],
        ["wal", "list"], ["wal", "dump"], ["wal", "switch"], ["check"], ["control"], ["page", "dump"], ["dump"],
        ["load"],
        ["checkpoint"], ["restorepoint"], ["promote"], ["status"],
    ]

    @Test("every command has help with examples", arguments: commands)
    func help(command: [String]) throws {
        let result = try BuiltBinary.run(command + ["--help"])
        #expect(result.status == 0)
        #expect(result.errors == "")
        #expect(result.output.contains("EXAMPLES"))
        #expect(result.output.contains("holdfast " + command.joined(separator: " ")))
    }

    @Test(
        "a command that is not in this release names itself and ends with 64",
        arguments: ["verify", "expire", "annotate", "keep"])
    func absent(command: String) throws {
        let result = try BuiltBinary.run([command, "--whatever", "x"])
        #expect(result.status == 64)
        #expect(result.output == "")
        #expect(result.errors == "holdfast: \(command) is not in this release\nhint: see holdfast --help\n")
    }

    @Test(
        "what is no command, option or value ends with 64 and one line that says so",
        arguments: [
            ["frobnicate"], ["status", "--frobnicate"], ["status", "--format", "xml"], ["restorepoint"],
            ["dump", "--tree", "x"], ["status", "--connect", "nowhere"], ["backup", "--max-rate", "7"],
        ])
    func usage(arguments: [String]) throws {
        let result = try BuiltBinary.run(arguments, environment: ["HOLDFAST_CLUSTER": "main"])
        #expect(result.status == 64)
        #expect(result.output == "")
        #expect(result.errors.hasPrefix("holdfast: "))
    }

    @Test("S3: what was typed is not printed raw")
    func terminalEscapes() throws {
        let result = try BuiltBinary.run(["status", "--connect", "unix:/\u{1B}[31m"])
        #expect(result.status != 0)
        #expect(!result.errors.contains("\u{1B}"))
        let usage = try BuiltBinary.run(["\u{1B}[31m"])
        #expect(usage.status == 64)
        #expect(!usage.errors.contains("\u{1B}"))
    }

    @Test("a wrong configuration starts nothing and ends with 78")
    func configuration() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/h.yaml"
        try Data("cluster: main\ndata: \(directory.path)/data\nservr: {}\n".utf8).write(to: URL(filePath: path))
        for command in [["init"], ["serve"], ["agent"], ["backup"], ["info"]] {
            let result = try BuiltBinary.run(command + ["--config", path])
            #expect(result.status == 78)
            #expect(
                result.errors == "holdfast: unknown key \"servr\" (\(path):3)\nhint: did you mean \"server\"?\n")
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["h.yaml"])
    }
}
