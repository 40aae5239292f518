import Dispatch
import Foundation
import HoldfastTestSupport
import Synchronization

/// One host: a network namespace with an address of its own. Files and unix sockets are the machine's.
public struct NetworkHost: Sendable {
    public let name: String
    /// IPv4, on `eth0`.
    public let address: String
    let namespace: String

    /// Starts a program in the host; its pid is the program's own.
    public func start(_ program: String, _ arguments: [String]) throws -> RunningProcess {
        try RunningProcess(HostNetwork.tool("ip"), ["netns", "exec", namespace, program] + arguments)
    }

    /// Runs a program in the host to its end.
    public func run(_ program: String, _ arguments: [String]) throws -> BuiltBinary.Result {
        try BuiltBinary.runTool(HostNetwork.tool("ip"), ["netns", "exec", namespace, program] + arguments)
    }

    /// Runs `body` on a thread whose sockets are the host's. It may outlive the network: a socket keeps its namespace.
    public func detachThread(_ body: @escaping @Sendable () -> Void) throws {
        let place = open("/run/netns/\(namespace)", O_RDONLY | O_CLOEXEC)
        guard place >= 0 else { throw NeverHappened(what: "host \(name) is there", errors: "errno \(errno)") }
        Thread.detachNewThread {
            // In the wrong network a test would prove nothing.
            guard Self.enter(place) else { fatalError("a thread cannot enter host \(name): errno \(errno)") }
            close(place)
            body()
        }
    }

    /// Runs `body` on a thread of the host, and waits for it.
    public func perform<R: Sendable>(_ body: @escaping @Sendable () throws -> R) throws -> R {
        let done = Done<R>()
        try detachThread {
            let result = Result { try body() }
            done.result.withLock { $0 = result }
            done.signal.signal()
        }
        done.signal.wait()
        return try done.result.withLock { $0! }.get()  // Set before the signal.
    }

    private final class Done<R: Sendable>: Sendable {
        let signal = DispatchSemaphore(value: 0)
        let result = Mutex<Result<R, any Error>?>(nil)
    }

    /// `setns`, which Swift's Glibc module hides behind _GNU_SOURCE, of the calling thread alone.
    private static func enter(_ place: Int32) -> Bool {
        typealias SetNamespace = @convention(c) (Int32, Int32) -> Int32
        guard let symbol = dlsym(nil, "setns") else { return false }
        return unsafeBitCast(symbol, to: SetNamespace.self)(place, 0x4000_0000) == 0  // CLONE_NEWNET
    }
}
