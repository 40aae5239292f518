import HoldfastCore
import HoldfastWire
import Logging
import NIOCore
import NIOTLS

/// Saying who one is: `AUTH`, `HELLO … AUTH`, and the bounds of a connection that has not done so yet.
extension ClientConnection {
    private static let wrongPassword = "WRONGPASS invalid username-password pair or user is disabled."
    private static let tooManyFailures = "ERR too many failed logins from this address: try again later"
    static let badName = "ERR Client names cannot contain spaces, newlines or special characters."
    private static let noPassword =
        "ERR AUTH <password> called without any password configured for the default user. "
        + "Are you sure your configuration is correct?"

    // MARK: At the gate

    /// A connection stands at the gate until its TLS handshake is done and it may do something: with small frames, and
    /// closed when that takes too long. Called on the loop, when the gate has let it in.
    func stand() {
        isAtGate = true
        parser.limits = core.configuration.login.frames
        let this = NIOLoopBound(self, eventLoop: core.loop)
        loginLimit = core.loop.scheduleTask(in: .nanoseconds(Int64(core.configuration.login.seconds * 1e9))) {
            this.value.loginTookTooLong()
        }
    }

    func leaveGate() {
        guard isAtGate else { return }
        isAtGate = false
        loginLimit?.cancel()
        loginLimit = nil
        parser.limits = core.configuration.limits
        core.logins.leave(address)
    }

    func handshakeCompleted() {
        isHandshaking = false
        if role != .nobody { leaveGate() }
    }

    private func loginTookTooLong() {
        if core.mayNoteStranger() {
            core.logger.info("no login in time; connection closed", metadata: ["peer": "\(peer)"])
        }
        closeAtOnce()
    }

    /// `RESET`: nobody has logged in.
    func logOut() {
        user = nil
        role = firstRole
        // It was let in once; that it goes back does not depend on who else stands there.
        if role == .nobody, !isAtGate {
            core.logins.welcomeBack(address)
            stand()
        }
    }

    // MARK: The commands

    func auth(_ arguments: RequestArguments) {
        guard arguments.count <= 3 else { return out.error(Replies.syntax) }
        let name = arguments.count == 3 ? arguments.text(1) : "default"
        if arguments.count == 2, firstRole != .nobody, core.access.users?.find(name) == nil {
            return out.error(Self.noPassword)
        }
        logIn(name, Array(arguments[arguments.count - 1])) { $0.out.ok() }
    }

    func hello(_ arguments: RequestArguments) {
        var version = out.version
        var index = 1
        if arguments.count > 1 {
            guard let number = parseInteger(arguments[1]) else {
                return out.error("ERR Protocol version is not an integer or out of range")
            }
            guard let known = WireVersion(rawValue: Int(clamping: number)) else {
                return out.error("NOPROTO unsupported protocol version")
            }
            version = known
            index = 2
        }
        var newName: String?
        var login: (name: String, password: [UInt8])?
        while index < arguments.count {
            switch arguments.text(index).uppercased() {
            case "AUTH" where index + 2 < arguments.count:
                login = (arguments.text(index + 1), Array(arguments[index + 2]))
                index += 3
            case "SETNAME" where index + 1 < arguments.count:
                guard Self.isName(arguments[index + 1]) else { return out.error(Self.badName) }
                newName = arguments.text(index + 1)
                index += 2
            default: return out.error("ERR Syntax error in HELLO option '\(printable(arguments.text(index)))'")
            }
        }
        func greet(_ connection: ClientConnection) {
            if let newName { connection.name = newName }
            connection.out.version = version
            connection.greet()
        }
        if let login { return logIn(login.name, login.password, then: greet) }
        guard role != .nobody else {
            return out.error(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH "
                    + "<user> <pass> option can be used to authenticate the client and select the RESP protocol "
                    + "version at the same time")
        }
        greet(self)
    }

    private func greet() {
        out.fields([
            ("server", .simple("holdfast")), ("version", .simple(core.identity.version)),
            ("proto", .integer(Int64(out.version.rawValue))), ("id", .integer(Int64(id))),
            ("mode", .simple("standalone")), ("role", .simple("master")), ("modules", .array([])),
        ])
    }

    /// Answers with `done` when the password is right, else with an error.
    private func logIn(_ name: String, _ password: [UInt8], then done: @escaping (ClientConnection) -> Void) {
        // As in Redis: where one may do something without a user, "default" is that, with any password.
        if name == "default", firstRole != .nobody, core.access.users?.find(name) == nil { return done(self) }
        guard core.access.users != nil else { return out.error(Self.wrongPassword) }
        phase = .waiting
        core.logins.check(name, password, from: address, isWanted: { [self] in phase != .closing }) { [self] outcome in
            switch outcome {
            case .user(let found):
                user = found
                role = found.roles
                leaveGate()
                done(self)
            case .wrong:
                core.logger.warning("login failed", metadata: ["peer": "\(peer)", "user": "\(printable(name))"])
                out.error(Self.wrongPassword)
            case .tooMany: out.error(Self.tooManyFailures)
            }
            phase = .ready
            resume()
        }
    }
}
