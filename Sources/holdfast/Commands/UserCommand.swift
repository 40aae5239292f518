import ArgumentParser
import HoldfastAgent
import HoldfastServer

struct UserCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "user", abstract: "Who may connect to the server from elsewhere, and with which roles.",
        discussion: """
            Users stand in server.users_file, with their passwords hashed (scrypt). A running server reads it again within \
            seconds, and closes the connections of users that are gone or changed.
            """,
        subcommands: [UserAddCommand.self, UserListCommand.self, UserRemoveCommand.self])
}

/// `--users-file`, over the configuration's.
struct UsersOptions: ParsableArguments {
    @OptionGroup var configuration: ConfigurationOptions
    @Option(help: "The users file; default: the configuration's server.users_file.") var usersFile: String?

    func operations() throws -> UserOperations {
        try UserOperations(configuration.load(["server.users_file": (option: "--users-file", text: usersFile)]))
    }
}

struct UserAddCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Add a user. The password is asked for, or is the first line of stdin.",
        discussion: """
            EXAMPLES
              holdfast user add alice --role writer
              holdfast user add nightly --role backup --role reader <password
            """)

    @Argument(help: "The user's name.") var name: String
    @Option(
        name: .customLong("role"),
        help: "reader, writer, replication, backup or admin; may be given several times.") var roles: [String]
    @Flag(help: "Give a user that is there another password and these roles.") var replace = false
    @OptionGroup var users: UsersOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        guard let roles = Roles(names: roles.joined(separator: ",")) else {
            throw UsageError(
                what: "--role is not one of \(Roles.named.map(\.name).joined(separator: ", "))", next: "correct it")
        }
        let operations = try users.operations()
        try operations.check(name, replacing: replace)
        let password = try PasswordInput.read(for: name)
        try output.print(operations.add(name, roles: roles, password: password, replacing: replace))
    }
}

struct UserListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "Show the users and their roles.")

    @OptionGroup var users: UsersOptions
    @OptionGroup var output: OutputOptions

    func run() throws { try output.print(users.operations().list()) }
}

struct UserRemoveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Remove a user. Its open connections are closed.")

    @Argument(help: "The user's name.") var name: String
    @OptionGroup var users: UsersOptions
    @OptionGroup var output: OutputOptions

    func run() throws { try output.print(users.operations().remove(name)) }
}
