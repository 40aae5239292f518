import ArgumentParser
import HoldfastAgent

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Check a data directory's structure, or a cluster's whole set-up.",
        discussion: """
            With --data: every page's checksum and place, and that every page is reachable exactly once or free, with \
            order, separators, siblings and counts right. No server may use the directory, and nothing is written to it. \
            With --connect: the same of a running server, on a snapshot, while it goes on. With neither: repository, \
            leader, a round trip of WAL through the archive, and the catalog.

            EXAMPLES
              holdfast check --data /var/lib/holdfast/main
              holdfast check --connect unix:/run/holdfast/main.sock
              holdfast check --cluster main
            """)

    @OptionGroup var configuration: ConfigurationOptions
    @Option(help: "A data directory that no server uses.") var data: String?
    @OptionGroup var server: ConnectOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        if data != nil, server.connect != nil {
            throw UsageError(what: "--data and --connect exclude each other", next: "give one of them")
        }
        if server.connect != nil {
            try output.print(CheckServer.run(server.server(configuration)))
        } else if let data {
            try output.print(CheckDirectory.run(data))
        } else {
            let configuration = try configuration.load()
            let log = LogOutput.start(configuration.logLevel)
            try output.print(CheckCluster(configuration, log: log).run())
        }
    }
}
