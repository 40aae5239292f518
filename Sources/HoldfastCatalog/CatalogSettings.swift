import Glibc
import HoldfastCore

/// Where the catalog is and how long to wait for it. The password never leaves this file but to libpq.
package struct CatalogSettings: Sendable, CustomStringConvertible, CustomReflectable {
    /// A libpq connection string: `postgresql://…`, `host=… dbname=…` or `service=…`. May hold a password.
    package var uri: String
    /// A file whose first line is the password; goes before `PGPASSFILE` and the URI.
    package var passwordFile: String?
    /// For the whole of connecting, all hosts and the login included.
    package var connectTimeoutMilliseconds: Int
    /// For each statement, on the server and, with a second more, here.
    package var statementTimeoutMilliseconds: Int

    package init(
        uri: String, passwordFile: String? = nil, connectTimeoutMilliseconds: Int = 10_000,
        statementTimeoutMilliseconds: Int = 30_000
    ) {
        precondition(connectTimeoutMilliseconds > 0 && statementTimeoutMilliseconds > 0)
        self.uri = uri
        self.passwordFile = passwordFile
        self.connectTimeoutMilliseconds = connectTimeoutMilliseconds
        self.statementTimeoutMilliseconds = statementTimeoutMilliseconds
    }

    /// Without the URI, which may hold a password; so that no log and no dump of a value can show one.
    package var description: String { "catalog settings" }
    package var customMirror: Mirror { Mirror(self, children: []) }

    /// The password in `passwordFile`, or `nil` without one. A file that others can read is refused.
    func password() throws(CatalogError) -> String? {
        guard let path = passwordFile else { return nil }
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw .passwordFile(path, why: String(cString: strerror(errno))) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw .passwordFile(path, why: "it is not a regular file")
        }
        // As libpq judges a private key: closed to others; open to a group only when root owns it.
        let open = status.st_mode & (status.st_uid == 0 ? 0o027 : 0o077)
        guard open == 0 else {
            throw .passwordFile(path, why: "its mode \(String(status.st_mode & 0o777, radix: 8)) lets others read it")
        }
        var bytes = [UInt8](repeating: 0, count: 4097)
        let count = read(descriptor, &bytes, bytes.count)
        guard count >= 0 else { throw .passwordFile(path, why: String(cString: strerror(errno))) }
        guard count <= 4096 else { throw .passwordFile(path, why: "it is longer than 4096 bytes") }
        let line = bytes[..<count].prefix { $0 != 0x0A && $0 != 0x0D }
        guard !line.isEmpty, !line.contains(0), let password = String(validating: line, as: UTF8.self) else {
            throw .passwordFile(path, why: "its first line is no password")
        }
        return password
    }
}
