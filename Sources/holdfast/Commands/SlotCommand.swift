import ArgumentParser
import HoldfastAgent

struct SlotCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "slot", abstract: "Show, make and drop replication slots of a running leader.",
        discussion: """
            A slot keeps the log that a follower still needs, also while that is away. Needs the role replication or admin.

            EXAMPLES
              holdfast slot list
              holdfast slot create host-b --connect 10.0.0.1:6420
              holdfast slot drop host-b --format json
            """,
        subcommands: [List.self, Create.self, Drop.self])

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(commandName: "list", abstract: "Show the slots.")
        @OptionGroup var configuration: ConfigurationOptions
        @OptionGroup var server: ConnectOptions
        @OptionGroup var output: OutputOptions

        func run() throws { try output.print(SlotOperations.list(server.server(configuration))) }
    }

    struct Create: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "create", abstract: "Make a slot: from now on the log is kept for whoever uses it.")
        @Argument(help: "The slot's name.") var name: String
        @OptionGroup var configuration: ConfigurationOptions
        @OptionGroup var server: ConnectOptions
        @OptionGroup var output: OutputOptions

        func run() throws { try output.print(SlotOperations.create(name, at: server.server(configuration))) }
    }

    struct Drop: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "drop", abstract: "Drop a slot that nobody uses: what it kept may be recycled.")
        @Argument(help: "The slot's name.") var name: String
        @OptionGroup var configuration: ConfigurationOptions
        @OptionGroup var server: ConnectOptions
        @OptionGroup var output: OutputOptions

        func run() throws { try output.print(SlotOperations.drop(name, at: server.server(configuration))) }
    }
}
