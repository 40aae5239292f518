import Glibc
import HoldfastCore

/// Why a server cannot be talked to, or what it refused.
package enum WireError: DiagnosableError, Equatable {
    case badAddress(String, String)
    /// The connection could not be made; the system's error number.
    case cannotConnect(WireAddress, Int32)
    case unknownHost(WireAddress, String)
    /// No answer in time. What the server does with the request is not known.
    case timedOut(WireAddress, seconds: Double)
    /// The connection ended; the system's error number, or 0 if the server closed it.
    case disconnected(WireAddress, Int32)
    /// A file that TLS needs cannot be used.
    case badTLS(String, String)
    case unsafeSecret(SecretFileError)
    /// The server's certificate does not show that it is the server that was asked for.
    case notTrusted(WireAddress, String)
    case tlsFailed(WireAddress, String)
    /// A password would have gone over a network in plain text.
    case plainPassword(WireAddress)
    /// What came back is not RESP.
    case notRESP(WireAddress, String)
    /// The server answered with an error: the command, and the error with its code.
    case refused(command: String, error: String)
    /// The server's answer lacks what the command promises.
    case unexpectedReply(command: String, String)

    /// The code of a refusal: `ERR`, `NOPERM`…
    package var code: String? {
        guard case .refused(_, let error) = self else { return nil }
        return String(error.prefix { $0 != " " })
    }

    private func hint(_ status: ExitStatus) -> String? {
        switch code {
        case "NOAUTH", "WRONGPASS": "check client.user and client.password_file"
        default:
            status == .permission
                ? "connect to its unix socket, as the server's user or root, or as a user with the role" : nil
        }
    }

    package var diagnosis: Diagnosis {
        switch self {
        case .badAddress(let text, let why):
            return Diagnosis(
                "\"\(printable(text))\" is not an address", why: why, next: "give HOST:PORT or unix:PATH",
                status: .usage)
        case .cannotConnect(let address, let code):
            let denied = code == EACCES || code == EPERM
            return Diagnosis(
                "cannot connect", at: printable(address.description, limit: 300), why: String(cString: strerror(code)),
                next: denied ? "run as the server's user" : "check that holdfast serve runs and listens there",
                status: denied ? .permission : .unavailable)
        case .unknownHost(let address, let why):
            return Diagnosis(
                "cannot find the host", at: printable(address.description, limit: 300), why: why,
                next: "check the name", status: .unavailable)
        case .timedOut(let address, let seconds):
            return Diagnosis(
                "no answer within \(seconds) s", at: printable(address.description, limit: 300),
                why: "the server is busy, stopped, or cut off; whether it did what was asked is not known",
                next: "look at the server's log", status: .unavailable)
        case .disconnected(let address, let code):
            return Diagnosis(
                "the connection ended", at: printable(address.description, limit: 300),
                why: code == 0 ? "the server closed it" : String(cString: strerror(code)),
                next: "look at the server's log", status: .unavailable)
        case .badTLS(let path, let why):
            return Diagnosis(
                "cannot use TLS", at: printable(path, limit: 300), why: why, next: "check the keys of client",
                status: .configuration)
        case .unsafeSecret(let error): return error.diagnosis
        case .notTrusted(let address, let why):
            return Diagnosis(
                "the server is not trusted", at: printable(address.description, limit: 300), why: why,
                next: "check its certificate, client.ca_file, and that the address is a name in the certificate",
                status: .permission)
        case .tlsFailed(let address, let why):
            return Diagnosis(
                "no TLS connection", at: printable(address.description, limit: 300), why: printable(why, limit: 300),
                next: "check that server and client both use TLS, and the certificates of both", status: .unavailable)
        case .plainPassword(let address):
            return Diagnosis(
                "will not send a password without TLS", at: printable(address.description, limit: 300),
                why: "others could read it on its way", next: "give client.ca_file, or client.tls: true",
                status: .configuration)
        case .notRESP(let address, let why):
            return Diagnosis(
                "the answer is not RESP", at: printable(address.description, limit: 300), why: why,
                next: "check that a holdfast server listens there, and whether it wants TLS: client.ca_file",
                status: .unavailable)
        case .refused(let command, let error):
            let status = ErrorCode.status(of: self.code ?? "")
            return Diagnosis(
                "the server refused \(command)", why: printable(error, limit: 1000),
                next: hint(status), status: status)
        case .unexpectedReply(let command, let what):
            return Diagnosis(
                "cannot read the server's answer to \(command)", why: what,
                next: "use the same version on both sides", status: .unavailable)
        }
    }
}

/// The codes that begin error replies, and the exit status each stands for: a diagnosis of the server becomes a reply
/// and, in the client, a diagnosis of the same status again.
package enum ErrorCode {
    /// `CODE what (where): why (hint: next)` on one line.
    package static func reply(_ diagnosis: Diagnosis) -> String {
        code(of: diagnosis.status) + " "
            + diagnosis.description.replacing("\n", with: "; ")
    }

    package static func code(of status: ExitStatus) -> String {
        switch status {
        case .usage, .done: "ERR"
        case .dataError: "DATAERR"
        case .unavailable: "UNAVAILABLE"
        case .internalError: "INTERNAL"
        case .cannotCreate: "CANTCREATE"
        case .inputOutput: "IOERR"
        case .tryAgain: "BUSY"
        case .permission: "NOPERM"
        case .configuration: "CONFIG"
        }
    }

    package static func status(of code: String) -> ExitStatus {
        switch code {
        case "DATAERR": .dataError
        case "UNAVAILABLE", "READONLY": .unavailable
        case "INTERNAL": .internalError
        case "CANTCREATE": .cannotCreate
        case "IOERR", "MISCONF": .inputOutput
        case "BUSY", "TRYAGAIN", "LOADING": .tryAgain
        case "NOPERM", "NOAUTH", "WRONGPASS": .permission
        case "CONFIG": .configuration
        default: .usage
        }
    }
}
