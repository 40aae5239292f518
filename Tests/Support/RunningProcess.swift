import Foundation
import Synchronization

/// A process that was started and is stopped by its own pid. It is killed when its owner goes.
///
/// Started by `posix_spawn` and not by Foundation's `Process`. That one learns of an end when the last holder of a
/// descriptor closes it, and any other child that is started in the same moment inherits this descriptor: a command would
/// then be taken for running for as long as, say, the PostgreSQL server that all tests share. Here the kernel is asked;
/// and the child has no blocked and no ignored signals, whatever the thread has that starts it.
public final class RunningProcess: Sendable {
    public let pid: pid_t
    private let files: TemporaryDirectory
    /// What `waitpid` told; the pid may be another's as soon as it has.
    private let exit = Mutex<Int32?>(nil)

    /// - Throws: `NeverHappened` when there is no such program or no process to be had.
    public init(
        _ program: String, _ arguments: [String], input: Data = Data(), environment: [String: String] = [:]
    ) throws {
        files = try TemporaryDirectory("holdfast-process")
        try input.write(to: URL(filePath: files.path + "/in"))
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, files.path + "/in", O_RDONLY, 0)
        for (descriptor, name) in [(Int32(1), "out"), (2, "err")] {
            posix_spawn_file_actions_addopen(
                &actions, descriptor, files.path + "/" + name, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        }

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        let variables = ProcessInfo.processInfo.environment.merging(environment) { $1 }.map { "\($0)=\($1)" }
        let words = ([program] + arguments).map { strdup($0) } + [nil]
        let settings = variables.map { strdup($0) } + [nil]
        defer { for text in words + settings { free(text) } }
        var child = pid_t()
        let code = posix_spawn(&child, program, &actions, &attributes, words, settings)
        guard code == 0 else {
            throw NeverHappened(what: "\(program) starts", errors: String(cString: strerror(code)))
        }
        pid = child
    }

    deinit { kill() }

    public var isRunning: Bool { status() == nil }
    public var output: String { text("out") }
    public var errors: String { text("err") }

    private func text(_ name: String) -> String {
        (try? String(decoding: Data(contentsOf: URL(filePath: files.path + "/" + name)), as: UTF8.self)) ?? ""
    }

    /// The exit status, 128 + signal for a process that a signal ended; nil while it runs.
    private func status() -> Int32? {
        exit.withLock { exit in
            if let exit { return exit }
            var status: Int32 = 0
            switch waitpid(pid, &status, WNOHANG) {
            case 0: return nil
            case pid: exit = status & 0x7F == 0 ? (status >> 8) & 0xFF : 128 + status & 0x7F
            default:
                // Nobody else may have waited for it.
                precondition(errno == EINTR, "waitpid: \(String(cString: strerror(errno)))")
                return nil
            }
            return exit
        }
    }

    /// Nothing that was ended already is signalled: its pid may be another's.
    public func signal(_ number: Int32) {
        exit.withLock { exit in
            if exit == nil { _ = Glibc.kill(pid, number) }
        }
    }

    /// The exit status; 128 + signal for a process that a signal ended. One that has not ended after `seconds` is aborted,
    /// so that a test of a command that hangs fails and does not hang.
    @discardableResult public func wait(seconds: Int = 900) -> Int32 {
        let start = ContinuousClock.now
        var pause: UInt32 = 500
        while true {
            if let status = status() { return status }
            let isLate = ContinuousClock.now - start > .seconds(seconds)
            if isLate { signal(ContinuousClock.now - start > .seconds(seconds + 60) ? SIGKILL : SIGABRT) }
            usleep(isLate ? 1_000_000 : pause)
            pause = min(pause * 2, 20_000)
        }
    }

    /// `kill -9`, and waits until it is gone.
    public func kill() {
        signal(SIGKILL)
        wait()
    }

    /// SIGTERM, and its exit status.
    @discardableResult public func stop() -> Int32 {
        signal(SIGTERM)
        return wait()
    }
}
