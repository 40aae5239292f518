import HoldfastCore

/// The users of a server, as their file lists them: one a line, in the order of the file.
///
///     # name:roles:hash
///     alice:writer:$scrypt$ln=15,r=8,p=1$…
///     nightly:backup,reader:$scrypt$…
///
/// Names are those of all Holdfast's objects: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`.
package struct UserList: Sendable, Equatable {
    package struct User: Sendable, Equatable {
        package var name: String
        package var roles: Roles
        package var hash: PasswordHash

        package init(name: String, roles: Roles, hash: PasswordHash) {
            self.name = name
            self.roles = roles
            self.hash = hash
        }
    }

    /// Bytes of a users file.
    package static let fileBytes = 4 << 20

    package private(set) var users: [User] = []
    private var places: [String: Int] = [:]
    /// Checked for a name that nobody has.
    private var decoy = PasswordHash(decoyFor: nil)

    package init() {}

    /// Throws the number of the line that is wrong, and why.
    package init(_ text: String) throws(BadLine) {
        self.init()
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            if line.isEmpty || line.hasPrefix("#") { continue }
            let user = try Self.user(line, number: index + 1)
            guard places[user.name] == nil else { throw BadLine(number: index + 1, why: "a user is listed twice") }
            add(user)
        }
    }

    package struct BadLine: Error, Equatable {
        package var number: Int
        package var why: String
    }

    package func find(_ name: String) -> User? { places[name].map { users[$0] } }

    /// Adds a user, or puts it in the place of the one with its name.
    package mutating func set(_ user: User) {
        if let place = places[user.name] { users[place] = user } else { add(user) }
    }

    /// false: there is no such user.
    package mutating func remove(_ name: String) -> Bool {
        guard let place = places[name] else { return false }
        users.remove(at: place)
        places = Dictionary(uniqueKeysWithValues: users.enumerated().map { ($1.name, $0) })
        return true
    }

    /// The user whose name and password these are. An unknown name takes as long as a wrong password.
    package func verified(_ name: String, _ password: [UInt8]) -> User? {
        let user = find(name)
        let isRight = (user?.hash ?? decoy).matches(password)
        return isRight ? user : nil
    }

    /// The file's text.
    package var text: String {
        "# name:roles:hash; written by holdfast user\n"
            + users.map { "\($0.name):\($0.roles.names):\($0.hash.encoded)\n" }.joined()
    }

    private mutating func add(_ user: User) {
        // The cost of unknown names is that of the first user; the program writes all with the same.
        if users.isEmpty { decoy = PasswordHash(decoyFor: user.hash) }
        places[user.name] = users.count
        users.append(user)
    }

    private static func user(_ line: Substring, number: Int) throws(BadLine) -> User {
        let parts = line.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 3 else { throw BadLine(number: number, why: "it is not name:roles:hash") }
        guard ObjectName.isValid(String(parts[0])) else { throw BadLine(number: number, why: "its name is not a name") }
        guard let roles = Roles(names: parts[1]) else {
            let known = Roles.named.map(\.name).joined(separator: ", ")
            throw BadLine(number: number, why: "its roles are not some of \(known)")
        }
        guard let hash = PasswordHash(parts[2]) else {
            throw BadLine(number: number, why: "its hash is not one of holdfast user add")
        }
        return User(name: String(parts[0]), roles: roles, hash: hash)
    }
}
