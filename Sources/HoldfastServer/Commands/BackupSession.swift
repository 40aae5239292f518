import HoldfastCore
import HoldfastEngine
import Synchronization

/// The backup of one connection: there is at most one, and it ends with the connection.
///
/// The lock guards `state`. It is not held while the engine works, so that a connection that drops during a long start
/// does not block anybody: the start then finds the session closed, and forgets its backup at once.
final class BackupSession: Sendable {
    enum State {
        case none
        case starting
        case running(BackupStart)
        case stopping
        case closed
    }

    private let engine: Engine
    private let state = Mutex(State.none)
    private let isGone = Atomic(false)

    init(engine: Engine) { self.engine = engine }

    /// Whether somebody still waits at the other end: what runs long for a connection asks now and then.
    var isConnected: Bool { !isGone.load(ordering: .relaxed) }

    /// The connection is gone; `close` follows, on a thread that may wait.
    func disconnect() { isGone.store(true, ordering: .relaxed) }

    var isUsed: Bool {
        state.withLock { if case .none = $0 { false } else { true } }
    }

    func start(label: String, fast: Bool) throws -> BackupStart {
        try state.withLock { state in
            guard case .none = state else { throw BackupSessionError.alreadyRunning }
            state = .starting
        }
        let start: BackupStart
        do {
            start = try engine.beginBackup(label: label, fast: fast)
        } catch {
            state.withLock { if case .starting = $0 { $0 = .none } }
            throw error
        }
        let isWanted = state.withLock { state in
            guard case .starting = state else { return false }
            state = .running(start)
            return true
        }
        guard isWanted else {
            engine.abandonBackup(start.token)
            throw BackupSessionError.connectionClosed
        }
        return start
    }

    /// The running backup.
    func current() throws -> BackupStart {
        try state.withLock { state in
            guard case .running(let start) = state else { throw BackupSessionError.notRunning }
            return start
        }
    }

    /// Ends the backup; when that fails the backup is over all the same.
    func stop() throws -> BackupStop {
        let start = try state.withLock { state in
            guard case .running(let start) = state else { throw BackupSessionError.notRunning }
            state = .stopping
            return start
        }
        defer { state.withLock { if case .stopping = $0 { $0 = .none } } }
        do {
            return try engine.endBackup(start.token)
        } catch {
            engine.abandonBackup(start.token)
            throw error
        }
    }

    /// The connection is gone.
    func close() {
        let old = state.withLock { state in
            defer { state = .closed }
            return state
        }
        if case .running(let start) = old { engine.abandonBackup(start.token) }
    }
}

enum BackupSessionError: DiagnosableError {
    case alreadyRunning
    case notRunning
    case connectionClosed
    case notAFile(String)
    case badRange(String)

    var diagnosis: Diagnosis {
        switch self {
        case .alreadyRunning:
            Diagnosis(
                "this connection has a backup already", next: "end it with BACKUP STOP, or use another connection",
                status: .tryAgain)
        case .notRunning:
            Diagnosis("this connection has no backup", next: "begin one with BACKUP START", status: .usage)
        case .connectionClosed: Diagnosis("the connection was closed while its backup began", status: .unavailable)
        case .notAFile(let path):
            Diagnosis(
                "no such file in this backup", at: printable(path), next: "read what BACKUP FILES lists", status: .usage
            )
        case .badRange(let why): Diagnosis("cannot read this range", why: why, status: .usage)
        }
    }
}
