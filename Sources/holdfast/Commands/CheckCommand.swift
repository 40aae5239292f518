import ArgumentParser
import HoldfastAgent

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Check a data directory's structure, or a cluster's whole set-up.",
        discussion: """
            With --data: every page's checksum, and that every page is reachable exactly once or free. No server may use \
            the directory. Without it: repository, leader, a round trip of WAL through the archive, and the catalog.

            EXAMPLES
              holdfast check --data /var/lib/holdfast/main
              holdfast check --cluster main
            """)

    @OptionGroup var configuration: ConfigurationOptions
    @Option(help: "A data directory that no server uses.") var data: String?
    @OptionGroup var output: OutputOptions

    func run() throws {
        if let data {
            try output.print(CheckDirectory.run(data))
        } else {
            let configuration = try configuration.load()
            let log = LogOutput.start(configuration.logLevel)
            try output.print(CheckCluster(configuration, log: log).run())
        }
    }
}
