import ArgumentParser
import HoldfastAgent

struct InitCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init", abstract: "Make an empty directory the data directory of a new cluster.",
        discussion: """
            EXAMPLES
              holdfast init --data /var/lib/holdfast/main
            """)

    @OptionGroup var configuration: ConfigurationOptions
    @Option(help: "The directory; it is made if it does not exist.") var data: String?
    @OptionGroup var output: OutputOptions

    func run() throws {
        let data = try data ?? configuration.load().requiredData()
        try output.print(DataDirectory.initialize(data))
    }
}
