import ArgumentParser
import HoldfastAgent

struct LoadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load", abstract: "Read records from stdin as dump prints them, and store them.",
        discussion: """
            Every 1,000 lines are one durable transaction. Records under other keys stay.

            EXAMPLES
              holdfast load --connect unix:/run/holdfast/main.sock <records
              holdfast load --data /var/lib/holdfast/copy --tree 3 <records
            """)

    @OptionGroup var configuration: ConfigurationOptions
    @Option(help: "A data directory that no server uses.") var data: String?
    @OptionGroup var server: ConnectOptions
    @Option(help: "The tree, 0 to 15.") var tree = 0
    @OptionGroup var output: OutputOptions

    func run() throws {
        let input = RecordInput()
        if let data {
            guard server.connect == nil else {
                throw UsageError(what: "--data and --connect exclude each other", next: "give one of them")
            }
            try output.print(LoadRecords.run(directory: data, tree: tree, from: input))
        } else {
            try output.print(LoadRecords.run(connect: server.server(configuration), tree: tree, from: input))
        }
    }
}
