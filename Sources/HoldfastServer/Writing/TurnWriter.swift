import HoldfastCore
import HoldfastEngine
import NIOCore

/// The writes of one turn of the event loop: one transaction, one commit, one sync at the turn's end, on the loop.
///
/// The first write of a turn begins it; the commands of all connections that are ready in that turn run in it as they are
/// parsed, each answered into its connection's output, which is held. `end` runs behind all of them, makes the commit
/// durable and lets the outputs go. When anything stands in the way (a page is not in memory, no room, a budget), the
/// transaction is rolled back, the outputs are taken back, and every connection's requests of this turn go to the
/// writer thread, which runs them one by one if it must: so only the command at fault gets the error.
///
/// Belongs to the event loop.
final class TurnWriter {
    private let engine: Engine
    private let pace: SyncPace
    private let loop: any EventLoop
    private let fatal: (any Error) -> Void
    /// Sends what is not of this turn's transaction, which need not wait for its sync.
    private let beforeSync: () -> Void
    private let gates: SynchronousGates
    private var transaction: Transaction?
    private var participants: [ClientConnection] = []
    /// How many commands have changed something in this turn.
    var changes = 0

    init(
        engine: Engine, pace: SyncPace, loop: any EventLoop, fatal: @escaping (any Error) -> Void,
        beforeSync: @escaping () -> Void, gates: SynchronousGates
    ) {
        self.engine = engine
        self.pace = pace
        self.loop = loop
        self.fatal = fatal
        self.beforeSync = beforeSync
        self.gates = gates
    }

    /// Lets a connection take part in this turn's transaction; false when the writer thread must do it.
    func join(_ connection: ClientConnection) -> Bool {
        if transaction == nil {
            guard pace.syncsOnLoop else { return false }
            // An error here (writes refused, closed) is met again, and told, by the writer thread.
            guard let begun = try? engine.tryBeginTransaction() else { return false }
            transaction = begun
            changes = 0
            let end = NIOLoopBound(self, eventLoop: loop)
            loop.execute { end.value.end() }
        }
        participants.append(connection)
        return true
    }

    /// Runs a command of a connection that has joined. When it throws the turn must be abandoned.
    func run(_ body: (Transaction) throws -> Void) throws {
        guard let transaction else { preconditionFailure("a turn that has begun") }
        try body(transaction)
    }

    /// A participant is gone: what it asked for is done, and nobody is told.
    func leave(_ connection: ClientConnection) { participants.removeAll { $0 === connection } }

    /// Gives the turn up: what its commands would have done is done by the writer thread.
    func abandon() {
        guard let transaction else { return }
        transaction.rollback()
        handOver()
    }

    private func handOver() {
        transaction = nil
        let connections = participants
        participants.removeAll()
        for connection in connections { connection.turnAbandoned() }
    }

    private func end() {
        guard let transaction else { return }
        let end: LSN
        do {
            end = try transaction.stage(transactions: max(1, changes)).end
        } catch {
            // The transaction is over; why it failed is met again by the writer thread, and told there.
            return handOver()
        }
        self.transaction = nil
        let connections = participants
        participants.removeAll(keepingCapacity: true)
        beforeSync()
        do {
            try pace.measure { try engine.flush(through: end) }
        } catch {
            // Nobody knows whether the commit is on the disk: none of its replies may be sent.
            for connection in connections { connection.turnFailed() }
            return fatal(error)
        }
        gates.each(of: connections, \.session.synchronous) { gate, connections in
            if gate.passes(end) { return answer(connections, end, .acknowledged) }
            // The commit is durable here, and followers must confirm it.
            for connection in connections { connection.turnHeld() }
            gate.hold(through: end) { [self] outcome in answer(connections, end, outcome) }
        }
    }

    private func answer(_ connections: [ClientConnection], _ end: LSN, _ outcome: SynchronousGate.Outcome) {
        // Asked behind the sync and the followers: what these have is on the way to the next leader.
        let outcome = outcome.bounded(by: engine, end)
        for connection in connections {
            switch outcome {
            case .acknowledged: connection.turnEnded(at: end)
            case .unknown(let text): connection.turnUnknown(end, text)
            }
        }
    }
}
