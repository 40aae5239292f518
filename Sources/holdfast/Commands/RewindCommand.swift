import ArgumentParser
import HoldfastAgent

struct RewindCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rewind", abstract: "Bring a former leader back as a follower, without a new copy.",
        discussion: """
            For a node that has log which its cluster's leader lacks, because another was promoted. Only the pages that it changed \
            since the fork are fetched, from the leader or from the newest backup. The transactions that are thrown away are listed \
            in a directory beside the data directory, with their log. The node must be stopped. A rewind that was interrupted is \
            finished by repeating it.

            EXAMPLES
              holdfast rewind --data /var/lib/holdfast/main --from 10.0.0.2:6420
              holdfast rewind --data /var/lib/holdfast/main --from repository
            """)

    @OptionGroup var configuration: ConfigurationOptions
    @Option(help: "The data directory of the node that has stopped.") var data: String?
    @Option(help: "HOST:PORT or unix:PATH of the leader; or repository.") var from: String
    @Option(help: "The replication slot to ask for.") var slot: String?
    @Option(help: "How the follower names itself; default: the host's name.") var node: String?
    @OptionGroup var output: OutputOptions

    func run() throws {
        let configuration = try configuration.load(["data": (option: "--data", text: data)])
        let log = LogOutput.start(configuration.logLevel)
        let rewind = try RewindNode(
            configuration, from: from, node: node, slot: slot,
            command: RestoreCluster.repeatable(CommandLine.arguments), log: log)
        try output.print(try rewind.run())
    }
}
