import ArgumentParser
import HoldfastAgent

struct RestorePointCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restorepoint", abstract: "Name this moment, so that it can be restored by name.",
        discussion: """
            EXAMPLES
              holdfast restorepoint before-upgrade
            """)

    @OptionGroup var configuration: ConfigurationOptions
    @OptionGroup var server: ConnectOptions
    @Argument(help: "The name.") var name: String
    @OptionGroup var output: OutputOptions

    func run() throws { try output.print(ServerOperations.restorePoint(name, at: server.server(configuration))) }
}
