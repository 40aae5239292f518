import HoldfastCore
import HoldfastEngine
import NIOCore
import NIOPosix
import Synchronization

/// Runs write commands on a thread of their own: while one batch is being synced, the next one gathers.
///
/// The lock guards what waits and whether the thread is at work.
final class WriterQueue: Sendable {
    private struct State {
        var waiting: [CommandRun] = []
        var isRunning = false
    }

    private let state = Mutex(State())
    private let engine: Engine
    private let services: CommandServices
    private let pace: SyncPace
    private let pool: NIOThreadPool
    private let loop: any EventLoop
    private let fatal: @Sendable (any Error) -> Void
    private let completed: @Sendable ([CommandRun], LSN) -> Void

    /// `completed` is called on the event loop with what is durable to an LSN (zero: nothing was changed or seen).
    /// `pool` must have one thread.
    init(
        engine: Engine, services: CommandServices, pace: SyncPace, pool: NIOThreadPool, loop: any EventLoop,
        fatal: @escaping @Sendable (any Error) -> Void, completed: @escaping @Sendable ([CommandRun], LSN) -> Void
    ) {
        self.engine = engine
        self.services = services
        self.pace = pace
        self.pool = pool
        self.loop = loop
        self.fatal = fatal
        self.completed = completed
    }

    /// `run.completed` is called on the event loop when everything it did and saw is durable.
    func submit(_ run: CommandRun) {
        let starts = state.withLock { state in
            state.waiting.append(run)
            defer { state.isRunning = true }
            return !state.isRunning
        }
        if starts { pool.submit { _ in self.drain() } }
    }

    private func drain() {
        while true {
            let batch = state.withLock { state in
                let batch = state.waiting
                state.waiting.removeAll()
                state.isRunning = !batch.isEmpty
                return batch
            }
            if batch.isEmpty { return }
            guard let end = process(batch) else { return }
            loop.execute { [completed] in completed(batch, end) }
        }
    }

    /// Where the commits of the batch end; zero: there is none. nil: the log has failed, and no reply may be sent.
    private func process(_ batch: [CommandRun]) -> LSN? {
        let end: LSN?
        do {
            end = try together(batch)
        } catch {
            do {
                end = try oneByOne(batch)
            } catch {
                end = nil
                refuse(batch, error)
            }
        }
        guard let end else { return .zero }
        do {
            try pace.measure { try engine.flush(through: end) }
            for run in batch { run.end = end }
            return end
        } catch {
            fatal(error)
            return nil
        }
    }

    /// All commands in one commit.
    private func together(_ batch: [CommandRun]) throws -> LSN {
        let transaction = try engine.beginTransaction()
        let sessions = batch.map(\.session)
        var isOpen = true
        do {
            var changes = 0
            for run in batch {
                try run.run(in: transaction, services)
                changes += run.session.changes
                run.hasWritten = run.session.changes > 0
                run.session.changes = 0
            }
            isOpen = false
            return try transaction.stage(transactions: max(1, changes)).end
        } catch {
            if isOpen { transaction.rollback() }
            for (run, session) in zip(batch, sessions) { run.restart(session) }
            throw error
        }
    }

    /// Each command in a commit of its own, so that an error reaches the one it belongs to. Throws when no transaction
    /// can be begun at all, before anything has been done.
    private func oneByOne(_ batch: [CommandRun]) throws -> LSN {
        var end = LSN.zero
        var hasBegun = false
        func alone(_ run: CommandRun, _ body: (Transaction) throws -> Void) throws {
            let mark = run.out.count
            let session = run.session
            var open: Transaction?
            do {
                let transaction = try engine.beginTransaction()
                open = transaction
                hasBegun = true
                try body(transaction)
                open = nil
                end = max(end, try transaction.stage().end)
                if run.session.changes > 0 { run.hasWritten = true }
                run.session.changes = 0
            } catch {
                guard hasBegun else { throw error }
                open?.rollback()
                run.session = session
                run.out.truncate(to: mark)
                run.out.error(ErrorReplies.text(error))
            }
        }
        for run in batch {
            if run.execCount != nil {
                try alone(run) { try run.run(in: $0, services) }
            } else {
                try run.forEachRequest { arguments in
                    try alone(run) { try run.run(arguments, in: $0, services) }
                }
            }
        }
        return end
    }

    /// No transaction can be begun: reads are served from what is published, writes are told why.
    private func refuse(_ batch: [CommandRun], _ error: any Error) {
        let text = ErrorReplies.refusal(error)
        for run in batch {
            do {
                try engine.read { run.run(reading: $0, services, refusal: text) }
            } catch {
                run.refuse(ErrorReplies.text(error))
            }
        }
    }
}
