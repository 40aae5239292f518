import HoldfastCore
import Synchronization

/// Whether what this node holds may be served. A follower that is to be verified serves nothing of it before its content was
/// compared with its leader's: no reads, no backup, and it is not promoted.
package final class ContentGate: Sendable {
    package enum State: Sendable, Equatable {
        /// Nobody asked for a comparison.
        case open
        /// It is to be made, and why the last attempt did not end.
        case pending(problem: String?)
        case equal(lsn: LSN, records: UInt64, digest: String)
        case differs(String)
    }

    /// The event loop looks at this before each command.
    private let isShut = Atomic(false)
    private let current = Mutex(State.open)

    package init() {}

    package var state: State { current.withLock { $0 } }
    @inline(__always) package var isClosed: Bool { isShut.load(ordering: .acquiring) }

    package func set(_ state: State) {
        let closes =
            switch state {
            case .open, .equal: false
            case .pending, .differs: true
            }
        current.withLock { current in
            current = state
            isShut.store(closes, ordering: .releasing)
        }
    }

    /// Why nothing is served, in the operator's terms.
    package var refusal: Diagnosis {
        switch state {
        case .differs(let why):
            Diagnosis(
                "this follower does not hold what its leader holds", why: why, next: "restore it anew",
                status: .dataError)
        case .open, .equal, .pending:
            Diagnosis(
                "this follower serves nothing yet", why: "its content is to be compared with its leader's first",
                next: "wait, and see verified and warnings in holdfast status", status: .tryAgain)
        }
    }

    /// Redis' code for a server that will answer later.
    var reply: String { "LOADING " + refusal.description.replacing("\n", with: "; ") }

    /// Whether the command shows, or passes on, what the node holds.
    static func guards(_ specification: CommandSpecification, argumentCount: Int) -> Bool {
        switch specification.command {
        case .backup, .promote: true
        // `DIGEST PIN`: who asks takes this node's content for what its own is to be. A digest alone is for people.
        case .digest: argumentCount > 1
        default:
            switch specification.kind {
            case .read, .scan, .write: true
            case .connection, .server, .physical: false
            }
        }
    }
}
