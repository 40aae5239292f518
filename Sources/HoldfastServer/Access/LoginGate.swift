import Logging
import NIOCore
import NIOPosix

/// Where connections stand that have yet to say who they are: how many there may be, and how passwords are checked.
///
/// Passwords are checked on a thread of the gate's own, a few at once for each address, so that neither the event loop nor
/// the logins of others wait for somebody who tries many. Belongs to the event loop.
final class LoginGate {
    enum Outcome {
        case user(UserList.User)
        case wrong
        /// So many failures that it was not even looked at.
        case tooMany
    }

    private let access: ServerAccess
    private let limits: LoginLimits
    private let loop: any EventLoop
    private let pool: NIOThreadPool
    private var failures = LoginFailures()
    private var standing: [String: Int] = [:]
    private var count = 0
    private var checking: [String: Int] = [:]

    /// Passwords of one address that are checked at once.
    private static let checksOfAddress = 4
    private static let retry = TimeAmount.milliseconds(20)
    private static let refusal = TimeAmount.seconds(1)

    init(access: ServerAccess, limits: LoginLimits, loop: any EventLoop, pool: NIOThreadPool) {
        self.access = access
        self.limits = limits
        self.loop = loop
        self.pool = pool
    }

    /// false: too many stand here already, or too many of this address.
    func enter(_ address: String) -> Bool {
        loop.assertInEventLoop()
        guard count < limits.connections, standing[address, default: 0] < limits.connectionsOfAddress else {
            return false
        }
        welcomeBack(address)
        return true
    }

    /// One that was let in before, and stands here again.
    func welcomeBack(_ address: String) {
        count += 1
        standing[address, default: 0] += 1
    }

    func leave(_ address: String) {
        loop.assertInEventLoop()
        count -= 1
        let rest = standing[address, default: 1] - 1
        standing[address] = rest > 0 ? rest : nil
    }

    /// Checks a password; `completed` is called on the loop, after a failure as late as that address has deserved, and not
    /// at all when `isWanted` has become false.
    func check(
        _ name: String, _ password: [UInt8], from address: String, isWanted: @escaping () -> Bool,
        completed: @escaping (Outcome) -> Void
    ) {
        loop.assertInEventLoop()
        let attempt = Attempt(
            name: name, password: password, address: address, isWanted: isWanted, completed: completed)
        let bound = NIOLoopBound((gate: self, attempt: attempt), eventLoop: loop)
        let patience = TimeAmount.nanoseconds(Int64(limits.seconds * 1e9))
        switch failures.wait(address, now: .now(), patience: patience) {
        case nil:
            // Not at once: who is turned away would be back at once.
            loop.scheduleTask(in: Self.refusal) {
                if bound.value.attempt.isWanted() { bound.value.attempt.completed(.tooMany) }
            }
        case .zero?: begin(attempt)
        case let wait?: loop.scheduleTask(in: wait) { bound.value.gate.begin(bound.value.attempt) }
        }
    }

    private struct Attempt {
        var name: String
        var password: [UInt8]
        var address: String
        var isWanted: () -> Bool
        var completed: (Outcome) -> Void
    }

    private func begin(_ attempt: Attempt) {
        guard attempt.isWanted() else { return }
        let bound = NIOLoopBound((gate: self, attempt: attempt), eventLoop: loop)
        guard checking[attempt.address, default: 0] < Self.checksOfAddress else {
            loop.scheduleTask(in: Self.retry) { bound.value.gate.begin(bound.value.attempt) }
            return
        }
        checking[attempt.address, default: 0] += 1
        // As of now: a user that was removed while the attempt waited is not let in.
        let (users, name, password, loop) = (access.users, attempt.name, attempt.password, loop)
        pool.submit { _ in
            let user = users?.verified(name, password)
            loop.execute { bound.value.gate.end(bound.value.attempt, user) }
        }
    }

    private func end(_ attempt: Attempt, _ user: UserList.User?) {
        let rest = checking[attempt.address, default: 1] - 1
        checking[attempt.address] = rest > 0 ? rest : nil
        // As of now: whoever was removed or changed while the password was checked is not let in. Whose connections are
        // closed for that, this one is not among them yet.
        if let user, access.users?.find(user.name) == user {
            if attempt.isWanted() { attempt.completed(.user(user)) }
            return
        }
        let delay = failures.note(attempt.address, now: .now())
        let bound = NIOLoopBound(attempt, eventLoop: loop)
        loop.scheduleTask(in: delay) {
            if bound.value.isWanted() { bound.value.completed(.wrong) }
        }
    }
}
