import Foundation
import HoldfastArchive
import HoldfastCore
import Logging
import ServiceLifecycle

/// Takes the scheduled backups of one cluster, one at a time. Its state is durable before a run begins and after it has
/// ended: a run that the agent did not survive is made up for at the next start.
actor ScheduleService: Service, CustomStringConvertible {
    nonisolated var description: String { "ScheduleService" }
    private let configuration: Configuration
    private let file: ScheduleFile<RealDisk>
    private let clock: AgentClock
    private let log: Logger
    private var plan: JobPlan
    private static let job = "full"

    init(
        _ configuration: Configuration, _ expression: CronExpression, disk: RealDisk, clock: AgentClock, log: Logger
    ) throws {
        self.configuration = configuration
        self.clock = clock
        self.log = log
        file = ScheduleFile(disk)
        let zone = configuration.schedule.timeZone.flatMap { TimeZone(identifier: $0) } ?? .current
        let schedule = CronSchedule(expression, in: zone)
        plan = JobPlan(schedule, state: try file.load()[Self.job], now: clock.now)
        // From here on a run that is missed is known to have been missed.
        Self.save(file, plan.state, log)
    }

    /// Notes the state. The schedule does not end because this cannot be written, and neither does the agent: the archiver
    /// is what makes room again on a disk that is full.
    @discardableResult private static func save(
        _ file: ScheduleFile<RealDisk>, _ state: JobState, _ log: Logger
    ) -> Bool {
        do {
            try file.save([job: state])
            return true
        } catch {
            log.error("the schedule's state cannot be written", metadata: ["error": "\(LogOutput.text(error))"])
            return false
        }
    }

    func run() async throws {
        log.info("schedule", metadata: ["full": "\(plan.schedule.expression) \(plan.schedule.timeZone.identifier)"])
        while true {
            switch plan.step(now: clock.now) {
            case .wait(let until):
                guard await Pause.milliseconds(clock.millisecondsUntil(until)) else { return }
            case .run(let due):
                if Task.isShuttingDownGracefully { return }
                // A run that is not noted first would, after a crash, not be known to have begun.
                guard Self.save(file, plan.state, log) else {
                    guard await Pause.milliseconds(30_000) else { return }
                    continue
                }
                guard await takeBackup(due: due) else { return }
                Self.save(file, plan.state, log)
            }
        }
    }

    /// `false`: the agent is to stop, and the run is still due.
    private func takeBackup(due: Int) async -> Bool {
        let cancellation = CancellationFlag()
        var backup = TakeBackup(configuration, log: log)
        backup.label = "scheduled"
        backup.isPolite = true
        backup.cancellation = cancellation
        let work = backup
        log.info(
            "scheduled backup is due", metadata: ["due": "\(Timestamp.text(microseconds: Int64(due) * 1_000_000))"])
        do {
            _ = try await withGracefulShutdownHandler {
                try await BlockingWork.run("backup") { try work.run() }
            } onGracefulShutdown: {
                cancellation.cancel()
            }
            plan.succeeded(now: clock.now)
            return true
        } catch {
            if cancellation.isCancelled {
                log.notice("the scheduled backup was stopped with the agent; it is due at the next start")
                return false
            }
            let isBusy = (error as? any DiagnosableError)?.diagnosis.status == .tryAgain
            plan.failed(now: clock.now, why: LogOutput.text(error), isBusy: isBusy)
            log.error(
                "the scheduled backup failed",
                metadata: [
                    "error": "\(LogOutput.text(error))", "attempts": "\(plan.state.attempts)",
                    "retry_at":
                        "\(plan.state.retryAt.map { Timestamp.text(microseconds: Int64($0) * 1_000_000) } ?? "")",
                ])
            return true
        }
    }
}
