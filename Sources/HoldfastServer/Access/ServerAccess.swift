import Foundation
import HoldfastCore
import HoldfastWire
import Logging
import Synchronization

/// Whom the server lets in: certificates and users as they were read last, and what a connection may do before it has
/// named a user.
///
/// Files are read at the start, and again when they have changed. What cannot be used then is logged, and what was read
/// before stays in use: a certificate that is renewed half is no reason to turn everybody away.
final class ServerAccess: Sendable {
    private struct State {
        var tls: LoadedTLS?
        var users: UserList?
        var tlsStamps: [FileStamp] = []
        var usersStamp: FileStamp?
    }

    private let tlsFiles: TLSFiles?
    private let usersFile: UsersFile?
    private let state: Mutex<State>
    /// What a connection over TCP may do that has named no user.
    let tcpRole: Roles
    /// What a process of another user may do on the unix socket.
    let socketRole: Roles

    /// Throws `ServerError` or `SecretFileError`: also for an address that other machines reach, without protection.
    init(_ configuration: ServerConfiguration) throws {
        tlsFiles = configuration.tls
        usersFile = configuration.usersFile.map(UsersFile.init)
        let isLocal = try configuration.listen.map { try Listeners.resolve($0).isLoopback } ?? true
        if configuration.isInsecure {
            (tcpRole, socketRole) = (.admin, .admin)
        } else {
            guard isLocal || (tlsFiles != nil && usersFile != nil) else {
                throw ServerError.notProtected(configuration.listen?.description ?? "")
            }
            guard usersFile != nil || !configuration.requiresUser else { throw ServerError.noUsers }
            socketRole = configuration.requiresUser ? .nobody : .anonymous
            tcpRole = isLocal ? socketRole : .nobody
        }
        var state = State()
        if let tlsFiles {
            state.tlsStamps = tlsFiles.paths.map { FileStamp($0) }
            state.tls = try tlsFiles.load()
        }
        if let usersFile {
            state.usersStamp = FileStamp(usersFile.path)
            state.users = try usersFile.read()
        }
        self.state = Mutex(state)
    }

    var usesTLS: Bool { tlsFiles != nil }

    /// For the next handshake; nil: connections over TCP are plain.
    var tls: LoadedTLS? { state.withLock { $0.tls } }

    /// nil: there is no users file.
    var users: UserList? { state.withLock { $0.users } }

    /// Reads again what has changed, or everything. Blocking. Returns whether users were read.
    func reload(onlyChanged: Bool, _ logger: Logger) -> Bool {
        if let tlsFiles {
            // Before the files are read: what changes meanwhile is read again next time.
            let stamps = tlsFiles.paths.map { FileStamp($0) }
            if !onlyChanged || stamps != state.withLock({ $0.tlsStamps }) {
                state.withLock { $0.tlsStamps = stamps }
                attempt("certificates", logger) {
                    let loaded = try tlsFiles.load()
                    state.withLock { $0.tls = loaded }
                    return ["expires": "\(loaded.expires.ISO8601Format())"]
                }
            }
        }
        guard let usersFile else { return false }
        let stamp = FileStamp(usersFile.path)
        guard !onlyChanged || stamp != state.withLock({ $0.usersStamp }) else { return false }
        state.withLock { $0.usersStamp = stamp }
        return attempt("users", logger) {
            let users = try usersFile.read()
            state.withLock { $0.users = users }
            return ["users": "\(users.users.count)"]
        }
    }

    @discardableResult
    private func attempt(_ what: String, _ logger: Logger, _ body: () throws -> Logger.Metadata) -> Bool {
        do {
            let metadata = try body()
            logger.notice("\(what) were read again", metadata: metadata)
            return true
        } catch {
            let text = (error as? any DiagnosableError)?.diagnosis.description ?? "\(error)"
            logger.error(
                "\(what) cannot be read again; those read before stay in use",
                metadata: ["error": "\(text.replacing("\n", with: "; "))"])
            return false
        }
    }
}
