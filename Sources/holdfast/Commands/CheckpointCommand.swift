import ArgumentParser
import HoldfastAgent

struct CheckpointCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "checkpoint", abstract: "Take a checkpoint on a running server, and wait for it.",
        discussion: """
            EXAMPLES
              holdfast checkpoint --connect unix:/run/holdfast/main.sock
            """)

    @OptionGroup var configuration: ConfigurationOptions
    @OptionGroup var server: ConnectOptions
    @OptionGroup var output: OutputOptions

    func run() throws { try output.print(ServerOperations.checkpoint(at: server.server(configuration))) }
}
