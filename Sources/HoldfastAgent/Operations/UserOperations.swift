import HoldfastCore
import HoldfastServer

/// `holdfast user`: what is in `server.users_file`. A running server reads it again within seconds.
package struct UserOperations: Sendable {
    private let file: UsersFile

    package init(_ configuration: Configuration) throws(ConfigurationError) {
        guard let path = configuration.server.usersFile else {
            throw .missing(
                "server.users_file", why: "the command needs the file of the users",
                next: "give --users-file PATH, or server: {users_file: PATH} in the file")
        }
        file = UsersFile(path)
    }

    /// Refuses what cannot be added, before a password is asked for.
    package func check(_ name: String, replacing: Bool) throws {
        guard ObjectName.isValid(name) else { throw NameRefused(diagnosis: ObjectName.refusal(name, of: "user")) }
        guard !replacing, (try? file.read())?.find(name) != nil else { return }
        throw UserError.exists(name)
    }

    package func add(_ name: String, roles: Roles, password: [UInt8], replacing: Bool) throws -> Report {
        try check(name, replacing: replacing)
        guard !password.isEmpty, password.count <= 1024, !password.contains(where: { [0, 10, 13].contains($0) }) else {
            throw UserError.badPassword
        }
        let user = UserList.User(name: name, roles: roles, hash: PasswordHash(of: password))
        try file.edit { users in
            guard replacing || users.find(name) == nil else { throw UserError.exists(name) }
            users.set(user)
        }
        return Report(text: "user \(name) written, roles: \(roles.names)\n", json: Self.json(user))
    }

    package func remove(_ name: String) throws -> Report {
        try file.edit { users in
            guard users.remove(name) else { throw UserError.unknown(name) }
        }
        return Report(text: "user \(name) removed\n", json: .object([(key: "name", value: .string(name))]))
    }

    package func list() throws -> Report {
        let users = try file.read().users
        var table = TextTable([("USER", .left), ("ROLES", .left)])
        for user in users { table.add([user.name, user.roles.names]) }
        return Report(
            text: table.text, json: .object([(key: "users", value: .array(users.map(Self.json)))]))
    }

    private static func json(_ user: UserList.User) -> JSONValue {
        let roles = user.roles.names.split(separator: ",").map { JSONValue.string(String($0)) }
        return .object([(key: "name", value: .string(user.name)), (key: "roles", value: .array(roles))])
    }
}

package enum UserError: DiagnosableError, Equatable {
    case exists(String)
    case unknown(String)
    case badPassword
    case passwordsDiffer
    case noPassword

    package var diagnosis: Diagnosis {
        switch self {
        case .exists(let name):
            Diagnosis(
                "there is a user \(printable(name)) already",
                next: "give --replace for another password or other roles",
                status: .cannotCreate)
        case .unknown(let name):
            Diagnosis(
                "there is no user \(printable(name))", next: "see holdfast user list", status: .dataError)
        case .badPassword:
            Diagnosis(
                "this is no password", why: "it is one line of 1 to 1024 bytes", next: "choose another",
                status: .dataError)
        case .passwordsDiffer:
            Diagnosis("the two passwords differ", next: "try again", status: .dataError)
        case .noPassword:
            Diagnosis(
                "no password was given", next: "type it when asked, or write it to stdin as one line",
                status: .usage)
        }
    }
}
