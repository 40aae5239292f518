import ArgumentParser
import HoldfastAgent

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show how a running server is.",
        discussion: """
            EXAMPLES
              holdfast status
              holdfast status --connect unix:/run/holdfast/main.sock --format json
            """)

    @OptionGroup var configuration: ConfigurationOptions
    @OptionGroup var server: ConnectOptions
    @OptionGroup var output: OutputOptions

    func run() throws { try output.print(ServerOperations.status(of: server.server(configuration))) }
}
