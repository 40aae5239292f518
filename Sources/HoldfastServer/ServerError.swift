import Glibc
import HoldfastCore

/// Why the server cannot start.
package enum ServerError: DiagnosableError, Equatable {
    /// An address that other machines could reach.
    case notLocal(String)
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
        case .notLocal(let address):
            Diagnosis(
                "cannot listen on an address that is not local", at: printable(address, limit: 300),
                why: "other machines could reach it, and there is neither TLS nor a password yet",
                next: "listen on 127.0.0.1, on [::1] or on a unix socket", status: .configuration)
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
