import ArgumentParser
import Foundation
import HoldfastAgent

struct AgentCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "agent", abstract: "Archive WAL, take scheduled backups and keep the catalog up to date.",
        discussion: """
            Runs beside the leader. With a directory as --config it serves each *.yaml in it as one cluster. SIGTERM stops \
            it in order: a running backup ends cleanly and is due again at the next start.

            EXAMPLES
              holdfast agent --config /etc/holdfast/main.yaml
              holdfast agent --config /etc/holdfast/clusters.d
            """)

    @OptionGroup var configuration: ConfigurationOptions

    func run() async throws {
        let environment = ProcessInfo.processInfo.environment
        let configurations: [Configuration]
        if let path = configuration.config, DataDirectory.isDirectory(path) {
            configurations = try Configuration.loadAll(directory: path, environment: environment)
        } else {
            configurations = [try configuration.load()]
        }
        let log = LogOutput.start(configurations[0].logLevel)
        try await AgentDaemon(configurations, clock: AgentClock(environment: environment), log: log).run()
    }
}
