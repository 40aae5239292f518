import ArgumentParser
import Glibc
import HoldfastAgent
import HoldfastCore

/// The command line. It reads arguments, calls HoldfastAgent's functions and prints what they return; it decides
/// nothing itself.
@main
struct Holdfast: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast",
        abstract: "A durable key-value engine with online backup, WAL archive and point-in-time restore.",
        discussion: """
            EXAMPLES
              holdfast init --data /var/lib/holdfast/main
              holdfast serve --data /var/lib/holdfast/main
              holdfast backup --cluster main
              holdfast restore --cluster main --data /var/lib/holdfast/new --target-time 2026-11-24T02:00:00Z
              holdfast info

            Every command reads --config FILE, else HOLDFAST_CONFIG, else /etc/holdfast/holdfast.yaml. Each key of that \
            file has a twin in the environment: HOLDFAST_ARCHIVE__TIMEOUT for archive: {timeout}. Options go before the \
            environment, the environment before the file.

            EXIT STATUS
              0 done, 64 usage, 65 bad input or damaged data, 69 a service is unavailable, 70 internal,
              73 cannot create, 74 input/output, 75 try again, 77 permission, 78 configuration
            """,
        version: HoldfastVersion.text,
        subcommands: [
            InitCommand.self, ServeCommand.self, AgentCommand.self, BackupCommand.self, RestoreCommand.self,
            InfoCommand.self, WALCommand.self, CatalogCommand.self, CheckCommand.self, ControlCommand.self,
            PageCommand.self, DumpCommand.self, LoadCommand.self, CheckpointCommand.self, RestorePointCommand.self,
            PromoteCommand.self, StatusCommand.self, NodesCommand.self, RewindCommand.self, UserCommand.self,
            VerifyCommand.self, ExpireCommand.self, AnnotateCommand.self, KeepCommand.self, SlotCommand.self,
        ])

    static func main() async {
        // A reader of our output that goes away is met as EPIPE, where something can be said about it.
        signal(SIGPIPE, SIG_IGN)
        do {
            var command = try parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            Exit.end(with: error)
        }
    }
}
