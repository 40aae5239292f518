import ArgumentParser
import HoldfastAgent

struct NodesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "nodes", abstract: "Show the nodes of a cluster with automatic failover, and who leads.",
        discussion: """
            Needs failover: {etcd: …} in the configuration.

            EXAMPLES
              holdfast nodes
              holdfast nodes --format json
              holdfast nodes --forget host-c      # it is gone for good: failover waits for it no more
            """)

    @OptionGroup var configuration: ConfigurationOptions
    @OptionGroup var output: OutputOptions
    @Option(help: "Forget a node that is gone for good.") var forget: String?

    func run() async throws {
        let settings = try configuration.load()
        if let forget { try await ClusterNodes.forget(forget, settings) }
        try output.print(await ClusterNodes.report(settings))
    }
}
