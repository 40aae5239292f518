import ArgumentParser
import HoldfastAgent

struct InfoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "info", abstract: "Show backups, archived WAL and the recovery window.",
        discussion: """
            EXAMPLES
              holdfast info
              holdfast info --cluster main --format json
            """)

    @OptionGroup var configuration: ConfigurationOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        // Without --cluster: everything in the repository.
        try output.print(ClusterInfo.report(configuration.load(), cluster: configuration.cluster))
    }
}
