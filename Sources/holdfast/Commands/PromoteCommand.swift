import ArgumentParser
import HoldfastAgent

struct PromoteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "promote", abstract: "Open a node that is paused at its recovery target for writing.",
        discussion: """
            EXAMPLES
              holdfast promote --connect unix:/run/holdfast/main.sock
            """)

    @OptionGroup var configuration: ConfigurationOptions
    @OptionGroup var server: ConnectOptions
    @OptionGroup var output: OutputOptions

    func run() throws { try output.print(ServerOperations.promote(server.server(configuration))) }
}
