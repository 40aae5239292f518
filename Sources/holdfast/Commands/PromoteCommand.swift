import ArgumentParser
import HoldfastAgent

struct PromoteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "promote",
        abstract: "Open a follower, or a node that is paused at its recovery target, for writing.",
        discussion: """
            The node claims its new timeline in the repository, so that no other can. A claim that it made before, in a \
            promotion that failed, it takes up.

            EXAMPLES
              holdfast promote --connect unix:/run/holdfast/main.sock
              holdfast promote --without-repository     # a follower, while the repository is away: read the risk
            """)

    @OptionGroup var configuration: ConfigurationOptions
    @OptionGroup var server: ConnectOptions
    @Flag(
        help: """
            A follower, with the repository away: open a timeline that is claimed when it is back. Another node may claim \
            it first; then this one stops.
            """)
    var withoutRepository = false
    @Flag(help: "A follower: pass over claims of nodes that are gone for good and never wrote on their timelines.")
    var force = false
    @OptionGroup var output: OutputOptions

    func run() throws {
        try output.print(
            ServerOperations.promote(
                server.server(configuration), withoutRepository: withoutRepository, isForced: force))
    }
}
