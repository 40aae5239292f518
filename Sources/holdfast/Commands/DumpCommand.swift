import ArgumentParser
import HoldfastAgent

struct DumpCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dump", abstract: "Print a tree's records, sorted, one a line: key<TAB>value.",
        discussion: """
            Escapes are \\\\ \\t \\n \\r \\xHH. `holdfast load` reads it back. From a running server each step is of its own \
            moment while others write; from a data directory it is one moment.

            EXAMPLES
              holdfast dump --connect unix:/run/holdfast/main.sock >records
              holdfast dump --data /var/lib/holdfast/copy --tree 3
            """)

    @OptionGroup var configuration: ConfigurationOptions
    @Option(help: "A data directory that no server uses.") var data: String?
    @OptionGroup var server: ConnectOptions
    @Option(help: "The tree, 0 to 15.") var tree = 0

    func run() throws {
        let records = RecordOutput()
        if let data {
            guard server.connect == nil else {
                throw UsageError(what: "--data and --connect exclude each other", next: "give one of them")
            }
            try DumpRecords.run(directory: data, tree: tree, to: records)
        } else {
            try DumpRecords.run(connect: server.server(configuration), tree: tree, to: records)
        }
    }
}
