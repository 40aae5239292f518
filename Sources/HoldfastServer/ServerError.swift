import Glibc
import HoldfastCore

/// Why the server cannot start.
package enum ServerError: DiagnosableError, Equatable {
    /// A name, or something else that cannot be bound to.
    case notAnAddress(String)
    /// An address that other machines could reach, without TLS and users.
    case notProtected(String)
    /// A user is required and there is no users file.
    case noUsers
    case badUsersFile(String, line: Int, why: String)
    /// The system's error number.
    case cannotWriteUsers(String, Int32)
    /// A file of `server.tls` that cannot be used.
    case badTLS(String, why: String)
    case nothingToListenOn
    /// The system's error number.
    case cannotListen(String, Int32)
    /// Another server answers on this socket.
    case socketInUse(String)
    /// Something that is no socket has the socket's name.
    case notASocket(String)
    case badSetting(String, String)

    package var diagnosis: Diagnosis {
        switch self {
        case .notAnAddress(let address):
            Diagnosis(
                "cannot listen on what is not an address of this machine", at: printable(address, limit: 300),
                next: "give a numeric address, such as 127.0.0.1, [::1] or 0.0.0.0", status: .configuration)
        case .notProtected(let address):
            Diagnosis(
                "will not listen where other machines could connect without protection",
                at: printable(address, limit: 300), why: "that needs server.tls and server.users_file",
                next: "configure both, or listen on 127.0.0.1, on [::1] or on a unix socket", status: .configuration)
        case .noUsers:
            Diagnosis(
                "server.require_user is set, and there are no users", next: "give server.users_file",
                status: .configuration)
        case .badUsersFile(let path, let line, let why):
            Diagnosis(
                "the users file cannot be used", at: "\(printable(path, limit: 300)):\(line)", why: why,
                next: "correct the line, or write the user anew with holdfast user add", status: .configuration)
        case .cannotWriteUsers(let path, let code):
            Diagnosis(
                "cannot write the users file", at: printable(path, limit: 300), why: String(cString: strerror(code)),
                next: "check the directory and its permissions",
                status: code == EACCES || code == EPERM ? .permission : .cannotCreate)
        case .badTLS(let path, let why):
            Diagnosis(
                "server.tls cannot be used", at: printable(path, limit: 300), why: why,
                next: "check the files of server.tls", status: .configuration)
        case .nothingToListenOn:
            Diagnosis(
                "the server has no address", next: "set server.listen or server.socket", status: .configuration)
        case .cannotListen(let address, let code):
            Diagnosis(
                "cannot listen", at: printable(address, limit: 300), why: String(cString: strerror(code)),
                next: code == EADDRINUSE
                    ? "stop what listens there, or choose another address" : "check the address and its permissions",
                status: code == EADDRINUSE ? .tryAgain : code == EACCES || code == EPERM ? .permission : .cannotCreate)
        case .socketInUse(let path):
            Diagnosis(
                "the socket is in use", at: printable(path, limit: 300), why: "another server answers on it",
                next: "stop that server, or choose another server.socket", status: .tryAgain)
        case .notASocket(let path):
            Diagnosis(
                "cannot make the socket", at: printable(path, limit: 300), why: "something else has this name",
                next: "remove it, or choose another server.socket", status: .cannotCreate)
        case .badSetting(let name, let why):
            Diagnosis("cannot set \(printable(name))", why: why, status: .configuration)
        }
    }
}
