import ArgumentParser
import HoldfastAgent

struct ControlCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "control", abstract: "Show a data directory's control file: both slots, and which is in use.",
        discussion: """
            EXAMPLES
              holdfast control --data /var/lib/holdfast/main
            """)

    @OptionGroup var configuration: ConfigurationOptions
    @Option(help: "The data directory.") var data: String?
    @OptionGroup var output: OutputOptions

    func run() throws {
        let data = try data ?? configuration.load().requiredData()
        try output.print(ControlReport.run(data))
    }
}
